"""Comparison of pruning runs: share removed, error rates, and paired differences between them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimbre.config import differing
from trimbre.errors import UserError, reason
from trimbre.evaluation.bootstrap import PairedDifference, bootstrap_difference, bootstrap_interval
from trimbre.evaluation.resampling import Speakers, resampled, speakers_in
from trimbre.evaluation.units import Rate
from trimbre.models.hub import fetch, hub_model

MARGIN_PERCENT = 5.0
"""Largest relative increase of the error rate that is "not worse" in a comparison of runs."""
CONTROL = "control"
"""Name of the runs that train the dense model for as many steps and cut nothing."""
DENSE = "dense"
"""Name of the model before pruning, where a run's report has it as a reference."""
COUNTED = ("errors", "words", "speakers")
"""What a report has for each sentence of a set; speakers where they are known."""


@dataclass(frozen=True)
class Run:
    """One pruning run, read from its report."""

    place: str
    """Path as the user gave it."""
    name: str
    """Method or the user's name for it; the same for runs that differ in their seed alone."""
    report: Mapping[str, Any]

    @classmethod
    def read(cls, place: str | Path) -> "Run":
        """Read a pruned model's directory, one of the Hub or a report; NAME=PATH gives the run a name.

        Raises:
            UserError: there is no report, or one without an evaluation.
        """
        place = str(place)
        given, equals, rest = place.partition("=")
        is_named = bool(equals) and not Path(place).exists()
        stated = rest if is_named else place
        hub = None if Path(stated).exists() else hub_model(stated)
        where = Path(stated) if hub is None else fetch(hub, weights=False)
        path = where / "prune.json" if where.is_dir() else where
        try:
            report = json.loads(path.read_text())
        except OSError as error:
            raise UserError(f"no run at {place}: name a directory that pruning wrote, or its prune.json") from error
        except ValueError as error:
            raise UserError(f"{path} is no report of a run: name another") from error
        return cls.of(report, place=place, name=given if is_named else None)

    @classmethod
    def of(cls, report: Any, *, place: str, name: str | None = None) -> "Run":
        """Make a run of a report.

        Args:
            place: path or name of the report in messages.
            name: None takes the report's own name, or that of the method.

        Raises:
            UserError: the report has no evaluation.
        """
        if not isinstance(report, Mapping):
            raise UserError(f"{place} is no report of a run: name another")
        try:
            name = name or report.get("name") or report["options"]["method"]
            complete = all("sentences" in found for found in report["evaluation"]["sets"].values())
        except (LookupError, TypeError, AttributeError) as error:
            raise UserError(f"{place} holds no evaluation: give dev to prune, or name another run") from error
        if not complete:
            raise UserError(f"{place} lacks the errors of each sentence: evaluate the model again")
        run = cls(place, name, report)
        try:
            _read_all(run)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{place} is no report of a whole run, {reason(error)}: name another") from error
        return run

    @property
    def target(self) -> Mapping[str, Any]:
        """The target, as the options state it."""
        options = self.report["options"]
        return {name: options[name] for name in ("remove", "rtf", "budget", "of")}

    @property
    def share(self) -> float:
        """Share that was to be removed, of the time where a real-time factor was the target; 0 for a control."""
        if self.name == CONTROL:
            return 0.0
        if self.target.get("rtf") is not None:
            timed = self.report["latency"]
            return float(1 - timed["asked"] / timed["unpruned"])
        return float(self.target["remove"])

    @property
    def seed(self) -> int:
        return int(self.report["options"]["seed"])

    @property
    def sets(self) -> Mapping[str, Any]:
        """Evaluated sets by name, the main one first."""
        found: Mapping[str, Any] = self.report["evaluation"]["sets"]
        return found

    @property
    def steps(self) -> int:
        """Optimizer steps of all stages that made this model."""
        return sum(stage["steps"] for stage in self.stages.values())

    @property
    def minutes(self) -> float:
        """Minutes of these stages."""
        return sum(stage["minutes"] for stage in self.stages.values())

    @property
    def stages(self) -> dict[str, Any]:
        """Reports of the stages that made this model; the control's is of another model."""
        return {name: stage for name, stage in self.report["stages"].items() if name != CONTROL or self.name == CONTROL}


@dataclass(frozen=True)
class Entry:
    """Runs of one name and one target, which differ in their seed alone."""

    name: str
    runs: tuple[Run, ...]

    @property
    def share(self) -> float:
        """Share that was to be removed, the mean over the runs: each measures the dense model's time itself."""
        return float(np.mean([run.share for run in self.runs]))

    def errors(self, name: str) -> NDArray[np.float64]:
        """(sentences,) word errors on a set, the mean over the runs."""
        return np.mean([_numbers(run.sets[name]["sentences"]["errors"]) for run in self.runs], axis=0)

    def words(self, name: str) -> NDArray[np.float64]:
        """(sentences,) words of the references."""
        return _numbers(self.runs[0].sets[name]["sentences"]["words"])

    def rate(self, name: str) -> float:
        """Word error rate on a set, a fraction, the mean over the runs."""
        return float(self.errors(name).sum() / self.words(name).sum())

    def interval(self, name: str, speakers: Speakers = ()) -> tuple[float, float]:
        """Its two-sided 95 % interval, over sentences or over these speakers."""
        return bootstrap_interval(self.errors(name), self.words(name), speakers=speakers)

    def range(self, name: str) -> tuple[float, float]:
        """The lowest and the highest rate among the runs."""
        words = self.words(name).sum()
        rates = [float(_numbers(run.sets[name]["sentences"]["errors"]).sum() / words) for run in self.runs]
        return min(rates), max(rates)

    def removed(self, budget: str) -> float:
        """Share of the blocks' parameters or multiply-accumulates removed, the mean over the runs."""
        return float(np.mean([run.report["removed"][budget]["blocks"] for run in self.runs]))

    @property
    def faster(self) -> float | None:
        """Times faster than the dense model, the median over the runs; None where it was not measured."""
        found = [run.report["times_faster"]["median"] for run in self.runs if "times_faster" in run.report]
        return float(np.median(found)) if found else None


def _numbers(text: str) -> NDArray[np.float64]:
    return np.array(text.split(), dtype=np.float64)


@dataclass(frozen=True)
class Comparison:
    """Entries that were evaluated on the same sentences."""

    entries: tuple[Entry, ...]
    """By share, then by error rate on the main set."""

    @classmethod
    def of(cls, runs: Sequence[Run]) -> "Comparison":
        """Gather runs into entries.

        Raises:
            UserError: there is none, two were evaluated on different sentences, or two of one name and target differ in
                more than their seed.
        """
        if not runs:
            raise UserError("no run given: name one or more")
        _refuse_other_sentences(runs)
        gathered: dict[tuple[str, str], list[Run]] = {}
        for run in runs:
            target = "" if run.name == CONTROL else json.dumps(run.target, sort_keys=True)
            gathered.setdefault((run.name, target), []).append(run)
        for alike in gathered.values():
            _refuse_unlike(alike)
        entries = [Entry(name, tuple(sorted(alike, key=lambda run: run.seed))) for (name, _), alike in gathered.items()]
        main = next(iter(runs[0].sets))
        return cls(tuple(sorted(entries, key=lambda entry: (entry.share, entry.rate(main)))))

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of the sets, the main one first."""
        return tuple(self.entries[0].runs[0].sets)

    def decides(self, name: str) -> Rate:
        """The rate that decides on a set; words alone did in older reports."""
        found: Rate = self.entries[0].runs[0].sets[name].get("decides", "wer")
        return found

    def speakers(self, name: str) -> list[str]:
        """(sentences,) numbers of the speakers of a set; empty where no report states them all, as older ones."""
        stated = (run.sets[name]["sentences"].get("speakers", "") for entry in self.entries for run in entry.runs)
        return next(filter(None, stated), "").split()

    @cached_property
    def control(self) -> Entry | None:
        """The dense model trained for as many steps, if it is among the entries."""
        return next((entry for entry in self.entries if entry.name == CONTROL), None)

    def best_other(self, entry: Entry) -> Entry | None:
        """The other entry of the same share with the lowest error rate on the main set."""
        others = [one for one in self.entries if one.share == entry.share and one is not entry]
        return min(others, key=lambda one: one.rate(self.sets[0]), default=None)

    def references(self, entry: Entry) -> dict[str, NDArray[np.float64]]:
        """(sentences,) errors on the main set of the dense model and of its control, of each that there is.

        The control is an entry of its own or, without one, a reference of every run, as the dense model is.
        """
        main, found = self.sets[0], {}
        for name in (DENSE, CONTROL):
            own = [run.sets[main].get("references", {}).get(name) for run in entry.runs]
            if None not in own:
                found[name] = np.mean([_numbers(one["sentences"]["errors"]) for one in own], axis=0)
        if self.control is not None and entry is not self.control:
            found[CONTROL] = self.control.errors(main)
        return found

    def difference(self, entry: Entry, baseline: NDArray[np.float64]) -> PairedDifference:
        """The difference of `entry` from a baseline's errors of each sentence of the main set, means over seeds."""
        name = self.sets[0]
        how: dict[str, Any] = {"speakers": self.speakers(name), "margin_percent": MARGIN_PERCENT}
        return bootstrap_difference(entry.errors(name), baseline, entry.words(name), **how)

    def to_json(self) -> dict[str, Any]:
        """Plain data: a row for each entry."""
        main = self.entries[0].runs[0].sets[self.sets[0]]
        rows = [self._row(entry) for entry in self.entries]
        return {"sets": list(self.sets), "normalize": main["normalize"], "rows": rows}

    def _row(self, entry: Entry) -> dict[str, Any]:
        main = self.sets[0]
        against: dict[str, Any] = {}
        for name, errors in self.references(entry).items():
            against[name] = self.difference(entry, errors).to_json()
        if entry is not self.control and (other := self.best_other(entry)):
            against["best_other"] = {"name": other.name} | self.difference(entry, other.errors(main)).to_json()
        return {
            "name": entry.name,
            "share": entry.share,
            "seeds": [run.seed for run in entry.runs],
            "runs": [run.place for run in entry.runs],
            "removed": {budget: entry.removed(budget) for budget in ("params", "macs")},
            "times_faster": entry.faster,
            "wer": {
                name: {
                    "percent": 100 * entry.rate(name),
                    "interval": [100 * end for end in entry.interval(name, self.speakers(name))],
                    "seeds": [100 * end for end in entry.range(name)],
                    "words": int(entry.words(name).sum()),
                    "rate": self.decides(name),
                    "resampled": resampled(self.speakers(name)),
                    "speakers": speakers_in(self.speakers(name)),
                }
                for name in self.sets
            },
            "against": against,
            "steps": entry.runs[0].steps,
            "minutes": float(np.mean([run.minutes for run in entry.runs])),
        }


def _read_all(run: Run) -> None:
    """Read every figure of a report that a comparison needs; raises as a report that lacks one does."""
    entry = Entry(run.name, (run,))
    figures = [run.share, run.seed, run.minutes, run.steps, entry.faster, *map(entry.removed, ("params", "macs"))]
    for name, found in run.sets.items():
        figures += [found["sentences"]["sha256"], found["normalize"], entry.rate(name)]
        every = (found, *found.get("references", {}).values())
        stated = [one["sentences"][each] for one in every for each in COUNTED if each in one["sentences"]]
        if len({len(each.split()) for each in stated}) > 1:
            raise ValueError(f"its figures of {name} are not of as many sentences each")


def _refuse_other_sentences(runs: Sequence[Run]) -> None:
    """Raise UserError where two runs were evaluated on different sets or sentences."""
    first = runs[0]
    for run in runs[1:]:
        if list(run.sets) != list(first.sets):
            raise UserError(
                f"{run.place} was evaluated on {', '.join(run.sets)}, {first.place} on {', '.join(first.sets)}: "
                "compare runs with the same dev and watched sets"
            )
        for name, found in run.sets.items():
            if found["sentences"]["sha256"] != first.sets[name]["sentences"]["sha256"]:
                raise UserError(f"{run.place} and {first.place} were evaluated on different sentences of {name}")
            how, other = found["normalize"], first.sets[name]["normalize"]
            if how != other:
                said = f"{run.place} was evaluated with normalize={how}, {first.place} with {other}"
                raise UserError(f"{said}: compare runs with the same")
            if found["sentences"]["words"] != first.sets[name]["sentences"]["words"]:
                raise UserError(
                    f"{run.place} and {first.place} were evaluated on {name} in different units, one by words and the "
                    "other by characters: evaluate both again, with one language"
                )
    for name in first.sets:
        places = {spoken: run.place for run in runs if (spoken := run.sets[name]["sentences"].get("speakers"))}
        if len(places) > 1:
            one, other = list(places.values())[:2]
            raise UserError(f"{one} and {other} were evaluated with different speakers of {name}: evaluate both again")


def _refuse_unlike(runs: Sequence[Run]) -> None:
    """Raise UserError where runs of one name and target share a seed, or differ in anything else."""
    first = runs[0]
    ignored = dict.fromkeys(("seed", "remove", "rtf", "budget", "of"))
    for position, run in enumerate(runs):
        if any(run.seed == other.seed for other in runs[:position]):
            raise UserError(f"{run.place} and another run share name, target and seed: call it NAME={run.place}")
        for option, _, _ in differing(*(one.report["options"] | ignored for one in (run, first))):
            raise UserError(
                f"{run.place} and {first.place} share name and target, but not {option}: call it NAME={run.place}"
            )
