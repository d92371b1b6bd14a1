"""What a head is: what comes out of a model, how that is trained, and how it is read."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from trimbre.errors import OptionError
from trimbre.models.inputs import features_of, rate_of
from trimbre.models.regularisation import without_regularisation

CHUNK_SECONDS = 20.0
"""Audio that goes through a model without a window of its own in one forward, at most."""
OVERLAP_SECONDS = 4.0
"""Audio that two neighbouring chunks share."""
MANY = 1 << 22
"""Feature frames, or samples, by which output frames are counted: so many that the ratio is exact when rounded."""


class TextDecoder(Protocol):
    """Finds a sentence in the scores of an utterance, such as `trimbre.inference.graph.decoder.DecodingGraph`."""

    def text(self, scores: np.ndarray) -> str:
        """The most likely sentence of (frames, labels) log-probabilities."""

    def to_json(self) -> dict[str, Any]:
        """What reports say of it."""


class Texts(NamedTuple):
    """A batch with its texts, as a forward takes them beside the audio."""

    inputs: Mapping[str, Tensor]
    """What the forward takes, the text included where the model reads one."""
    labels: Tensor | None
    """(batch, tokens), padded with -100."""
    texts: Sequence[str | None]


class Compared(NamedTuple):
    """Posteriors of a student and its teacher."""

    student: Tensor
    """(batch, positions, labels) logits."""
    teacher: Tensor
    """The same of the teacher."""
    valid: Tensor
    """(batch, positions) bool: which positions count."""


@dataclass(frozen=True)
class Transcriber:
    """Recognises audio of any length: `transcriber(audio)` is the text of (samples,) mono at `rate` Hz."""

    rate: int
    """The model's own sampling rate, in Hz."""
    longest: int
    """Samples that go through the model in one forward; a longer recording is taken in pieces."""
    recognise: Callable[[np.ndarray], str]

    def __call__(self, audio: np.ndarray) -> str:
        return self.recognise(audio) if len(audio) else ""


@dataclass(frozen=True)
class Head(ABC):
    """A head's behaviour; what differs between the models that have it is data in its fields."""

    lengths: str | Callable[[Any, Tensor], Tensor] | None = "_get_feat_extract_output_lengths"
    """The model's method from input lengths to output lengths, (batch,) each, by its dotted name, or a function of the
    model and the lengths; None where they are the same."""
    masks_padding: bool = False
    """Whether an utterance has the same output in a padded batch as alone; else clips of one length alone share a batch
    in evaluation. It is no matter where every input is a window of one length."""

    name: ClassVar[str]
    auto_class: ClassVar[str]
    """The Auto class of transformers that loads models with this head."""
    positions: ClassVar[Literal["frames", "tokens"]]
    """What the logits have positions of."""
    layer_weight: ClassVar[float]
    """The default weight of hidden states in distillation."""
    reads_text: ClassVar[bool]
    """Whether the forward takes a text beside the audio."""
    takes_graph: ClassVar[bool]
    """Whether a decoding graph can be searched with its scores."""
    trains: ClassVar[bool]
    """Whether `trimbre.train` trains it, from scratch or from a checkpoint."""
    entry: ClassVar[str] = ""
    """Path of a module that a training forward calls once and first; the model itself by default."""

    def output_lengths(self, model: Any, inputs: Mapping[str, Tensor]) -> Tensor | None:
        """Count the valid output frames of each utterance of a padded batch.

        Args:
            model: only its length arithmetic is used.
            inputs: what its forward takes; `attention_mask` (batch, samples or feature frames) is what counts.

        Returns:
            (batch,) integers, in output frames; None where the batch has no mask, for then the model itself takes
            every frame as valid (wav2vec 2.0 with group-normalised features).
        """
        mask = inputs.get("attention_mask")
        if mask is None:
            return None
        valid = mask.sum(-1)
        if callable(self.lengths):
            return self.lengths(model, valid).long()
        return (valid if self.lengths is None else attrgetter(self.lengths)(model)(valid)).long()

    def samples_per_frame(self, model: nn.Module, processor: Any) -> int:
        """Samples that one output frame stands for, from the model's own length arithmetic."""
        rate, name = rate_of(processor), processor.feature_extractor.model_input_names[0]
        clips = [np.zeros(seconds * rate, dtype=np.float32) for seconds in (10, 20)]
        short, long = (features_of([clip], processor)[name].shape[1] for clip in clips)
        frames = self.output_lengths(model, {"attention_mask": torch.ones(1, MANY, dtype=torch.bool)})
        assert frames is not None  # there is a mask
        return round(10 * rate / (long - short)) * round(MANY / int(frames))

    def forward(
        self, model: Any, inputs: Mapping[str, Tensor], labels: Tensor | None = None, *, hidden_states: bool = False
    ) -> Any:
        """A forward of training: its output has the task's `loss` where there are labels.

        Args:
            labels: (batch, tokens), padded with -100.
            hidden_states: the output has them too.
        """
        return model(**inputs, labels=labels, output_hidden_states=hidden_states)

    def decoding_forward(self, model: Any, inputs: Mapping[str, Tensor]) -> Any:
        """Run what recognition runs, at as many positions: what multiply-accumulates are counted on."""
        return model(**inputs)

    def outputs(self, output: Any) -> Tensor:
        """(batch, positions, dim) what a forward comes to, by which a cut model is compared with the gated one."""
        logits: Tensor = output.logits
        return logits

    def posteriors(self, student: Any, teacher: Any, valid: Tensor) -> list[Compared]:
        """What posterior distillation compares; the divergences are added.

        Args:
            student: output of `forward`; so is `teacher`, of the same inputs.
            valid: (batch, positions) bool, the valid positions of `outputs`.
        """
        return [Compared(student.logits, teacher.logits, valid)]

    def misfit(self, model: Any, processor: Any) -> str | None:
        """What of a processor is not the model's, as a clause of a sentence; None where it spells its output."""
        return None

    def bands(self, model: Any) -> int | None:
        """Mel bands, or what is stacked of them, that the model's first layer takes; None where it takes samples."""
        config = getattr(model.config, "encoder_config", model.config)
        names = ("num_mel_bins", "input_feat_per_channel", "feature_projection_input_dim")
        stated = [getattr(config, name, None) for name in names if model.main_input_name == "input_features"]
        return next((int(number) for number in stated if number), None)

    @abstractmethod
    def hidden_states(
        self, output: Any, valid: Tensor, lengths: Tensor | None
    ) -> list[tuple[tuple[Tensor, ...], Tensor]]:
        """The stacks of hidden states that distillation compares, each with (batch, positions) bool of what counts.

        Args:
            output: of a forward with `output_hidden_states`.
            valid: (batch, positions) bool, the valid positions of `outputs`.
            lengths: (batch,) the valid frames of the audio, of `output_lengths`; None where all are.
        """

    def task_loss(self, model: Any, inputs: Mapping[str, Tensor], labels: Tensor | None) -> Tensor:
        """The loss that the model was trained with, a scalar, without regularisation.

        Args:
            labels: (batch, tokens), padded with -100; None takes the model's own text, which only a head that has it in
                the same forward can.

        Raises:
            ValueError: there are no labels, and the head has no text of its own.
        """
        if labels is None:
            raise ValueError("labels=None: a model that reads text has no loss without one; give labels (add_texts)")
        with without_regularisation(model):
            loss: Tensor = self.forward(model, inputs, labels).loss
        return loss

    def language(self, model: Any) -> str | None:
        """The language that a model writes whatever is spoken, as its configuration says it; None for any."""
        return None

    @abstractmethod
    def add_texts(
        self,
        teacher: Any,
        processor: Any,
        batch: Texts,
        *,
        languages: Sequence[str | None] = (),
        precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> Texts:
        """The batch with the text that the forward reads beside the audio; the teacher's own where there is none.

        Args:
            languages: language codes such as `en`; None where it is not known.
            precision: context that the teacher runs in.
        """

    @abstractmethod
    def example_inputs(self, model: Any, inputs: Mapping[str, Tensor], tokens: int) -> dict[str, Tensor]:
        """What a forward takes: the inputs and, for a model that reads text, so many tokens of made-up text each."""

    def check_asked(self, model: Any, processor: Any, *, language: str | None, task: str | None) -> None:
        """Raise OptionError where a model cannot be given a language or a task.

        Only texts that begin with tokens for both are written by them: here any language may be stated.
        """
        if task not in (None, "transcribe"):
            name = type(model).__name__
            advice = f"a {name} only transcribes, and multilingual Whispers and Canary translate: leave it out"
            raise OptionError("task", task, advice)

    def check_taught(self, model: Any, processor: Any) -> None:
        """Raise UserError where a model does not write texts of the kind that `add_texts` trains it on."""
        return

    @abstractmethod
    def greedy(
        self,
        model: Any,
        inputs: Mapping[str, Tensor],
        processor: Any,
        *,
        languages: Sequence[str | None] = (),
        task: str | None = None,
    ) -> list[str]:
        """The text of every utterance of a padded batch; labels in `inputs` are left out.

        Args:
            languages: of each utterance, for models that are told it; None is left to the model.
            task: `transcribe` or `translate`, for models that are told it; None is left to the model.
        """

    @abstractmethod
    def by_graph(self, model: Any, inputs: Mapping[str, Tensor], graph: TextDecoder) -> list[str]:
        """The text of every utterance of a padded batch by a decoding graph."""

    @abstractmethod
    def transcriber(
        self,
        model: Any,
        processor: Any,
        graph: TextDecoder | None = None,
        *,
        chunk_seconds: float = CHUNK_SECONDS,
        overlap_seconds: float = OVERLAP_SECONDS,
        language: str | None = None,
        task: str | None = None,
    ) -> Transcriber:
        """Long-form decoding.

        Args:
            chunk_seconds: audio that goes through the model in one forward.
            overlap_seconds: audio that two neighbouring chunks share, half of it as context for each of the two.
            language, task: as `greedy` takes them.
        """

    @abstractmethod
    def with_text_length(self, model: Any, tokens: int) -> Any:
        """The model or, where it decides on that itself, a copy that writes so many tokens whatever the audio."""
