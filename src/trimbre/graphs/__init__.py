"""Decoding graphs: what may be said and how likely it is, searched together with what a CTC model hears.

A recogniser of one subject that is deployed with its words and their n-grams hears better than on its own, and there
the loss by pruning is another. A graph is an ordinary OpenFst file, as the decoders of Kaldi and sherpa-onnx read it.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from trimbre.data.cuts import read_cuts, transcript_of
from trimbre.data.splits import split_of
from trimbre.data.text import labels_of, normalise
from trimbre.decoding import blank_id
from trimbre.errors import UserError
from trimbre.files import directory_written_whole, refuse_existing
from trimbre.graphs.ngrams import NGrams, estimate, read_arpa
from trimbre.models import Recogniser, load

NETWORK, WORDS, DESCRIPTION = "graph.fst", "words.txt", "graph.json"
ORDER = 3
WEIGHT = 0.4
BEAM = 16.0
"""How much costlier than the best path, in nats, one may be before it is dropped."""
ACTIVE = 3000
"""Paths that are followed at once, at most."""
FREE, IMPOSSIBLE = 0.0, -100.0


@dataclass(frozen=True)
class GraphReport:
    """What was written, and from what."""

    out: str
    model: str
    order: int
    weight: float
    words: int
    ngrams: int
    """Listed ones, of all lengths."""
    sentences: int | None
    """That they were estimated from; None where they are from an ARPA file."""
    left_out: list[str]
    """Words that the tokenizer cannot spell."""
    normalize: str
    space: int | None
    """The label that stands between words, for vocabularies with one."""
    labels: str
    """SHA-256 of the model's labels and its blank."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Graph:
    """A graph that was loaded: `graph.text(scores)` is the most likely sentence."""

    def __init__(self, network: Any, words: Sequence[str], described: GraphReport):
        self.network, self.words, self.described = network, words, described

    def to_json(self) -> dict[str, Any]:
        return self.described.to_json()

    def text(self, scores: np.ndarray) -> str:
        """The sentence of the graph that goes best with what was heard; empty if none does.

        Args:
            scores: (frames, labels) logarithms of probabilities.
        """
        from kaldi_decoder import DecodableCtc, FasterDecoder, FasterDecoderOptions
        from kaldifst import get_linear_symbol_sequence

        if self.described.space is not None:  # which the last word may have ended with or not
            last = np.full((1, scores.shape[1]), IMPOSSIBLE, dtype=np.float32)
            last[:, self.described.space] = FREE
            scores = np.concatenate([scores, last])
        search = FasterDecoder(self.network, FasterDecoderOptions(beam=BEAM, max_active=ACTIVE))
        search.decode(DecodableCtc(np.ascontiguousarray(scores, dtype=np.float32)))
        found, path = search.get_best_path()
        if not found:
            return ""
        _, _, places, _ = get_linear_symbol_sequence(path)
        return " ".join(self.words[place - 1] for place in places)


def make_graph(
    *,
    model: str,
    out: Path,
    sentences: Path | None = None,
    splits: Iterable[str] = (),
    transcripts: str | None = None,
    arpa: Path | None = None,
    order: int = ORDER,
    weight: float = WEIGHT,
    normalize: str = "basic",
    allow_outside: bool = False,
) -> GraphReport:
    """Write the decoding graph of a CTC model and n-grams of words.

    Args:
        model: directory or hub name; only its vocabulary counts, so what is pruned from it takes the same graph.
        sentences: a text file, one sentence a line.
        splits: which splits of the sentences to read, as `trimbre corpus voices` divides them; all if there are none.
        transcripts: a corpus whose transcripts are sentences too. What is judged on does not belong here.
        arpa: n-grams that were estimated elsewhere, in place of sentences and transcripts.
        order: words that an n-gram has at most.
        weight: what the n-grams count beside the model.
        normalize: `none`, `basic` or `whisper-en`, as in `trimbre.evaluate`; an ARPA file's words are written as they
            are.

    Raises:
        UserError: bad input, or a model with a decoder, which needs no graph.
    """
    if (arpa is None) == (sentences is None and transcripts is None):
        raise UserError(
            "a graph needs words: give --sentences FILE or --transcripts CUTS or both, or --arpa FILE alone"
        )
    require_packages()
    refuse_existing(out, mark=DESCRIPTION)
    recogniser = load(model)
    _refuse_decoder(recogniser, model)
    said = []
    if sentences is not None:
        said += _lines(sentences, tuple(splits))
    if transcripts is not None:
        cuts = read_cuts(transcripts, allow_outside=allow_outside)
        said += [text for cut in cuts if (text := transcript_of(cut))]
    said = [text for line in said if (text := normalise(line, normalize))]
    if arpa is None and not said:
        raise UserError(f"{sentences or transcripts} holds no sentence to make a graph from")
    ngrams = estimate(said, order) if arpa is None else read_arpa(arpa)
    spellings = _spellings(ngrams, recogniser.processor, normalize)
    left_out = [word for word in ngrams.words if word not in spellings]
    if not spellings:
        raise UserError(f"the vocabulary of {model} spells none of the words, such as {left_out[0]!r}")
    report = GraphReport(
        out=str(out),
        model=model,
        order=ngrams.order,
        weight=weight,
        words=len(spellings),
        ngrams=sum(map(len, ngrams.costs.values())),
        sentences=None if arpa else len(said),
        left_out=left_out,
        normalize=normalize,
        space=_space(recogniser.processor),
        labels=_fingerprint(recogniser),
    )
    from trimbre.graphs.network import network

    made = network(ngrams, spellings, weight=weight, blank=blank_id(recogniser.model), space=report.space)
    with directory_written_whole(out) as folder:
        made.write(str(folder / NETWORK))
        listed = ["<eps>", *sorted(spellings)]
        (folder / WORDS).write_text("".join(f"{word} {place}\n" for place, word in enumerate(listed)))
        (folder / DESCRIPTION).write_text(json.dumps(report.to_json(), indent=2, ensure_ascii=False) + "\n")
    return report


def load_graph(folder: str | Path, recogniser: Recogniser) -> Graph:
    """Load what `make_graph` wrote, for a recogniser with the same vocabulary.

    Raises:
        UserError: there is no graph, or it was made for another vocabulary.
    """
    require_packages()
    from kaldifst import StdVectorFst

    folder = Path(folder)
    _refuse_decoder(recogniser, "the model")
    try:
        described = GraphReport(**json.loads((folder / DESCRIPTION).read_text()))
        words = [line.rsplit(" ", 1)[0] for line in (folder / WORDS).read_text().splitlines()[1:]]
        network = StdVectorFst.read(str(folder / NETWORK)) if (folder / NETWORK).is_file() else None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"--graph {folder} is no folder that trimbre graph wrote: make one with it") from error
    if network is None:
        raise UserError(f"--graph {folder} lacks {NETWORK}: make it anew with trimbre graph")
    if described.labels != _fingerprint(recogniser):
        raise UserError(
            f"--graph {folder} was made for the vocabulary of {described.model}, which is another: "
            "make one for this model with trimbre graph"
        )
    return Graph(network, words, replace(described, out=str(folder)))


def require_packages() -> None:
    """Raise UserError where the libraries that build and search graphs are missing."""
    try:
        import kaldi_decoder  # noqa: F401
        import kaldifst  # noqa: F401
    except ImportError as error:
        raise UserError('a decoding graph needs kaldifst and kaldi-decoder: pip install "trimbre[graph]"') from error


def _refuse_decoder(recogniser: Recogniser, name: str) -> None:
    if recogniser.model.config.is_encoder_decoder:
        raise UserError(f"{name} is a {type(recogniser.model).__name__}, which has a decoder of its own: no --graph")


def _lines(file: Path, splits: tuple[str, ...]) -> list[str]:
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--sentences {file}: {error}") from error
    return [line for line in lines if line and (not splits or split_of(line) in splits)]


def _spellings(ngrams: NGrams, processor: Any, normalize: str) -> dict[str, list[int]]:
    """The labels of every word that the tokenizer can spell."""
    tokenizer = processor.tokenizer
    spelled = {word: labels_of(word, processor=processor, normalize=normalize) for word in ngrams.words}
    return {word: labels for word, labels in spelled.items() if labels and tokenizer.unk_token_id not in labels}


def _space(processor: Any) -> int | None:
    """The label between words, for a vocabulary of letters; None for pieces that tell where a word begins."""
    delimiter = getattr(processor.tokenizer, "word_delimiter_token", None)
    return None if delimiter is None else int(processor.tokenizer.convert_tokens_to_ids(delimiter))


def _fingerprint(recogniser: Recogniser) -> str:
    tokens = sorted(recogniser.processor.tokenizer.get_vocab().items())  # type: ignore[attr-defined]
    told = json.dumps([tokens, blank_id(recogniser.model)], ensure_ascii=False)
    return hashlib.sha256(told.encode()).hexdigest()
