"""An exported Whisper on ONNX Runtime, with the interface of a model: greedy generation for windows of audio."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import LogitsProcessorList
from transformers.generation.logits_process import NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor

from trimbre.exporting.session import session
from trimbre.models.heads.generation import GenerationRules
from trimbre.models.heads.whisper import Whisper

Caches = dict[str, np.ndarray]


class ExportedWhisper(nn.Module):
    """An exported encoder and decoder whose `generate` gives the tokens of the model that they were exported from.

    Decoding, evaluation and timing need its head, `generate`, `detect_language` and the rules that it generates by.

    Args:
        described: content of export.json.
    """

    head = Whisper()
    device = torch.device("cpu")

    def __init__(self, folder: Path, described: Mapping[str, Any], *, threads: int = 1):
        super().__init__()
        files = described["files"]
        self.generation_config = GenerationRules.from_json(described["rules"])
        self.encoder = session(folder / files["encoder_model"], threads=threads)
        self.decoder = session(folder / files["decoder_model_merged"], threads=threads)
        self.empty: Caches = {
            one.name: np.zeros((0, one.shape[1], 0, one.shape[3]), dtype=np.float32)
            for one in self.decoder.get_inputs()
            if one.name.startswith("past_key_values.")
        }

    def generate(
        self,
        input_features: Tensor,
        *,
        language: str | Sequence[str] | None = None,
        task: str | None = None,
        generation_config: GenerationRules | None = None,
        **asked: Any,
    ) -> Tensor:
        """Generate greedily, within the rules of export.json, until every text has ended.

        Args:
            input_features: whole windows, (batch, mel bands, frames).
            language: language code, such as `en`, or that of every window; None takes the preset one, or lets a
                multilingual model detect it for each window.
            task: `transcribe` or `translate`; None takes the preset one.
            generation_config: rules in place of those of export.json.
            asked: further options of a model's `generate`, which ask for what is done here anyway.

        Returns:
            (batch, tokens) after the prompt, without the end; padded as by the model's own `generate`.

        Raises:
            OptionError: the model cannot be given that language or task.
        """
        rules = generation_config or self.generation_config
        hidden = self.encode(input_features)
        spoken = [language] * len(hidden) if language is None or isinstance(language, str) else language
        text = self.prompt(hidden, [rules.prompt(*rules.checked(one, task)) for one in spoken])
        begun, most = text.shape[1], rules.most(text.shape[1])
        scores, caches = self.step(text, hidden, self.empty)
        going = np.ones(len(text), dtype=bool)
        while True:
            scores = by_rules(rules, torch.from_numpy(text), torch.from_numpy(scores), begun).numpy()
            following = np.where(going, scores.argmax(-1), rules.padding)
            text = np.concatenate([text, following[:, None]], axis=1)
            going &= following != rules.end
            if not going.any() or text.shape[1] >= most:
                return torch.from_numpy(_ended(text[:, begun:], rules))
            scores, caches = self.step(text[:, -1:], hidden, caches)

    def detect_language(self, input_features: Tensor, *, generation_config: GenerationRules | None = None) -> Tensor:
        """The token of the likeliest language of each window, (batch,), of features (batch, mel bands, frames)."""
        rules = generation_config or self.generation_config
        return torch.from_numpy(self.detected(self.encode(input_features), rules))

    def encode(self, input_features: Tensor) -> np.ndarray:
        """The encoder's output, (batch, positions, dim), of features (batch, mel bands, frames)."""
        (hidden,) = self.encoder.run(["last_hidden_state"], {"input_features": input_features.numpy()})
        return np.asarray(hidden)

    def detected(self, hidden: np.ndarray, rules: GenerationRules) -> np.ndarray:
        """The token of the likeliest language of each window, (batch,), of the encoder's output."""
        known = np.array(sorted(rules.languages.values()))
        scores, _ = self.step(np.full((len(hidden), 1), rules.start), hidden, self.empty)
        return np.asarray(known[scores[:, known].argmax(-1)])

    def prompt(self, hidden: np.ndarray, prompts: Sequence[tuple[int | None, ...]]) -> np.ndarray:
        """Tokens of prompts of one length, (batch, tokens), with detected languages where they are None."""
        unknown = np.array([None in prompt for prompt in prompts])
        text = np.array([[-1 if token is None else token for token in prompt] for prompt in prompts])
        if unknown.any():
            text[unknown, 1] = self.detected(hidden[unknown], self.generation_config)
        return text

    def step(self, tokens: np.ndarray, hidden: np.ndarray, caches: Caches) -> tuple[np.ndarray, Caches]:
        """Scores of the next token, (batch, labels), and the caches after `tokens`."""
        begun = caches is not self.empty
        # Caches of the audio stay what the first call returned.
        renewed = [name for name in caches if not (begun and ".encoder." in name)]
        logits, *made = self.decoder.run(
            ["logits", *(name.replace("past_key_values", "present") for name in renewed)],
            {
                "input_ids": tokens,
                "encoder_hidden_states": hidden,
                "use_cache_branch": np.array([begun]),
                **caches,
            },
        )
        return logits[:, -1], caches | dict(zip(renewed, made, strict=True))


def by_rules(rules: GenerationRules, text: Tensor, scores: Tensor, begun: int) -> Tensor:
    """The scores (batch, labels) of the token after a text (batch, tokens), whose prompt has `begun` tokens."""
    processors = LogitsProcessorList()
    if rules.repetition_penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(rules.repetition_penalty))
    if rules.no_repeat_ngram_size > 0:
        processors.append(NoRepeatNGramLogitsProcessor(rules.no_repeat_ngram_size))
    ruled: Tensor = processors(text, scores.clone())  # type: ignore[arg-type]
    ruled[:, list(rules.never)] = -torch.inf
    if text.shape[1] == begun:
        ruled[:, list(rules.not_first)] = -torch.inf
    return ruled


def _ended(text: np.ndarray, rules: GenerationRules) -> np.ndarray:
    """Texts (batch, tokens) without their ends, and no wider than the longest."""
    ends = text == rules.end
    lengths = np.where(ends.any(1), ends.argmax(1), text.shape[1])
    inside = np.arange(text.shape[1]) < lengths[:, None]
    return np.where(inside, text, rules.padding)[:, : lengths.max()]
