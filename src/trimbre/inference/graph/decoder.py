"""Decoding graphs: beam search over a CTC model's scores with a lexicon and an n-gram language model.

A recogniser of a closed domain is deployed with a graph, so that pruned models are evaluated with it too.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from trimbre.errors import OptionError, UserError
from trimbre.models.families.registry import head_of
from trimbre.models.heads.ctc import blank_id
from trimbre.models.loading import Recogniser

NETWORK, WORDS, DESCRIPTION = "graph.fst", "words.txt", "graph.json"
BEAM = 12.0
"""Paths that cost more than the best one by this, in nats, are pruned."""
FEWEST, MOST = 1, 3000
"""Fewest and most active paths, whatever the beam. Hundreds of words can follow a word, so that the library's default
minimum of twenty takes twenty times as long."""


@dataclass(frozen=True)
class GraphReport:
    """Description of a graph: its sizes, its sources and the vocabulary that it is for."""

    out: str
    model: str
    order: int
    weight: float
    words: int
    ngrams: int
    """Number of listed n-grams, of all orders."""
    sentences: int | None
    """Number of sentences that they were estimated from; None for an ARPA file."""
    left_out: list[str]
    """Words that the tokenizer cannot spell."""
    normalize: str | None
    """Normalisation of the sentences; None for an ARPA file."""
    space: int | None
    """The label between words, for vocabularies with one."""
    labels: str
    """SHA-256 of the model's labels and its blank."""
    files: dict[str, str]
    """SHA-256 of the other files, by name."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def check(self, *recognisers: Recogniser) -> None:
        """Raise OptionError for a model that takes no graph or has another vocabulary."""
        for recogniser in recognisers:
            refuse_decoder(recogniser, "graph", self.out)
            if self.labels != fingerprint(recogniser):
                advice = f"it was made for the vocabulary of {self.model}, which is another; make one for this model"
                raise OptionError("graph", self.out, advice)


class DecodingGraph:
    """A loaded graph: `graph.text(scores)` is the most likely sentence."""

    def __init__(self, network: Any, words: Sequence[str], described: GraphReport):
        self.network, self.words, self.described = network, words, described

    def to_json(self) -> dict[str, Any]:
        return self.described.to_json()

    def text(self, scores: np.ndarray) -> str:
        """The most likely sentence, or sequence of sentences, for an utterance's scores.

        Where the audio ends within a word and no path ends a sentence, the words before it.

        Args:
            scores: (frames, labels) log probabilities.
        """
        from kaldi_decoder import DecodableCtc, FasterDecoder, FasterDecoderOptions
        from kaldifst import get_linear_symbol_sequence

        if self.described.space is not None:  # the last word may lack it: append a frame that allows every label
            scores = np.concatenate([scores, np.zeros_like(scores, shape=(1, scores.shape[1]))])
        options = FasterDecoderOptions(beam=BEAM, min_active=FEWEST, max_active=MOST)
        search = FasterDecoder(self.network, options)
        search.decode(DecodableCtc(np.ascontiguousarray(scores, dtype=np.float32)))
        found, path = search.get_best_path()
        if not found:
            return ""
        _, _, places, _ = get_linear_symbol_sequence(path)
        return " ".join(self.words[place - 1] for place in places)


def load_graph(folder: str | Path, *recognisers: Recogniser) -> DecodingGraph:
    """Load a graph that `make_graph` wrote, for recognisers with the vocabulary that it was made for.

    Raises:
        UserError: there is no graph or a damaged one, or it was made for another vocabulary.
    """
    require_packages()
    from kaldifst import StdVectorFst

    folder = Path(folder)
    try:
        described = GraphReport(**json.loads((folder / DESCRIPTION).read_text()))
    except (OSError, ValueError, TypeError) as error:
        advice = "it is not a graph that make_graph wrote; make one"
        raise OptionError("graph", str(folder), advice) from error
    report = replace(described, out=str(folder))
    report.check(*recognisers)
    # kaldifst prints to stderr what it cannot read, and reads files that are damaged further on.
    if any(
        not (folder / name).is_file() or sha256(folder / name) != digest for name, digest in described.files.items()
    ):
        raise OptionError("graph", str(folder), "it is damaged; make it anew")
    words = [line.rpartition(" ")[0] for line in (folder / WORDS).read_text().split("\n")[1:-1]]
    return DecodingGraph(StdVectorFst.read(str(folder / NETWORK)), words, report)


def require_packages() -> None:
    """Raise UserError where the libraries that build and search graphs are missing."""
    try:
        import kaldi_decoder  # noqa: F401
        import kaldifst  # noqa: F401
    except ImportError as error:
        raise UserError('a decoding graph needs kaldifst and kaldi-decoder: pip install "trimbre[graph]"') from error


def refuse_decoder(recogniser: Recogniser, option: str, value: str) -> None:
    """Raise OptionError, about the option given, for a model that takes no graph."""
    if not head_of(recogniser.model).takes_graph:
        kind = type(recogniser.model).__name__
        raise OptionError(option, value, f"a {kind} has a decoder of its own and takes no graph; give a CTC model")


def fingerprint(recogniser: Recogniser) -> str:
    """SHA-256 of a model's labels and its blank."""
    tokens = sorted(recogniser.processor.tokenizer.get_vocab().items())  # type: ignore[attr-defined]
    labels = json.dumps([tokens, blank_id(recogniser.model)], ensure_ascii=False)
    return hashlib.sha256(labels.encode()).hexdigest()


def sha256(file: Path) -> str:
    """The SHA-256 of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
