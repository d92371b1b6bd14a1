"""The vocabulary of a pruning run: which tokens stay, and the model before pruning that has their rows alone."""

from dataclasses import dataclass
from typing import Any

from trimbre.config import PruneConfig
from trimbre.data.cuts import CutsLike
from trimbre.data.source import NamedCuts
from trimbre.data.texts import resolve_texts, transcripts_in
from trimbre.errors import OptionError, UserError
from trimbre.models.families.registry import anatomy_of
from trimbre.models.loading import Recogniser
from trimbre.models.rows import named_tokens
from trimbre.models.vocabulary import kept_tokens, smaller_processor
from trimbre.plan import KeptTokens
from trimbre.pruning.surgery import without_rows


@dataclass(frozen=True, eq=False)
class SmallerVocabulary:
    """A dense model without the rows of the tokens that a language never uses."""

    recogniser: Recogniser
    """Its weights are the dense model's, and so are its scores of the tokens that stay."""
    kept: KeptTokens
    texts: str
    """Name of the texts that decided, beside the transcripts of the training data."""

    def to_json(self) -> dict[str, Any]:
        """What stays, as plain data."""
        return {"texts": self.texts, "kept": len(self.kept.kept), "of": self.kept.size}


def smaller_vocabulary(
    recogniser: Recogniser, vocabulary: CutsLike | None, train: NamedCuts, *, config: PruneConfig, allow_outside: bool
) -> SmallerVocabulary | None:
    """Remove the rows that neither `vocabulary` nor the transcripts of `train` need; None where none is given.

    Raises:
        UserError: there are no texts, or rows cannot be removed from such a model or for such a target.
    """
    if vocabulary is None:
        if not config.remove:
            raise OptionError("remove", 0.0, "give a share above 0 and below 1, such as 0.5 for half")
        return None
    name, texts = resolve_texts("vocabulary", vocabulary, allow_outside=allow_outside)
    model, processor = recogniser
    rows = anatomy_of(model).rows
    if rows is None:
        advice = f"rows can be removed from a Whisper, and this is a {type(model).__name__}: leave it out"
        raise OptionError("vocabulary", name, advice)
    if config.target.budget == "latency":
        advice = "time is measured on a model as it is: remove rows first (remove=0), then prune what comes out"
        raise OptionError("vocabulary", name, advice)
    every = [*texts, *transcripts_in(train.cuts)]
    try:
        kept = kept_tokens(processor.tokenizer, rows.tokens, every, named_tokens(model))  # type: ignore[attr-defined]
        smaller = smaller_processor(processor, kept)
    except UserError as error:  # of the tokenizer
        raise OptionError("vocabulary", name, f"{error}: leave it out") from error
    return SmallerVocabulary(Recogniser(without_rows(model, kept), smaller), kept, name)
