"""Pruning runs: from checked arguments to a pruned model with its evaluation and report."""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from transformers import PreTrainedModel, ProcessorMixin

from trimbre.benchmark.timing import times_faster
from trimbre.config import AugmentConfig, PruneConfig
from trimbre.costs.latency import LatencyTable
from trimbre.data.batches import Batch, training_batches
from trimbre.data.check import TrainingData, check_training_data, refuse_unjudgeable, refuse_unreadable
from trimbre.data.cuts import CutsLike
from trimbre.data.language import Languages
from trimbre.data.source import NamedCuts, resolve_cuts
from trimbre.data.unreadable import UnreadableClips
from trimbre.errors import OptionError
from trimbre.evaluation.evaluate import EvaluationReport, evaluate_sets, refuse_name
from trimbre.evaluation.score import validation_wer
from trimbre.inference.long_form import check_languages
from trimbre.models.families.registry import head_of
from trimbre.models.inputs import window_of
from trimbre.models.loading import Recogniser, load_model
from trimbre.models.source import ModelLike, ModelSource, resolve_model
from trimbre.plan import Plan
from trimbre.pruning.pipeline import Pruned, preview, prune_model, resolve_target
from trimbre.pruning.targets import missed_time
from trimbre.runs.latency import latency_table, measured_latency
from trimbre.runs.results import PruneResult
from trimbre.runs.settings import begin_run, command_of, out_folder, step_size, unreadable_clips
from trimbre.runs.vocabulary import SmallerVocabulary, smaller_vocabulary
from trimbre.training.distributed import gather_unreadable, main_process_threads, on_main_process
from trimbre.training.loop import accelerator_for
from trimbre.training.recovery import Training


@dataclass(frozen=True, eq=False)
class PruneJob:
    """A pruning run whose arguments have been checked: it can start."""

    source: ModelSource
    train: NamedCuts
    dev: NamedCuts | None
    watch: Mapping[str, NamedCuts]
    asked: PruneConfig
    """As it was given."""
    config: PruneConfig
    """The same with a share for a target, where a real-time factor was asked for."""
    ahead: Mapping[str, Any]
    """What will be removed."""
    checked: TrainingData
    table: LatencyTable | None
    accelerator: Accelerator
    languages: Languages
    smaller: SmallerVocabulary | None = None
    """The model before pruning, where rows of its vocabulary leave."""
    owned: bool = False
    """The run loaded the model itself, so that it need not be left as it was."""

    @classmethod
    def prepare(
        cls,
        model: ModelLike,
        processor: ProcessorMixin | None,
        *,
        train: CutsLike,
        dev: CutsLike | None,
        watch: Mapping[str, CutsLike] | None,
        vocabulary: CutsLike | None = None,
        config: PruneConfig,
        allow_outside: bool,
        device: str,
        resumed: Path | None = None,
    ) -> "PruneJob":
        """Load and check everything; nothing is written but, to the cache, a latency table that has to be measured.

        Args:
            resumed: `out` of the run to resume.

        Raises:
            UserError: bad input, or a target that cannot be reached.
        """
        accelerator = accelerator_for(config.precision, device)
        if config.low_memory and accelerator.mixed_precision != "bf16":
            raise OptionError("low_memory", True, "it computes in bfloat16: set precision to bf16", owner="PruneConfig")
        source = resolve_model(model, processor, device=accelerator.device)
        recogniser = source.recogniser
        resolve = partial(resolve_cuts, allow_outside=allow_outside)
        cuts = resolve("train", train, repeated=True)
        judged_on = None if dev is None else resolve("dev", dev)
        watched = {name: resolve("watch", value) for name, value in (watch or {}).items()}
        languages = Languages.of(config.batches.language, recogniser)
        _refuse_untold(recogniser, (cuts, judged_on, *watched.values()), languages)
        _refuse_unjudgeable(judged_on, watched, recogniser.processor, config, languages)
        checked = _checked(cuts, recogniser.processor, config, languages)
        for each in filter(None, (cuts, judged_on, *watched.values())):
            refuse_unreadable(each.cuts, name=each.name)
        smaller = smaller_vocabulary(recogniser, vocabulary, cuts, config=config, allow_outside=allow_outside)
        table = None
        if config.target.budget == "latency":
            table = on_main_process(accelerator, partial(latency_table, recogniser, source.name, config, resumed))
        resolved = resolve_target(recogniser, config, table)
        owned = isinstance(model, str | Path)
        pair = (smaller.recogniser, recogniser) if smaller else (recogniser, None)
        rows = {"rows": smaller.to_json()} if smaller else {}
        ahead = rows | preview(pair[0], resolved, table, before=pair[1])  # refuses what cannot be reached
        found = cuts, judged_on, watched, config, resolved, ahead, checked, table, accelerator, languages, smaller
        return cls(source, *found, owned=owned)

    @property
    def recogniser(self) -> Recogniser:
        """What is pruned, the teacher: the dense model, without the rows that leave."""
        return self.smaller.recogniser if self.smaller else self.source.recogniser

    @property
    def before(self) -> Recogniser | None:
        """The dense model with all rows, where some leave."""
        return self.source.recogniser if self.smaller else None

    @property
    def step_size(self) -> dict[str, Any]:
        """Processes, and seconds of audio in a step."""
        return step_size(self.accelerator, self.config.batches, window_of(self.recogniser.processor))

    @property
    def settings(self) -> dict[str, Any]:
        """What a resumed run has to agree in."""
        table = {} if self.table is None else {"table": self.table.to_json()}
        given = {"model": self.source.name, "train": self.train.name, "options": asdict(self.asked)}
        rows = {"rows": self.smaller.kept.to_json()} if self.smaller else {}
        return given | table | rows | {"processes": self.accelerator.num_processes}

    def preview(self) -> dict[str, Any]:
        """What the run would remove, from which data it would learn, and how large its steps are, as plain data."""
        return {"model": self.source.name, "data": self.checked.to_json(), **self.step_size, **self.ahead}


def prune_run(job: PruneJob, *, out: str | Path | None, margin_percent: float, resume: bool) -> PruneResult:
    """Prune, evaluate and, where `out` is given, write; `trimbre.prune` describes the arguments."""
    folder = out_folder(out, resume=resume)
    accelerator = job.accelerator
    run = begin_run(folder, job.settings, resume=resume, accelerator=accelerator)
    tolerance = unreadable_clips(job.checked.utterances, job.train.name, run, accelerator)
    teacher, processor = job.recogniser
    training = _training(job, run, tolerance)
    pruned = prune_model(
        teacher,
        processor,
        config=job.config,
        training=training,
        table=job.table,
        in_place=job.owned or job.smaller is not None,
        before=job.before,
    )
    evaluation = _evaluate(job, pruned, margin_percent)
    report = _report(job, pruned, evaluation, job.before or Recogniser(teacher.float(), processor))
    report["data"]["unreadable"] = gather_unreadable(tolerance)
    result = PruneResult(pruned.model, processor, _whole_plan(job, pruned.result.plan), report, pruned.control)
    if folder is not None and run is not None:

        def finish() -> None:
            result.save(folder)
            shutil.rmtree(run)

        on_main_process(accelerator, finish)
    return result


def _refuse_unjudgeable(
    dev: NamedCuts | None,
    watch: Mapping[str, NamedCuts],
    processor: Any,
    config: PruneConfig,
    languages: Languages,
) -> None:
    """Raise UserError for sets that nothing can be measured on."""
    if watch and dev is None:
        raise OptionError(
            "watch", {name: data.name for name, data in watch.items()}, "it needs dev beside it: give both"
        )
    refuse_name(watch, "dev")
    refuse = partial(refuse_unjudgeable, processor=processor, normalize=config.batches.normalize, languages=languages)
    if dev is not None:
        refuse(dev.cuts, option="dev", name=dev.name)
    for name, data in watch.items():
        refuse(data.cuts, option="watch", of=name, name=data.name)


def _refuse_untold(recogniser: Recogniser, data: Iterable[NamedCuts | None], languages: Languages) -> None:
    """Raise UserError where the model cannot be given a language of the data, or writes texts of another kind."""
    head_of(recogniser.model).check_taught(*recogniser)
    for each in filter(None, data):
        check_languages(*recogniser, each.cuts, languages)


def _checked(train: NamedCuts, processor: Any, config: PruneConfig, languages: Languages) -> TrainingData:
    """What the training data hold; raises UserError where nothing can be learned from them."""
    checked = check_training_data(
        train.cuts,
        name=train.name,
        processor=processor,
        normalize=config.batches.normalize,
        languages=languages,
        transcripts=config.distillation.text == "transcripts",
        longest=config.batches.longest,
    )
    if checked.transcribed < checked.utterances and not config.distillation.from_teacher:
        raise OptionError(
            "train",
            train.name,
            "audio without transcripts needs a loss against the teacher: "
            "raise posterior_weight or layer_weight of the distillation above 0",
        )
    return checked


def _training(job: PruneJob, run: Path | None, tolerance: UnreadableClips) -> Training:
    """Batches, precision, validation and state of all stages."""
    accelerator, config, processor = job.accelerator, job.config, job.recogniser.processor

    def stream(start: int, augment: AugmentConfig) -> Iterator[Batch]:
        return training_batches(
            job.train.cuts,
            processor=processor,
            options=replace(config.batches, augment=augment),
            seed=config.seed,
            start=start,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
            tolerance=tolerance,
            transcripts=config.distillation.text == "transcripts",
            languages=job.languages,
        )

    def validate(student: PreTrainedModel) -> Mapping[str, float]:
        assert job.dev is not None
        found = validation_wer(
            student,
            processor,
            job.dev.cuts,
            normalize=config.batches.normalize,
            languages=job.languages,
            bfloat16=accelerator.mixed_precision == "bf16",
        )
        return {"wer": found}

    return Training(
        batches=partial(stream, augment=config.batches.augment),
        recorded=partial(stream, augment=AugmentConfig.none()),
        accelerator=accelerator,
        seed=config.seed,
        accumulate=config.batches.accumulate,
        run=run,
        save_every=config.save_every,
        validate=None if job.dev is None else validate,
        validate_every=config.validate_every,
    )


def _evaluate(job: PruneJob, pruned: Pruned, margin_percent: float) -> EvaluationReport | None:
    """Error rates on dev and the watched sets; the main process runs it."""
    if job.dev is None:
        return None
    dev, processor = job.dev, job.recogniser.processor

    def evaluate() -> EvaluationReport:
        references = {"dense": _dense(job)}
        if pruned.control is not None:
            references["control"] = Recogniser(pruned.control, processor)
        return evaluate_sets(
            recogniser=Recogniser(pruned.model, processor),
            references=references,
            data=dev,
            watch=job.watch,
            normalize=job.config.batches.normalize,
            language=job.config.batches.language,
            margin_percent=margin_percent,
        )

    with main_process_threads(job.accelerator):
        return on_main_process(job.accelerator, evaluate)


def _dense(job: PruneJob) -> Recogniser:
    """The dense model; loaded anew where its matrices were cast to bfloat16."""
    cast = job.owned and job.config.low_memory and job.smaller is None
    if not cast:
        return job.source.recogniser
    assert job.source.path is not None  # the run loaded it
    dense = load_model(job.source.path, job.source.name)
    return Recogniser(dense.to(job.accelerator.device), job.source.recogniser.processor)


def _report(job: PruneJob, pruned: Pruned, evaluation: EvaluationReport | None, teacher: Recogniser) -> dict[str, Any]:
    """All that is known of a run, as plain data."""
    # On one process alone: those that measure at once slow each other.
    small = Recogniser(pruned.model, job.recogniser.processor)
    faster = on_main_process(job.accelerator, lambda: times_faster(small, teacher))
    found = pruned.to_json(job.config.target)
    if job.table is not None:
        rtf = job.asked.target.rtf
        found["latency"] = on_main_process(job.accelerator, lambda: measured_latency(_dense(job), pruned, rtf))
        found["missed"] = found["missed"] or missed_time(found["latency"])
    return {
        "model": job.source.name,
        "language": job.languages.text,
        "options": asdict(job.asked),
        **found,
        "evaluation": evaluation and evaluation.to_json(),
        "times_faster": asdict(faster),
        "auto_class": head_of(pruned.model).auto_class,
        **({"rows": job.smaller.to_json()} if job.smaller else {}),
        "data": job.checked.to_json(),
        **job.step_size,
        "command": command_of("prune"),
    }


def _whole_plan(job: PruneJob, plan: Plan) -> Plan:
    """What was kept of the dense model, also where an earlier run had pruned it."""
    if job.smaller:
        plan = replace(plan, vocabulary=job.smaller.kept)
    earlier = job.source.plan()
    return earlier.then(plan) if earlier else plan
