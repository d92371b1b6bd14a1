"""Evaluation of a recogniser on several sets, with paired comparisons against references such as the dense model."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trimbre.costs.size import Size, size
from trimbre.data.check import refuse_unjudgeable
from trimbre.data.cuts import CutsLike
from trimbre.data.language import Languages
from trimbre.data.source import NamedCuts, resolve_cuts
from trimbre.data.text import spelling_of
from trimbre.errors import OptionError
from trimbre.evaluation.bootstrap import PairedDifference, paired_difference
from trimbre.evaluation.score import Evaluation, score, seconds_done
from trimbre.models.heads.base import TextDecoder
from trimbre.models.loading import Recogniser

FAILS = 0.30
"""WER above which a reference does not recognise a set, so that a difference from it says little."""


@dataclass(frozen=True, eq=False)
class ReferenceResult:
    """What a candidate is compared with on one set: another recogniser's evaluation and the paired difference."""

    evaluation: Evaluation
    comparison: PairedDifference

    @property
    def fails(self) -> bool:
        """Whether the reference's own error rate is above 30 %."""
        return self.evaluation.rate > FAILS

    def sentence(self, name: str) -> str:
        """The verdict in words, which says where the reference itself fails."""
        said = self.comparison.sentence
        own = f"{100 * self.evaluation.rate:.1f} % {self.evaluation.decides.upper()}, above {100 * FAILS:.0f} %"
        return f"{said}; {name} itself fails here, {own}" if self.fails else said

    def to_json(self, name: str) -> dict[str, Any]:
        comparison = self.comparison.to_json() | {"sentence": self.sentence(name), "reference_fails": self.fails}
        return self.evaluation.to_json() | {"comparison": comparison}


@dataclass(frozen=True, eq=False)
class SetResult:
    """One set of utterances: the candidate's evaluation, and that of every reference by name."""

    evaluation: Evaluation
    references: Mapping[str, ReferenceResult] = field(default_factory=dict)

    def utterances(self) -> list[dict[str, Any]]:
        """`id`, `reference` and `hypothesis` as they were compared, `errors` and `words` of every utterance.

        Where a language is written without spaces, errors and words are characters.
        Every reference recogniser adds its own, such as `baseline_hypothesis` and `baseline_errors`.
        """
        ours = self.evaluation
        columns: dict[str, Sequence[Any]] = {
            "id": ours.ids,
            "reference": ours.references,
            "hypothesis": ours.hypotheses,
            "errors": ours.units.per_sentence.tolist(),
            "words": ours.units.reference.tolist(),
        }
        for name, other in self.references.items():
            columns[f"{name}_hypothesis"] = other.evaluation.hypotheses
            columns[f"{name}_errors"] = other.evaluation.units.per_sentence.tolist()
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def to_json(self, *, utterances: bool = False) -> dict[str, Any]:
        """The candidate's figures and, where there are any, `references`: name -> the same with a `comparison`.

        Args:
            utterances: add what `utterances` gives, as `per_utterance`.
        """
        found = self.evaluation.to_json()
        if self.references:
            found["references"] = {name: one.to_json(name) for name, one in self.references.items()}
        return found | ({"per_utterance": self.utterances()} if utterances else {})


@dataclass(frozen=True, eq=False)
class EvaluationReport:
    """Error rates of a recogniser on a main set and on watched sets, with sizes and comparisons."""

    sets: Mapping[str, SetResult]
    """The main set first (`dev` in a pruning run), then the watched ones by name."""
    size: Size
    reference_sizes: Mapping[str, Size]
    """Sizes of the references, by name."""
    normalize: str
    graph: Mapping[str, Any] | None = None
    """Description of the graph that was decoded by."""

    def to_json(self, *, utterances: bool = False) -> dict[str, Any]:
        """All figures as plain data; with `utterances`, the texts of every utterance too."""
        return {
            "normalize": self.normalize,
            "graph": self.graph,
            "size": self.size.to_json(),
            "reference_sizes": {name: one.to_json() for name, one in self.reference_sizes.items()},
            "sets": {name: result.to_json(utterances=utterances) for name, result in self.sets.items()},
        }


def evaluate_sets(
    *,
    recogniser: Recogniser,
    data: CutsLike | NamedCuts,
    name: str = "dev",
    watch: Mapping[str, CutsLike | NamedCuts] | None = None,
    references: Mapping[str, Recogniser] | None = None,
    graph: TextDecoder | None = None,
    allow_outside: bool = False,
    normalize: str = "basic",
    language: str | None = None,
    task: str | None = None,
    margin_percent: float = 10.0,
) -> EvaluationReport:
    """Evaluate on a main set and on every watched set, beside the references; progress shows on stderr.

    Every recogniser runs on the device that it is on.

    Args:
        data: the main set, which the report calls `name`.
        watch: further sets by name, such as speech unlike the training audio.
        references: recognisers to compare with by name, such as `dense` and `control`.
        graph: all decode by this graph instead of greedily.
        language: of utterances that do not state one; by default that of the first of these recognisers which has one.
        task: `transcribe` or `translate`, for models that are told it; the preset one by default.
        margin_percent: largest relative increase of a reference's WER, in percent, that counts as "not worse".

    Raises:
        UserError: as `score`, for any of the sets before the first is recognised; or a watched set has the name of the
            main one.
    """
    watch, references = watch or {}, references or {}
    refuse_name(watch, name)
    recognisers = [recogniser, *references.values()]
    languages = Languages.of(language, *recognisers, task=task)
    how: dict[str, Any] = {"graph": graph, "normalize": normalize, "languages": languages, "task": task}
    spellings = (spelling_of(one.processor) for one in recognisers)
    how["spelling"] = next(filter(None, spellings), None)  # one for both sides of a comparison
    sets = {name: _named(name, data, allow_outside)}
    sets |= {each: _named("watch", where, allow_outside) for each, where in watch.items()}
    for each, (place, cuts) in sets.items():
        set_as: dict[str, Any] = {"option": name} if each == name else {"option": "watch", "of": each}
        check: dict[str, Any] = {"processor": recogniser.processor, "normalize": normalize, "languages": languages}
        refuse_unjudgeable(cuts, name=place, **set_as, **check)
    found = {}
    for each, where in sets.items():
        ours, *theirs = _score_all(recognisers, each, where, **how)
        found[each] = SetResult(
            ours,
            {
                reference: ReferenceResult(other, compare(ours, other, margin_percent=margin_percent))
                for reference, other in zip(references, theirs, strict=True)
            },
        )
    return EvaluationReport(
        sets=found,
        size=size(*recogniser),
        reference_sizes={reference: size(*one) for reference, one in references.items()},
        normalize=normalize,
        graph=None if graph is None else graph.to_json(),
    )


def _named(option: str, data: CutsLike | NamedCuts, allow_outside: bool) -> NamedCuts:
    return data if isinstance(data, NamedCuts) else resolve_cuts(option, data, allow_outside=allow_outside)


def _score_all(recognisers: Sequence[Recogniser], name: str, data: NamedCuts, **how: Any) -> list[Evaluation]:
    """Evaluations of one set, recogniser by recogniser, with progress in seconds of audio.

    What the first could not read, the others are not given.
    """
    cuts = list(data.cuts)
    found: list[Evaluation] = []
    with seconds_done(f"evaluating {name}", len(recognisers) * sum(cut.duration for cut in cuts)) as on_batch:
        for one in recognisers:
            found.append(
                score(model=one.model, processor=one.processor, data=cuts, name=data.name, on_batch=on_batch, **how)
            )
            cuts = [cut for cut in cuts if cut.id not in found[0].unreadable]
    return found


def compare(candidate: Evaluation, baseline: Evaluation, *, margin_percent: float = 10.0) -> PairedDifference:
    """Compare the errors of two recognisers on the same sentences, in the units that decide.

    Raises:
        ValueError: the two were evaluated on different sentences.
    """
    if (candidate.ids, candidate.references) != (baseline.ids, baseline.references):
        raise ValueError("the two recognisers were evaluated on different sentences")
    return paired_difference(candidate.units, baseline.units, margin_percent=margin_percent)


def refuse_name(watch: Iterable[str], name: str) -> None:
    """Raise OptionError where a watched set has the name of the main one."""
    if name in watch:
        raise OptionError("watch", name, "that is the name of the main set: call this one otherwise")
