"""Decoding graphs: which sentences there are and how likely they are, searched together with a CTC model's scores.

A recogniser of one subject is deployed with its words and their n-grams, and what pruning costs there is what counts.
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
"""How much costlier than the best path, in nats, one may be before it is dropped."""
FEWEST, MOST = 1, 3000
"""Paths that are followed at once, whatever the beam. Where a word ends hundreds of others can begin, so that twenty at
least, as the library has it, take twenty times as long."""


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
    normalize: str | None
    """How sentences were brought into one form; None for the words of an ARPA file."""
    space: int | None
    """The label that stands between words, for vocabularies with one."""
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
    """A graph that was loaded: `graph.text(scores)` is the most likely sentence."""

    def __init__(self, network: Any, words: Sequence[str], described: GraphReport):
        self.network, self.words, self.described = network, words, described

    def to_json(self) -> dict[str, Any]:
        return self.described.to_json()

    def text(self, scores: np.ndarray) -> str:
        """The sentence, or the sentences after each other, that are most likely for an utterance's scores.

        Where the audio breaks off within a word, and no way to end a sentence is left, the words before it.

        Args:
            scores: (frames, labels) logarithms of probabilities.
        """
        from kaldi_decoder import DecodableCtc, FasterDecoder, FasterDecoderOptions
        from kaldifst import get_linear_symbol_sequence

        if self.described.space is not None:  # which the last word may lack: a frame that can be anything has it
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
    """Load what `make_graph` wrote, for recognisers with the vocabulary that it was made for.

    Raises:
        UserError: there is no graph or a damaged one, or it was made for another vocabulary.
    """
    require_packages()
    from kaldifst import StdVectorFst

    folder = Path(folder)
    try:
        described = GraphReport(**json.loads((folder / DESCRIPTION).read_text()))
    except (OSError, ValueError, TypeError) as error:
        advice = "it is no folder that make_graph wrote; make one with it"
        raise OptionError("graph", str(folder), advice) from error
    report = replace(described, out=str(folder))
    report.check(*recognisers)
    # The library prints on stderr what it cannot read, and reads what is damaged elsewhere.
    if any(not (folder / name).is_file() or sha256(folder / name) != told for name, told in described.files.items()):
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
    told = json.dumps([tokens, blank_id(recogniser.model)], ensure_ascii=False)
    return hashlib.sha256(told.encode()).hexdigest()


def sha256(file: Path) -> str:
    """The SHA-256 of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
