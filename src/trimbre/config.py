"""Every option of a run, once: the command line and its help are generated from these, Python takes them as they are.

Nothing heavy is imported here, so that `trimbre --help` is immediate.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from cyclopts import Group, Parameter

from trimbre.errors import UserError
from trimbre.pruning.methods.registry import known_methods

BUDGETS = {"params": ("params",), "macs": ("macs",), "both": ("params", "macs"), "latency": ("latency",)}
NORMALISERS = ("none", "basic", "whisper-en")
TEXTS = ("transcripts", "teacher")
LAYER_DISTANCES = ("squared", "l1-cosine")
PRECISIONS = ("auto", "bf16", "fp32")
RUNTIMES = ("onnx", "sherpa-onnx", "onnx-asr")
BENCH_RUNTIMES = ("torch-fp32", "torch-bf16", "onnx-fp32", "onnx-int8")
BENCH_THREADS = (1, 2)
EXPORT_PRECISIONS = ("fp32", "int8")


@Parameter(name="*", group=Group("Augmentation", sort_key=17))
@dataclass(frozen=True)
class AugmentConfig:
    """How often, and how strongly, training audio is disturbed. Every chance is per utterance, 0 to 1."""

    speed: float = 0.3
    """Chance of playing at a rate drawn from 0.88 to 1.12, which moves pitch and tempo."""
    room: float = 0.1
    """Chance of reverberation by a drawn exponentially decaying room (RT60 of 0.1 to 0.6 s)."""
    noise: float = 0.2
    """Chance of noise: coloured, hum, or another utterance of the batch."""
    snr: tuple[float, float] = (10.0, 30.0)
    """Signal-to-noise ratio in dB, lowest and highest; another utterance is at most as loud as 12 dB allow."""
    telephone: float = 0.1
    """Chance of the band of a telephone line, 300 to 3400 Hz."""
    time_masks: int = 1
    """Spans of frames that SpecAugment blanks, each up to 10 % of the utterance and 40 frames."""
    mel_masks: int = 1
    """Bands that SpecAugment blanks, each up to a third of the mel bins."""

    def __post_init__(self) -> None:
        for name in ("speed", "room", "noise", "telephone"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"--{name} {getattr(self, name):g}: give a chance between 0 and 1")
        if self.snr[0] > self.snr[1]:
            raise UserError(f"--snr {self.snr[0]:g} {self.snr[1]:g}: give the lowest first")
        for name in ("time_masks", "mel_masks"):
            at_least(name, getattr(self, name), 0)

    @classmethod
    def none(cls) -> "AugmentConfig":
        """Leave audio and features as they are."""
        return cls(speed=0, room=0, noise=0, telephone=0, time_masks=0, mel_masks=0)


@Parameter(name="*", group=Group("Batches", sort_key=16))
@dataclass(frozen=True)
class BatchConfig:
    """How utterances are gathered into batches."""

    max_duration: float = 32.0
    """Seconds of audio in one batch, at most (of a Whisper one window at least); a step takes so much on every process,
    times --accumulate."""
    accumulate: int = 1
    """Batches whose gradients make one step."""
    buckets: int = 8
    """Groups of similar length that a batch is drawn from."""
    workers: int = 0
    """Processes that load and augment audio beside the one that trains."""
    normalize: str = "basic"
    """How transcripts are brought into one form: none, basic or whisper-en. Whisper learns them as they are written."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        if self.max_duration <= 0:
            raise UserError(f"--max-duration {self.max_duration:g}: give seconds of audio above 0")
        at_least("accumulate", self.accumulate, 1)
        at_least("buckets", self.buckets, 1)
        at_least("workers", self.workers, 0)
        one_of("normalize", self.normalize, NORMALISERS)


@Parameter(name="*", group=Group("Training", sort_key=15))
@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast to train."""

    steps: int = 5000
    """Optimizer steps."""
    stop_at: int | None = None
    """Stop at this step of the schedule, as a first stage that others follow; None goes through all of it."""
    rate: float = 2e-3
    """Peak learning rate (AdamW), falling to a hundredth of it along a cosine."""
    warmup: int = 300
    """Steps over which the rate rises."""
    short_steps: int = 300
    """First steps, which see only short utterances: CTC learns to align on these."""
    short_seconds: float = 3.0
    """What counts as short."""
    vocab_size: int | None = None
    """Learn so many subwords from the transcripts and start the head that spells them anew; None keeps what's there."""
    average: float = 0.998
    """Decay of the running average of the weights, which is what's judged and saved; 0 keeps the last weights."""
    validate_every: int = 500
    """Steps between two looks at the dev set."""
    save_every: int = 200
    """Steps between two saved states."""
    precision: str = "auto"
    """bf16, fp32, or auto: bf16 where the device multiplies it fast."""
    seed: Annotated[int, Parameter(show=False, parse=False)] = 0
    """Every random draw follows from it."""
    batches: BatchConfig = field(default_factory=BatchConfig)

    def __post_init__(self) -> None:
        at_least("steps", self.steps, 1)
        if self.stop_at is not None:
            at_least("stop_at", self.stop_at, 1)
            if self.stop_at > self.steps:
                raise UserError(f"--stop-at {self.stop_at} comes after the last of --steps {self.steps}: lower it")
        if self.vocab_size is not None:
            at_least("vocab_size", self.vocab_size, 2)
        _above_zero("rate", self.rate)
        if not 0 <= self.average < 1:
            raise UserError(f"--average {self.average:g}: give a decay from 0 to below 1")
        one_of("precision", self.precision, PRECISIONS)


RTF_ALONE = "--rtf says how fast the whole model is to be: leave --remove and --of out, and any --budget but latency"


def _one_target(given: Any) -> None:
    """Raise ValueError where a time is asked for and a share typed beside it."""
    typed = {argument.name: argument.value for argument in given if argument.tokens}
    if "--rtf" in typed and ({"--remove", "--of"} & set(typed) or typed.get("--budget", "latency") != "latency"):
        raise ValueError(RTF_ALONE)


@Parameter(name="*", group=Group("TargetConfig", sort_key=10, validator=_one_target))
@dataclass(frozen=True)
class TargetConfig:
    """A share of a cost that is to leave, or the time that is to be left."""

    remove: float = 0.5
    """Share to remove, above 0 and below 1."""
    rtf: float | None = None
    """Seconds per second of audio that the whole model is to take, such as 0.01, in place of a share."""
    budget: str = "both"
    """params, macs, latency (measured time) or both: half of both is half of the parameters and half of the
    multiply-accumulates."""
    of: str = "blocks"
    """What the share is of, and what is cut: blocks, encoder (with its front end), model, or of a Whisper
    encoder-blocks or decoder. Of time, only that of the whole model holds features, front end and head."""

    def __post_init__(self) -> None:
        if not 0 < self.remove < 1:
            raise UserError(f"--remove {self.remove:g}: give a share between 0 and 1, such as 0.5 for half")
        one_of("budget", self.budget, tuple(BUDGETS))
        if self.rtf is not None:
            _above_zero("rtf", self.rtf)
            if self.remove != 0.5 or self.of not in ("blocks", "model") or self.budget not in ("both", "latency"):
                raise UserError(RTF_ALONE)
            object.__setattr__(self, "budget", "latency")
            object.__setattr__(self, "of", "model")


@Parameter(name="*", group=Group("Latency", sort_key=10.5))
@dataclass(frozen=True)
class LatencyConfig:
    """Where time is measured, for --budget latency and --rtf."""

    table: str | None = None
    """A table of times that trimbre bench --table wrote, here or on the device that the model is for."""
    runtime: str = "onnx-fp32"
    """Where there is none, one is measured on this machine, once: torch-fp32, torch-bf16, onnx-fp32 or onnx-int8."""
    threads: int = 1
    """How many threads compute meanwhile."""

    def __post_init__(self) -> None:
        one_of("runtime", self.runtime, BENCH_RUNTIMES)
        at_least("threads", self.threads, 1)
        if self.table is not None and (self.runtime, self.threads) != ("onnx-fp32", 1):
            raise UserError("--table says itself what was measured: leave --runtime and --threads out")


@Parameter(name="*", group=Group("Learning what to cut", sort_key=12))
@dataclass(frozen=True)
class GateConfig:
    """How gates are learned."""

    ramp: float = 0.6
    """Share of the learning steps over which the target rises to its full value; then it's held."""
    gate_rate: float = 0.05
    """Learning rate of the gates (Adam, on log_alpha)."""
    weight_rate: float | None = None
    """Learning rate of the weights meanwhile (AdamW); None suits it to their size, as --recover-rate does."""
    spread: float = 10.0
    """How far apart in log_alpha the gates start by the rank of their scores, worst to best; 0 starts them alike."""
    sampled: bool = False
    """Draw gates at random in every step (Louizos et al. 2018), in place of their noiseless values."""
    seed_batches: int = 64
    """Batches that scores are measured on."""

    def __post_init__(self) -> None:
        if not 0 < self.ramp <= 1:
            raise UserError(f"--ramp {self.ramp:g}: give a share of the learning steps above 0, at most 1")
        _above_zero("gate_rate", self.gate_rate)
        if self.weight_rate is not None:
            _above_zero("weight_rate", self.weight_rate)
        at_least("seed_batches", self.seed_batches, 1)


@Parameter(name="*", group=Group("Distillation", sort_key=13))
@dataclass(frozen=True)
class DistillationConfig:
    """What a model is trained on: weights of the task's loss and of the terms by which the unpruned model teaches."""

    task_weight: float = 1.0
    """Weight of the task's own loss, where there is a transcript or, for a decoder, the teacher's own text."""
    posterior_weight: float = 1.0
    """Weight of the divergence between the teacher's and the student's posteriors of frames, or of a text's tokens."""
    layer_weight: float | None = None
    """Weight of the distance between their hidden states, layer by layer; None: 100, or 1 where there is a decoder."""
    layer_distance: str = "squared"
    """squared (relative to the teacher's energy) or l1-cosine (absolute, less the cosine: DPHuBERT)."""
    match_every: int = 1
    """Compare every so many-th hidden state, from what the first block reads on."""
    text: str = "transcripts"
    """What a Whisper's decoder reads meanwhile: transcripts where there are any, or what the teacher itself writes."""

    def __post_init__(self) -> None:
        for name in ("task_weight", "posterior_weight"):
            at_least(name, getattr(self, name), 0)
        if self.layer_weight is not None:
            at_least("layer_weight", self.layer_weight, 0)
        if not self.task_weight and not self.teaches:
            raise UserError(
                "--task-weight 0, --posterior-weight 0 and --layer-weight 0 leave nothing to learn from: raise one"
            )
        at_least("match_every", self.match_every, 1)
        one_of("layer_distance", self.layer_distance, LAYER_DISTANCES)
        one_of("text", self.text, TEXTS)

    @property
    def teaches(self) -> bool:
        """Whether anything is learned from the unpruned model."""
        return self.posterior_weight > 0 or self.layer_weight != 0


@Parameter(name="*", group=Group("Recovery", sort_key=14))
@dataclass(frozen=True)
class RecoveryConfig:
    """How a cut model is trained on."""

    refit: Annotated[bool, Parameter(negative="--no-refit")] = True
    """Solve every branch's last projection anew after the cut, by least squares against the unpruned model."""
    refit_batches: int = 64
    """Batches that it's solved on."""
    recover_rate: float | None = None
    """Peak learning rate (AdamW), falling to zero along a cosine; None suits it to the size of the model's weights:
    5e-4 where these are about 0.1, 1.4e-4 for a Whisper tiny, whose are smaller."""
    recover_warmup: float = 0.05
    """Share of the steps over which the rate rises."""

    def __post_init__(self) -> None:
        at_least("refit_batches", self.refit_batches, 1)
        if self.recover_rate is not None:
            _above_zero("recover_rate", self.recover_rate)
        if not 0 <= self.recover_warmup <= 1:
            raise UserError(f"--recover-warmup {self.recover_warmup:g}: give a share of the steps, 0 to 1")


@Parameter(name="*", group=Group("Pruning", sort_key=11))
@dataclass(frozen=True)
class PruneConfig:
    """What to remove and how long to train for it."""

    target: TargetConfig = field(default_factory=TargetConfig)
    latency: LatencyConfig = field(default_factory=LatencyConfig)
    method: str = "curvature"
    """How to decide what is cut: curvature (second-order scores), l0 (learned gates), modules (learned, whole modules
    only), taylor-iterative, taylor, activation, magnitude, layers (evenly spaced) or random."""
    learn_steps: int = 400
    """Steps in which l0, modules and taylor-iterative decide and train together; the others look and take none."""
    recover_steps: int = 1200
    """Steps in which the cut model is trained on."""
    protect: tuple[str, ...] = ()
    """Kinds (attention, conv, ffn) and layers (0, 1, ...) to leave whole."""
    augment: bool = False
    """Disturb training audio, as --speed, --noise and the others say: for little audio that is heard many times."""
    control: bool = False
    """Train the unpruned model on for as many steps too, and compare with that."""
    low_memory: bool = False
    """Hold the teacher in bfloat16 and compute activations twice: for large models, at the price of slower steps."""
    multiple_of: int = 1
    """Round the widths of feed-forwards and convolutions to multiples of this."""
    seed: Annotated[int, Parameter(show=False, parse=False)] = 0
    """Every random draw follows from it."""
    gates: GateConfig = field(default_factory=GateConfig)
    distill: DistillationConfig = field(default_factory=DistillationConfig)
    recover: RecoveryConfig = field(default_factory=RecoveryConfig)

    def __post_init__(self) -> None:
        one_of("method", self.method, known_methods())
        at_least("learn_steps", self.learn_steps, 0)
        at_least("recover_steps", self.recover_steps, 0)
        at_least("multiple_of", self.multiple_of, 1)
        if self.target.budget != "latency" and self.latency != LatencyConfig():
            raise UserError("--table, --runtime and --threads are for --budget latency and --rtf: give one of these")
        if self.control and self.low_memory:
            raise UserError("--control trains on what --low-memory holds in bfloat16: leave one of them out")


def differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Name and both values of every option that both state, alone or in a group, and state differently."""
    for name, value in ours.items():
        other = theirs.get(name, value)
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            yield from differing(value, other)
        elif value != other:
            yield name, value, other


def typed(name: str) -> str:
    """An option as it's typed."""
    return f"--{name.replace('_', '-')}"


def at_least(name: str, value: float, least: int) -> None:
    """Raise UserError for a number that is too low."""
    if not value >= least:
        raise UserError(f"{typed(name)} {value:g}: give {least} or more")


def _above_zero(name: str, value: float) -> None:
    if not value > 0:
        raise UserError(f"{typed(name)} {value:g}: give a number above 0")


def one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    """Raise UserError for a value that isn't known."""
    if value not in known:
        raise UserError(f"{typed(name)} {value}: choose one of {', '.join(known)}")
