"""The functions of `import trimbre`: each takes models and data as paths or as objects in memory.

A model is a directory or a name on the Hub, a model of transformers with its `processor` beside it, or a pair of
both; it is never changed. Data are manifests or folders by path (several joined by commas), a lhotse `CutSet` or a
sequence of cuts. `device` is `auto` (the accelerator where there is one), `cpu`, `cuda` or `mps`. `language` is that of
utterances that state none, as a code such as `de` or an English name: the model's own, or what it detects, by default.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, ProcessorMixin

from trimbre.config import PruneConfig, TrainConfig
from trimbre.data.cuts import CutsLike
from trimbre.data.language import stated_language
from trimbre.data.source import resolve_cuts
from trimbre.errors import OptionError, at_least, usable_seed
from trimbre.evaluation.compare_runs import Comparison
from trimbre.evaluation.evaluate import EvaluationReport, evaluate_sets
from trimbre.inference import long_form
from trimbre.inference.graph.source import GraphLike, resolve_graph
from trimbre.inference.long_form import Transcript
from trimbre.models.device import resolve_device
from trimbre.models.families.registry import anatomy_of
from trimbre.models.loading import Recogniser
from trimbre.models.source import ModelLike, resolve_model
from trimbre.pruning.equivalence import verify_cutting
from trimbre.pruning.targets import ModelCosts, describe
from trimbre.runs.prune import PruneJob, prune_run
from trimbre.runs.results import PruneResult, TrainResult, run_of
from trimbre.runs.settings import out_folder
from trimbre.runs.train import train_run


def prune(
    model: ModelLike,
    processor: ProcessorMixin | None = None,
    *,
    train: CutsLike,
    dev: CutsLike | None = None,
    watch: Mapping[str, CutsLike] | None = None,
    vocabulary: CutsLike | None = None,
    out: str | Path | None = None,
    config: PruneConfig | None = None,
    remove: float | None = None,
    rtf: float | None = None,
    budget: str | None = None,
    of: str | None = None,
    method: str | None = None,
    margin_percent: float = 10.0,
    allow_outside: bool = False,
    resume: bool = False,
    device: str = "auto",
) -> PruneResult:
    """Prune a model: choose what to cut, cut it, verify the cut, refit and recover with the dense model as teacher.

    Example:
        >>> model, processor = trimbre.load("models/telephone-en")
        >>> config = trimbre.PruneConfig(recovery=trimbre.RecoveryConfig(steps=1200))
        >>> result = trimbre.prune(model, processor, train="data/train", remove=0.5, config=config)
        >>> result.save("smaller")

    Args:
        model: the dense model, or one that was pruned before; it is the teacher and stays as it was.
        train: speech to calibrate and to recover on; without transcripts only the distillation losses are used.
        dev: transcribed speech to evaluate on, in validation and at the end.
        watch: further evaluation sets by name, such as speech out of domain. They need `dev`.
        vocabulary: text files, or data with transcripts, of the language that a Whisper is for: the rows of all tokens
            leave that neither these nor the transcripts of `train` need. None keeps all.
        out: directory to write, with the state of the run in `OUT.run` until it is complete; None writes nothing.
        config: all options; the next five replace its fields.
        remove: share to remove, above 0 and below 1; 0.5 by default. 0 removes rows of the `vocabulary` alone.
        rtf: real-time factor to reach in place of a share, in seconds per second of audio.
        budget: what the share is counted in: `params`, `macs`, `both` or `latency`.
        of: what the share is of: `blocks`, `encoder`, `model`, and others of the family.
        method: name in the registry of methods, `curvature` by default.
        margin_percent: increase of the WER, relative to the dense model's, that still counts as "not worse".
        allow_outside: accept manifests that name audio outside their own folder.
        resume: continue the run that was stopped in `OUT.run`; needs the same arguments.

    Raises:
        UserError: an argument cannot be used, or the target cannot be reached. It is a ValueError.
    """
    at_least("margin_percent", margin_percent, 0)
    folder = out_folder(out, resume=resume, model=model)
    job = PruneJob.prepare(
        model,
        processor,
        train=train,
        dev=dev,
        watch=watch,
        vocabulary=vocabulary,
        config=_config(config, remove=remove, rtf=rtf, budget=budget, of=of, method=method),
        allow_outside=allow_outside,
        device=device,
        resumed=folder if resume else None,
    )
    return prune_run(job, out=out, margin_percent=margin_percent, resume=resume)


def preview(
    model: ModelLike,
    processor: ProcessorMixin | None = None,
    *,
    train: CutsLike,
    dev: CutsLike | None = None,
    watch: Mapping[str, CutsLike] | None = None,
    vocabulary: CutsLike | None = None,
    config: PruneConfig | None = None,
    remove: float | None = None,
    rtf: float | None = None,
    budget: str | None = None,
    of: str | None = None,
    method: str | None = None,
    allow_outside: bool = False,
    device: str = "auto",
) -> dict[str, Any]:
    """Check the arguments of `prune` and compute what it would remove, without training or writing a model.

    A latency table that has to be measured for the target is kept in the user's cache.

    Example:
        >>> trimbre.preview("models/telephone-en", train="data/train", remove=0.3)["to_remove"]

    Returns:
        Plain data: costs before the cut, what will be removed, what can be at most, and what the training data hold.

    Raises:
        UserError: as `prune`.
    """
    job = PruneJob.prepare(
        model,
        processor,
        train=train,
        dev=dev,
        watch=watch,
        vocabulary=vocabulary,
        config=_config(config, remove=remove, rtf=rtf, budget=budget, of=of, method=method),
        allow_outside=allow_outside,
        device=device,
    )
    return job.preview()


def train(
    model: ModelLike,
    processor: ProcessorMixin | None = None,
    *,
    train: CutsLike,
    dev: CutsLike,
    out: str | Path | None = None,
    config: TrainConfig | None = None,
    half: bool = False,
    allow_outside: bool = False,
    resume: bool = False,
    device: str = "auto",
) -> TrainResult:
    """Train a model from scratch, or continue from a checkpoint.

    Example:
        >>> config = trimbre.TrainConfig(steps=5000, rate=2e-3)
        >>> trimbre.train("models/telephone-en", train="data/train", dev="data/dev", out="models/mine", config=config)

    Args:
        model: path of a config (`*.json`) to train from scratch, or a model to continue from.
        train: speech with transcripts.
        dev: speech with transcripts, to validate on.
        out: directory to write, with the state of the run in `OUT.run` until it is complete; None writes nothing.
        half: store the weights in `out` as float16.
        allow_outside: accept manifests that name audio outside their own folder.
        resume: continue the run that was stopped in `OUT.run`; needs the same arguments.

    Raises:
        UserError: an argument cannot be used. It is a ValueError.
    """
    return train_run(
        model,
        processor,
        train=train,
        dev=dev,
        out=out,
        config=config or TrainConfig(),
        half=half,
        allow_outside=allow_outside,
        resume=resume,
        device=device,
    )


def evaluate(
    model: ModelLike,
    processor: ProcessorMixin | None = None,
    *,
    data: CutsLike,
    against: ModelLike | None = None,
    watch: Mapping[str, CutsLike] | None = None,
    graph: GraphLike | None = None,
    normalize: str = "basic",
    language: str | None = None,
    task: str | None = None,
    margin_percent: float = 10.0,
    allow_outside: bool = False,
    device: str = "auto",
) -> EvaluationReport:
    """Word and character error rates with intervals, and the paired difference from another model's.

    Example:
        >>> report = trimbre.evaluate("half", data="data/test", against="models/telephone-en")
        >>> report.sets["data"].evaluation.wer

    Args:
        data: speech with transcripts.
        against: a model to compare with, sentence by sentence; one in memory without a processor shares this one's.
        watch: further sets by name.
        graph: decoding graph, or the folder that `make_graph` wrote, for both models; greedy decoding by default.
        normalize: text normalisation of both sides: `none`, `basic`, `whisper`, `whisper-en` or `open-asr`.
        task: `transcribe` or `translate`, for models that are told it; the preset one by default.
        margin_percent: increase of the WER, relative to the other model's, that still counts as "not worse".
        allow_outside: accept manifests that name audio outside their own folder.

    Raises:
        UserError: an argument cannot be used. It is a ValueError.
    """
    at_least("margin_percent", margin_percent, 0)
    language = stated_language(language)
    place = resolve_device(device)
    recogniser = resolve_model(model, processor, device=place).recogniser
    other = None if against is None else _other(against, recogniser, place)
    return evaluate_sets(
        recogniser=recogniser,
        references={} if other is None else {"baseline": other},
        graph=resolve_graph(graph, *filter(None, (recogniser, other)), normalize=normalize),
        data=resolve_cuts("data", data, allow_outside=allow_outside),
        name="data",
        watch={name: resolve_cuts("watch", cuts, allow_outside=allow_outside) for name, cuts in (watch or {}).items()},
        normalize=normalize,
        language=language,
        task=task,
        margin_percent=margin_percent,
    )


def transcribe(
    model: ModelLike,
    processor: ProcessorMixin | None = None,
    *,
    files: str | Path | Iterable[str | Path],
    graph: GraphLike | None = None,
    language: str | None = None,
    task: str | None = None,
    device: str = "auto",
) -> Iterator[Transcript]:
    """Transcribe audio files of any length, in any format that libsndfile or FFmpeg reads, one after the other.

    Example:
        >>> for transcript in trimbre.transcribe("half", files=["call.wav"]):
        ...     print(transcript.text)

    Args:
        files: one path or several.
        graph: decoding graph, or the folder that `make_graph` wrote; greedy decoding by default.
        task: as in `evaluate`.

    Returns:
        An iterator that yields the transcript of each file as soon as it is there. A file that is missing, damaged or
        empty has an `error`, a sentence, in place of a text, and the next ones follow. Model and graph are checked in
        the call.

    Raises:
        UserError: an argument cannot be used. It is a ValueError.
    """
    paths = [files] if isinstance(files, str | Path) else list(files)
    if not paths:
        raise OptionError("files", paths, "no audio file given: name one or more")
    recogniser = resolve_model(model, processor, device=resolve_device(device)).recogniser
    decoder = resolve_graph(graph, recogniser)
    named: dict[str, Any] = {**recogniser._asdict(), "graph": decoder, "language": language, "task": task}
    return long_form.transcribe(files=paths, **named)


def inspect(
    model: ModelLike,
    processor: ProcessorMixin | None = None,
    *,
    verify: bool = False,
    seed: int = 0,
    device: str = "auto",
) -> dict[str, Any]:
    """What can be pruned in a model: kinds of units, how many there are, and their parameters and MACs.

    Example:
        >>> trimbre.inspect("models/telephone-en")["kinds"]["attention"]["units"]

    Args:
        verify: also cut the model by random plans and compare each with the same model behind gates.
        seed: of those plans.

    Returns:
        Plain data; with `verify`, the largest relative difference of the outputs as `masked_equals_sliced_within`.
    """
    usable_seed("seed", seed)
    place = resolve_device(device)
    source = resolve_model(model, processor, device=place if verify else "cpu")
    network, processor = source.recogniser
    anatomy = anatomy_of(network)
    costs = ModelCosts.of(network, anatomy, processor)
    found = {"model": source.name, "class": type(network).__name__} | describe(costs, anatomy)
    if verify:
        found["masked_equals_sliced_within"] = verify_cutting(network, processor, seed=seed)
    return found


def compare(
    runs: Sequence[str | Path | PruneResult] | Mapping[str, str | Path | PruneResult],
) -> Comparison:
    """Pruning runs side by side: error rates and costs, with paired differences on the same sentences.

    Example:
        >>> trimbre.compare({"curvature": "half", "Taylor scores": "half-by-taylor"}).to_json()["rows"]

    Args:
        runs: directories that `prune` wrote, their `prune.json`, or results in memory; all evaluated on the same sets.
            A mapping names them, in place of the name of their method.

    Raises:
        UserError: a run has no evaluation, or two were not evaluated on the same sentences. It is a ValueError.
    """
    named = runs.items() if isinstance(runs, Mapping) else ((None, run) for run in runs)
    return Comparison.of([run_of(name, run) for name, run in named])


def _config(config: PruneConfig | None, **fields: Any) -> PruneConfig:
    """The config with the fields that were given by themselves."""
    given = {name: value for name, value in fields.items() if value is not None}
    if "rtf" in given and "remove" in given:
        raise OptionError("rtf", given["rtf"], "it is the time of the whole model and remove a share: give one of them")
    return replace(config or PruneConfig(), **given)


def _other(against: ModelLike, recogniser: Recogniser, device: torch.device) -> Recogniser:
    """The model to compare with; one in memory without a processor takes the recogniser's."""
    shared = recogniser.processor if isinstance(against, PreTrainedModel) else None
    return resolve_model(against, shared, device=device).recogniser
