"""The flags of `trimbre prune` and `trimbre train`, and the configs that they become.

Each class is a group of the help page, in the order of their `sort_key`. A field is one flag; `config()` makes the
config. Help texts are single lines: cyclopts keeps the indentation of others.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, TypeVar

from cyclopts import Group, Parameter

from trimbre.config import (
    AugmentConfig,
    BatchConfig,
    DistillationConfig,
    GateConfig,
    LatencyConfig,
    PruneConfig,
    RecoveryConfig,
    TrainConfig,
)
from trimbre.errors import OptionError, UserError

FLAGS = {
    ("GateConfig", "steps"): "--learn-steps",
    ("GateConfig", "rate"): "--gate-rate",
    ("RecoveryConfig", "steps"): "--recover-steps",
    ("RecoveryConfig", "rate"): "--recover-rate",
    ("RecoveryConfig", "warmup"): "--recover-warmup",
    ("", "margin_percent"): "--margin",
    ("", "model"): "MODEL",
    ("", "models"): "MODELS",
    ("", "runs"): "RUNS",
    ("", "files"): "FILES",
    ("", "source"): "SOURCE",
}
"""(config class, or nothing for an argument of a function; name) -> what is typed, where it is not `--name`."""


def flag(error: OptionError) -> str:
    """The flag, or the positional argument, that an option's error is about."""
    return FLAGS.get((error.owner, error.name)) or f"--{error.name.rpartition('.')[2].replace('_', '-')}"


def as_typed(error: OptionError) -> str:
    """An option's error in terms of the command line: `--remove 1.2: give a share above 0 and below 1`."""
    return f"{' '.join([flag(error), *_words(error.value)])}: {error.advice}"


def _words(value: Any) -> list[str]:
    """A value as one would type it after its flag; nothing for a switch or a value that was not given."""
    if value is None or isinstance(value, bool):
        return []
    if isinstance(value, Mapping):
        return [f"{name}={one}" for name, one in value.items()]
    if isinstance(value, tuple | list):
        return [word for one in value for word in _words(one)]
    return [f"{value:g}" if isinstance(value, float) else str(value)]


Config = TypeVar("Config")


def _filled(config: type[Config], flags: Any, **other: Any) -> Config:
    """A config from the flags of the same names."""
    known = {one.name for one in fields(config)} - set(other)  # type: ignore[arg-type]
    return config(**{name: value for name, value in vars(flags).items() if name in known}, **other)


RUN = Group("Run", sort_key=3)


@Parameter(name="*", group=Group("Target", sort_key=1))
@dataclass(frozen=True)
class TargetFlags:
    remove: float | None = None
    """Share to remove, such as 0.5 for half (the default); 0 with --vocabulary removes nothing else."""
    budget: str = "both"
    """What the share is counted in: params, macs, both, or latency (measured time)."""
    of: str = "blocks"
    """What is pruned: blocks, encoder (with its front end), model; for Whisper also encoder-blocks, decoder."""
    rtf: float | None = None
    """Real-time factor of the whole model to reach in place of a share, in seconds per second of audio: 0.01."""
    method: str = "curvature"
    """curvature (second-order scores), l0 (learned gates), modules, taylor-iterative, taylor and others."""
    protect: tuple[str, ...] = ()
    """Kinds (attention, conv, ffn) and layers (0, 1, ...) that are not pruned."""
    multiple_of: int = 1
    """Round the widths of feed-forwards and convolutions to multiples of this."""


@Parameter(name="*", group=Group("Recovery", sort_key=2))
@dataclass(frozen=True)
class RecoveryFlags:
    recover_steps: int = 1200
    """Fine-tuning steps after the cut; 0 skips it."""
    recover_rate: float | None = None
    """Peak learning rate; scaled to the size of the weights by default (5e-4 for a small Conformer)."""
    recover_warmup: float = 0.05
    """Share of the steps in which the learning rate warms up."""
    refit: Annotated[bool, Parameter(negative="--no-refit")] = True
    """Re-solve the output projections after the cut by least squares against the dense model (the default)."""
    refit_batches: int = 64
    """Calibration batches for the refit."""
    control: bool = False
    """Also fine-tune the dense model for as many steps, and compare with it."""

    def config(self) -> RecoveryConfig:
        steps, rate, warmup = self.recover_steps, self.recover_rate, self.recover_warmup
        return _filled(RecoveryConfig, self, steps=steps, rate=rate, warmup=warmup)


@Parameter(name="*", group=RUN)
@dataclass(frozen=True)
class RunFlags:
    precision: str = "auto"
    """bf16, fp32, or auto: bf16 where the device multiplies it fast."""
    low_memory: bool = False
    """bfloat16 teacher and activation checkpointing: less memory, slower steps."""
    validate_every: int = 100
    """Steps between validations on the dev set."""
    save_every: int = 100
    """Steps between saved states."""


@Parameter(name="*", group=Group("Batches", sort_key=4))
@dataclass(frozen=True)
class BatchFlags:
    max_duration: float = 32.0
    """Seconds of audio in a batch, at most (for Whisper at least one window of 30 s)."""
    longest: float = 40.0
    """Seconds of an utterance, at most; longer ones are left out, or cut where they have no transcript."""
    accumulate: int = 1
    """Batches per optimizer step."""
    buckets: int = 8
    """Buckets of similar length that batches are drawn from."""
    workers: int = 0
    """Processes that load and augment audio."""
    normalize: str = "basic"
    """Text normalisation of transcripts: none, basic, whisper, whisper-en or open-asr."""
    language: str | None = None
    """Language of utterances that do not state one, such as de or German; the model's own by default."""

    def config(self, augment: AugmentConfig) -> BatchConfig:
        return _filled(BatchConfig, self, augment=augment)


AUGMENTATION = Group("Augmentation", sort_key=5)


@Parameter(name="*", group=AUGMENTATION)
@dataclass(frozen=True)
class AugmentFlags:
    speed: float = 0.3
    """Chance of speed perturbation, by 0.88 to 1.12."""
    room: float = 0.1
    """Chance of reverberation."""
    noise: float = 0.2
    """Chance of additive noise."""
    snr: tuple[float, float] = (10.0, 30.0)
    """Signal-to-noise ratio in dB, lowest and highest."""
    telephone: float = 0.1
    """Chance of a telephone band, 300 to 3400 Hz."""
    shift: float = 0.0
    """Chance of a start up to 10 ms later, within a frame's hop."""
    time_masks: int = 1
    """SpecAugment time masks."""
    mel_masks: int = 1
    """SpecAugment frequency masks."""

    def config(self) -> AugmentConfig:
        return _filled(AugmentConfig, self)


@Parameter(name="*", group=Group("Distillation", sort_key=6))
@dataclass(frozen=True)
class DistillationFlags:
    task_weight: float = 1.0
    """Weight of the task loss."""
    posterior_weight: float = 1.0
    """Weight of the KL divergence from the teacher's posteriors."""
    layer_weight: float | None = None
    """Weight of the distance between hidden states; 100 by default, 1 for models with a decoder."""
    layer_distance: str = "squared"
    """squared, or l1-cosine (DPHuBERT)."""
    match_every: int = 1
    """Compare every n-th hidden state."""
    text: str = "transcripts"
    """Decoder input for Whisper: transcripts where there are any, or always the teacher's text (teacher)."""

    def config(self) -> DistillationConfig:
        return _filled(DistillationConfig, self)


@Parameter(name="*", group=Group("Importance scores and learned gates", sort_key=7))
@dataclass(frozen=True)
class GateFlags:
    calibration_batches: int = 64
    """Calibration batches used to compute importance scores."""
    learn_steps: int = 400
    """Steps in which l0, modules and taylor-iterative train gates and weights together."""
    ramp: float = 0.6
    """Share of these steps over which the target rises to its full value."""
    gate_rate: float = 0.05
    """Learning rate of the gates."""
    weight_rate: float | None = None
    """Learning rate of the weights in these steps; scaled to the size of the weights by default."""
    spread: float = 10.0
    """Range of log_alpha over which gates start, ordered by their scores; 0 starts all alike."""
    sampled: bool = False
    """Sample hard-concrete gates in every step instead of using their noiseless values."""

    def config(self) -> GateConfig:
        return _filled(GateConfig, self, steps=self.learn_steps, rate=self.gate_rate)


@Parameter(name="*", group=Group("Latency, for --budget latency and --rtf", sort_key=8))
@dataclass(frozen=True)
class LatencyFlags:
    table: str | None = None
    """Latency table that trimbre bench --table wrote, here or on the target device."""
    runtime: str = "onnx-fp32"
    """Runtime to measure on this machine without a table: torch-fp32, torch-bf16, onnx-fp32 or onnx-int8."""
    threads: int = 1
    """Threads to measure with."""

    def config(self) -> LatencyConfig:
        return _filled(LatencyConfig, self)


@Parameter(name="*")
@dataclass(frozen=True)
class PruneFlags:
    """All flags of `trimbre prune` that make its config."""

    target: TargetFlags = field(default_factory=TargetFlags)
    recovery: RecoveryFlags = field(default_factory=RecoveryFlags)
    run: RunFlags = field(default_factory=RunFlags)
    batches: BatchFlags = field(default_factory=BatchFlags)
    augment: Annotated[bool, Parameter(group=AUGMENTATION)] = False
    """Augment training audio by the options below; useful where little audio is seen many times."""
    augmentation: AugmentFlags = field(default_factory=AugmentFlags)
    distillation: DistillationFlags = field(default_factory=DistillationFlags)
    gates: GateFlags = field(default_factory=GateFlags)
    latency: LatencyFlags = field(default_factory=LatencyFlags)

    def config(self, seed: int) -> PruneConfig:
        """The config; raises UserError for flags that exclude each other."""
        if self.target.rtf is not None and self.target.remove is not None:
            raise UserError("--rtf is the time of the whole model and --remove a share: give one of them")
        if not self.augment and self.augmentation != AugmentFlags():
            raise UserError("augmentation is set but not switched on: give --augment too")
        target = dict(vars(self.target)) | {"remove": 0.5 if self.target.remove is None else self.target.remove}
        return PruneConfig(
            **target,
            **vars(self.run),
            calibration_batches=self.gates.calibration_batches,
            control=self.recovery.control,
            seed=seed,
            gates=self.gates.config(),
            distillation=self.distillation.config(),
            recovery=self.recovery.config(),
            latency=self.latency.config(),
            batches=self.batches.config(self.augmentation.config() if self.augment else AugmentConfig.none()),
        )


@Parameter(name="*", group=Group("Training", sort_key=2))
@dataclass(frozen=True)
class TrainingFlags:
    steps: int = 5000
    """Training steps."""
    rate: float = 2e-3
    """Peak learning rate (AdamW), with cosine decay to a hundredth of it."""
    warmup: int = 300
    """Warm-up steps of the learning rate."""
    vocab_size: int | None = None
    """Train a tokenizer of so many subwords on the transcripts, with a new head."""
    stop_at: int | None = None
    """Stop at this step of the schedule, as the first of several stages."""
    short_steps: int = 300
    """First steps, on short utterances only: CTC learns to align on these."""
    short_seconds: float = 3.0
    """Longest utterance that counts as short."""
    average: float = 0.998
    """Decay of the moving average of the weights, which is validated and saved; 0 keeps the last weights."""


@Parameter(name="*", group=RUN)
@dataclass(frozen=True)
class TrainRunFlags:
    precision: str = "auto"
    """bf16, fp32, or auto: bf16 where the device multiplies it fast."""
    validate_every: int = 500
    """Steps between validations on the dev set."""
    save_every: int = 200
    """Steps between saved states."""


@Parameter(name="*")
@dataclass(frozen=True)
class TrainFlags:
    """All flags of `trimbre train` that make its config."""

    training: TrainingFlags = field(default_factory=TrainingFlags)
    run: TrainRunFlags = field(default_factory=TrainRunFlags)
    batches: BatchFlags = field(default_factory=BatchFlags)
    augmentation: AugmentFlags = field(default_factory=AugmentFlags)

    def config(self, seed: int) -> TrainConfig:
        """The config."""
        batches = self.batches.config(self.augmentation.config())
        return TrainConfig(**vars(self.training), **vars(self.run), seed=seed, batches=batches)
