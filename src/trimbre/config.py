"""Options of training and pruning: one frozen dataclass per topic, checked when it is made.

Nothing heavy is imported here, so that `trimbre --help` is immediate.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from trimbre.errors import OptionError, UserError, above_zero, at_least, one_of, usable_seed

BUDGETS = {"params": ("params",), "macs": ("macs",), "both": ("params", "macs"), "latency": ("latency",)}
NORMALISERS = ("none", "basic", "whisper", "whisper-en", "open-asr")
TEXTS = ("transcripts", "teacher")
LAYER_DISTANCES = ("squared", "l1-cosine")
PRECISIONS = ("auto", "bf16", "fp32")
RUNTIMES = ("onnx", "sherpa-onnx", "onnx-asr")
BENCH_RUNTIMES = ("torch-fp32", "torch-bf16", "onnx-fp32", "onnx-int8")
BENCH_THREADS = (1, 2)
EXPORT_PRECISIONS = ("fp32", "int8")


class _Checked:
    """Checks of a config's own fields, whose errors name the class."""

    def _at_least(self, name: str, least: float) -> None:
        at_least(name, getattr(self, name), least, owner=type(self).__name__)

    def _above_zero(self, name: str) -> None:
        if getattr(self, name) is not None:
            above_zero(name, getattr(self, name), owner=type(self).__name__)

    def _one_of(self, name: str, known: tuple[str, ...]) -> None:
        one_of(name, getattr(self, name), known, owner=type(self).__name__)

    def _refuse(self, name: str, advice: str) -> OptionError:
        return OptionError(name, getattr(self, name), advice, owner=type(self).__name__)


@dataclass(frozen=True)
class AugmentConfig(_Checked):
    """Augmentation of training audio. Every chance is per utterance, 0 to 1."""

    speed: float = 0.3
    """Chance of a playback rate drawn from 0.88 to 1.12, which changes pitch and tempo."""
    room: float = 0.1
    """Chance of reverberation by a random, exponentially decaying room response (RT60 of 0.1 to 0.6 s)."""
    noise: float = 0.2
    """Chance of additive noise: coloured, hum, or another utterance of the batch."""
    snr: tuple[float, float] = (10.0, 30.0)
    """Signal-to-noise ratio in dB, lowest and highest; another utterance is added at 12 dB at least."""
    telephone: float = 0.1
    """Chance of a telephone band, 300 to 3400 Hz."""
    shift: float = 0.0
    """Chance of a start up to 10 ms later, so that frames begin anywhere within the hop of a spectrogram."""
    time_masks: int = 1
    """SpecAugment time masks, each up to 10 % of the utterance and 40 frames."""
    mel_masks: int = 1
    """SpecAugment frequency masks, each up to a third of the mel bins."""

    def __post_init__(self) -> None:
        for name in ("speed", "room", "noise", "telephone", "shift"):
            if not 0 <= getattr(self, name) <= 1:
                raise self._refuse(name, "give a chance between 0 and 1")
        if not all(map(math.isfinite, self.snr)):
            raise self._refuse("snr", "give two finite numbers")
        if self.snr[0] > self.snr[1]:
            raise self._refuse("snr", "give the lowest first")
        for name in ("time_masks", "mel_masks"):
            self._at_least(name, 0)

    @classmethod
    def none(cls) -> "AugmentConfig":
        """No augmentation."""
        return cls(speed=0, room=0, noise=0, telephone=0, shift=0, time_masks=0, mel_masks=0)


@dataclass(frozen=True)
class BatchConfig(_Checked):
    """How utterances are gathered into batches."""

    max_duration: float = 32.0
    """Seconds of audio in a batch, at most (for a Whisper one window at least). A step of training takes this on every
    process, times `accumulate`."""
    longest: float = 40.0
    """Seconds of an utterance, at most: memory grows with the longest. A longer one with a transcript is left out and
    counted, as its words cannot be assigned to parts of it; without one it is cut into equal pieces. For a Whisper its
    window is the limit."""
    accumulate: int = 1
    """Batches per optimizer step."""
    buckets: int = 8
    """Buckets of similar length that batches are drawn from."""
    workers: int = 0
    """Processes that load and augment audio beside the one that trains."""
    normalize: str = "basic"
    """Text normalisation of transcripts: none, basic, whisper, whisper-en or open-asr. A Whisper trains on
    them as written."""
    language: str | None = None
    """Language of utterances that do not state one, such as de; None takes that of the model."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        self._above_zero("max_duration")
        self._at_least("longest", 1)
        self._at_least("accumulate", 1)
        self._at_least("buckets", 1)
        self._at_least("workers", 0)
        self._one_of("normalize", NORMALISERS)


@dataclass(frozen=True)
class TrainConfig(_Checked):
    """Training of a recogniser from scratch, or on from a checkpoint."""

    steps: int = 5000
    """Optimizer steps."""
    stop_at: int | None = None
    """Stop at this step of the schedule, as the first of several stages; None goes through all of it."""
    rate: float = 2e-3
    """Peak learning rate (AdamW), with cosine decay to a hundredth of it."""
    warmup: int = 300
    """Warm-up steps of the learning rate."""
    short_steps: int = 300
    """First steps, on short utterances only: CTC learns to align on these."""
    short_seconds: float = 3.0
    """Longest utterance that counts as short."""
    vocab_size: int | None = None
    """Train a tokenizer of so many subwords on the transcripts and start a new head for it; None keeps both."""
    average: float = 0.998
    """Decay of the moving average of the weights, which is validated and saved; 0 keeps the last weights."""
    validate_every: int = 500
    """Steps between validations on the dev set."""
    save_every: int = 200
    """Steps between saved states."""
    precision: str = "auto"
    """bf16, fp32, or auto: bf16 where the device multiplies it fast."""
    seed: int = 0
    """Every random draw follows from it."""
    batches: BatchConfig = field(default_factory=BatchConfig)

    def __post_init__(self) -> None:
        self._at_least("steps", 1)
        if self.stop_at is not None:
            self._at_least("stop_at", 1)
            if self.stop_at > self.steps:
                raise self._refuse("stop_at", f"it comes after the last of the {self.steps} steps: lower it")
        if self.vocab_size is not None:
            self._at_least("vocab_size", 2)
        for name in ("warmup", "short_steps", "short_seconds", "validate_every", "save_every"):
            self._at_least(name, 0)
        usable_seed("seed", self.seed, owner=type(self).__name__)
        self._above_zero("rate")
        if not 0 <= self.average < 1:
            raise self._refuse("average", "give a decay from 0 to below 1")
        self._one_of("precision", PRECISIONS)


@dataclass(frozen=True)
class TargetConfig(_Checked):
    """A share of a cost to remove, or the time that the model may take."""

    remove: float = 0.5
    """Share to remove, above 0 and below 1; 0 where rows of the vocabulary are all that is to leave."""
    rtf: float | None = None
    """Real-time factor that the whole model should reach, in seconds per second of audio, in place of a share."""
    budget: str = "both"
    """params, macs, latency (measured time), or both: the share of the parameters and of the multiply-accumulates."""
    of: str = "blocks"
    """What the share is of, and what is pruned: blocks, encoder (with its front end), model; for a Whisper also
    encoder-blocks or decoder. Of measured time, only the model's includes features, front end and head."""

    def __post_init__(self) -> None:
        if not 0 <= self.remove < 1:
            raise self._refuse("remove", "give a share above 0 and below 1, such as 0.5 for half")
        self._one_of("budget", tuple(BUDGETS))
        self._above_zero("rtf")
        if self.rtf is not None:
            if self.remove != 0.5 or self.of not in ("blocks", "model") or self.budget not in ("both", "latency"):
                raise self._refuse("rtf", "it is the time of the whole model: leave remove, of and budget out")
            object.__setattr__(self, "budget", "latency")
            object.__setattr__(self, "of", "model")


@dataclass(frozen=True)
class LatencyConfig(_Checked):
    """Where time is measured, for a latency budget or a real-time factor."""

    table: str | None = None
    """Latency table that `trimbre bench --table` wrote, here or on the target device."""
    runtime: str = "onnx-fp32"
    """Runtime to measure on this machine where there is no table: torch-fp32, torch-bf16, onnx-fp32 or onnx-int8."""
    threads: int = 1
    """Threads to measure with."""

    def __post_init__(self) -> None:
        self._one_of("runtime", BENCH_RUNTIMES)
        self._at_least("threads", 1)
        if self.table is not None and (self.runtime, self.threads) != ("onnx-fp32", 1):
            raise self._refuse("table", "it states its own runtime and threads: leave these out")


@dataclass(frozen=True)
class GateConfig(_Checked):
    """Training of gates and weights together, for the methods that learn (l0, modules, taylor-iterative)."""

    steps: int = 400
    """Optimizer steps in which gates and weights are trained together."""
    ramp: float = 0.6
    """Share of these steps over which the target rises to its full value; then it is held."""
    rate: float = 0.05
    """Learning rate of the gates (Adam, on log_alpha)."""
    weight_rate: float | None = None
    """Learning rate of the weights meanwhile (AdamW); None scales it to the weights, as `RecoveryConfig.rate` does."""
    spread: float = 10.0
    """Range of log_alpha over which gates start, ordered by their second-order scores; 0 starts all alike."""
    sampled: bool = False
    """Sample hard-concrete gates in every step (Louizos et al. 2018) instead of using their noiseless values."""

    def __post_init__(self) -> None:
        self._at_least("steps", 0)
        if not 0 < self.ramp <= 1:
            raise self._refuse("ramp", "give a share of the steps above 0, at most 1")
        self._above_zero("rate")
        self._above_zero("weight_rate")
        self._at_least("spread", 0)


@dataclass(frozen=True)
class DistillationConfig(_Checked):
    """Weights of the loss terms: the task's own and those of distillation from the dense model."""

    task_weight: float = 1.0
    """Weight of the task loss, where there is a transcript or, for a decoder, text that the teacher wrote."""
    posterior_weight: float = 1.0
    """Weight of the KL divergence between the posteriors of teacher and student, per frame or per token."""
    layer_weight: float | None = None
    """Weight of the distance between hidden states, layer by layer; None: 100, or 1 for models with a decoder."""
    layer_distance: str = "squared"
    """squared (relative to the teacher's energy) or l1-cosine (DPHuBERT)."""
    match_every: int = 1
    """Compare every n-th hidden state, counted from the first block's input."""
    text: str = "transcripts"
    """Decoder input of a Whisper: transcripts where there are any, or always the teacher's own text."""

    def __post_init__(self) -> None:
        for name in ("task_weight", "posterior_weight"):
            self._at_least(name, 0)
        if self.layer_weight is not None:
            self._at_least("layer_weight", 0)
        if not self.task_weight and not self.from_teacher:
            raise self._refuse("task_weight", "without posterior_weight and layer_weight no loss is left: raise one")
        self._at_least("match_every", 1)
        self._one_of("layer_distance", LAYER_DISTANCES)
        self._one_of("text", TEXTS)

    @property
    def from_teacher(self) -> bool:
        """Whether any term compares the student with the teacher."""
        return self.posterior_weight > 0 or self.layer_weight != 0


@dataclass(frozen=True)
class RecoveryConfig(_Checked):
    """Refit and fine-tuning after the cut."""

    steps: int = 1200
    """Optimizer steps of recovery; 0 trains nothing after the cut."""
    rate: float | None = None
    """Peak learning rate (AdamW), with cosine decay to zero; None scales it to the size of the model's weights: 5e-4
    where these are about 0.1, 1.4e-4 for Whisper tiny, whose weights are smaller."""
    warmup: float = 0.05
    """Share of the steps over which the rate rises."""
    refit: bool = True
    """Re-solve the output projection of every branch after the cut, by least squares against the dense model."""
    refit_batches: int = 64
    """Calibration batches for the refit."""

    def __post_init__(self) -> None:
        self._at_least("steps", 0)
        self._at_least("refit_batches", 1)
        self._above_zero("rate")
        if not 0 <= self.warmup <= 1:
            raise self._refuse("warmup", "give a share of the steps, 0 to 1")


@dataclass(frozen=True)
class PruneConfig(_Checked):
    """Everything that decides what a pruning run does; the same config, data and seed give the same model."""

    remove: float = 0.5
    """Share to remove; this and the next three are `TargetConfig`'s."""
    rtf: float | None = None
    budget: str = "both"
    of: str = "blocks"
    method: str = "curvature"
    """How to choose what is cut, by name in the registry of methods: curvature (second-order scores), l0 (learned
    gates), modules (learned gates of whole modules), taylor-iterative, taylor, llm-pruner, llm-pruner-vector, flap,
    wanda, minitron, activation, magnitude, shortgpt (whole blocks), layers (evenly spaced) or random."""
    protect: tuple[str, ...] = ()
    """Kinds (attention, conv, ffn) and layers (0, 1, ...) that stay whole."""
    multiple_of: int = 1
    """Round the widths of feed-forwards and convolutions to multiples of this."""
    calibration_batches: int = 64
    """Calibration batches used to compute importance scores."""
    control: bool = False
    """Also fine-tune the dense model for as many steps, as a control to compare with."""
    low_memory: bool = False
    """bfloat16 teacher and activation checkpointing: less memory, slower steps."""
    precision: str = "auto"
    """bf16, fp32, or auto: bf16 where the device multiplies it fast."""
    validate_every: int = 100
    """Steps between validations on the dev set."""
    save_every: int = 100
    """Steps between saved states."""
    seed: int = 0
    """Every random draw follows from it."""
    gates: GateConfig = field(default_factory=GateConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    recovery: RecoveryConfig = field(default_factory=RecoveryConfig)
    latency: LatencyConfig = field(default_factory=LatencyConfig)
    batches: BatchConfig = field(default_factory=lambda: BatchConfig(augment=AugmentConfig.none()))

    def __post_init__(self) -> None:
        target = self.target
        object.__setattr__(self, "budget", target.budget)
        object.__setattr__(self, "of", target.of)
        for name, least in {"multiple_of": 1, "calibration_batches": 1, "validate_every": 0, "save_every": 0}.items():
            self._at_least(name, least)
        self._one_of("precision", PRECISIONS)
        usable_seed("seed", self.seed, owner=type(self).__name__)
        if self.budget != "latency" and self.latency != LatencyConfig():
            raise UserError("a latency table, runtime or threads need the latency budget or a real-time factor")
        if self.control and self.low_memory:
            raise self._refuse("control", "low_memory holds in bfloat16 what it would train: leave one of them out")

    @property
    def target(self) -> TargetConfig:
        """The target by itself."""
        return TargetConfig(self.remove, self.rtf, self.budget, self.of)


def differing(ours: Mapping[str, Any], theirs: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted name and both values of every option that both state, alone or in a group, and state differently."""
    for name, value in ours.items():
        other = theirs.get(name, value)
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            yield from differing(value, other, f"{prefix}{name}.")
        elif value != other:
            yield f"{prefix}{name}", value, other
