"""An exported Whisper on ONNX Runtime, with the interface of a model: greedy generation for windows of audio."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trimbre.exporting.session import session
from trimbre.models.heads.seq2seq import Seq2Seq

Caches = dict[str, np.ndarray]


class ExportedWhisper(nn.Module):
    """An exported encoder and decoder whose `generate` gives the tokens of the model that they were exported from.

    Decoding, evaluation and timing need its head, `generate`, and whether it is multilingual.

    Args:
        described: content of export.json.
    """

    head = Seq2Seq()
    device = torch.device("cpu")

    def __init__(self, folder: Path, described: Mapping[str, Any], *, threads: int = 1):
        super().__init__()
        files, self.rules = described["files"], described["rules"]
        self.encoder = session(folder / files["encoder_model"], threads=threads)
        self.decoder = session(folder / files["decoder_model_merged"], threads=threads)
        self.empty: Caches = {
            one.name: np.zeros((0, one.shape[1], 0, one.shape[3]), dtype=np.float32)
            for one in self.decoder.get_inputs()
            if one.name.startswith("past_key_values.")
        }
        self.generation_config = SimpleNamespace(is_multilingual=bool(self.rules["languages"]))

    def generate(self, input_features: Tensor, *, language: str | None = None, **asked: Any) -> Tensor:
        """Generate greedily, within the rules of export.json, until every text has ended.

        Args:
            input_features: whole windows, (batch, mel bands, frames).
            language: language code, such as `en`; None lets a multilingual model detect it for each window.
            asked: further options of a model's `generate`, which ask for what is done here anyway.

        Returns:
            (batch, tokens), the prompt included; padded with the end token.
        """
        (hidden,) = self.encoder.run(["last_hidden_state"], {"input_features": input_features.numpy()})
        rules = self.rules
        text = self.prompt(hidden, language)
        scores, caches = self.step(text, hidden, self.empty)
        scores[:, rules["not_first"]] = -np.inf
        going = np.ones(len(text), dtype=bool)
        while True:
            scores[:, rules["never"]] = -np.inf
            following = np.where(going, scores.argmax(-1), rules["end"])
            text = np.concatenate([text, following[:, None]], axis=1)
            going &= following != rules["end"]
            if not going.any() or text.shape[1] >= rules["most"]:
                return torch.from_numpy(text)
            scores, caches = self.step(text[:, -1:], hidden, caches)

    def prompt(self, hidden: np.ndarray, language: str | None) -> np.ndarray:
        """Prompt tokens of each text, (batch, tokens)."""
        languages = self.rules["languages"]
        columns = [np.full(len(hidden), self.rules["start"])]
        if languages and language is None:
            known = np.array(list(languages.values()))
            scores, _ = self.step(columns[0][:, None], hidden, self.empty)
            columns.append(known[scores[:, known].argmax(-1)])
        elif languages:
            columns.append(np.full(len(hidden), languages[f"<|{language}|>"]))
        columns += [np.full(len(hidden), token) for token in self.rules["after"]]
        return np.stack(columns, axis=1)

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
