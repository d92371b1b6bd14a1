"""An exported Whisper on ONNX Runtime, in the form of a model: it hears windows and writes their texts."""

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
    """An exported encoder and decoder that write what `generate` of the model they were made from would.

    It has what decoding, evaluation and timing ask of a Whisper: its head, `generate`, and whether it is multilingual.

    Args:
        described: what stands in export.json.
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
        """The likeliest token after each other, of those that the rules allow, until every text has ended.

        Args:
            input_features: whole windows, (batch, mel bands, frames).
            language: what is spoken, such as `en`; None lets a multilingual model decide for each window.
            asked: the rest of what `generated` asks of a model, which is all that there is here.

        Returns:
            (batch, tokens), what every text begins with included; filled up with the token that ends it.
        """
        (heard,) = self.encoder.run(["last_hidden_state"], {"input_features": input_features.numpy()})
        rules = self.rules
        text = self.begun(heard, language)
        scores, caches = self.step(text, heard, self.empty)
        scores[:, rules["not_first"]] = -np.inf
        going = np.ones(len(text), dtype=bool)
        while True:
            scores[:, rules["never"]] = -np.inf
            following = np.where(going, scores.argmax(-1), rules["end"])
            text = np.concatenate([text, following[:, None]], axis=1)
            going &= following != rules["end"]
            if not going.any() or text.shape[1] >= rules["most"]:
                return torch.from_numpy(text)
            scores, caches = self.step(text[:, -1:], heard, caches)

    def begun(self, heard: np.ndarray, language: str | None) -> np.ndarray:
        """What a text begins with, (batch, tokens)."""
        languages = self.rules["languages"]
        columns = [np.full(len(heard), self.rules["start"])]
        if languages and language is None:
            known = np.array(list(languages.values()))
            scores, _ = self.step(columns[0][:, None], heard, self.empty)
            columns.append(known[scores[:, known].argmax(-1)])
        elif languages:
            columns.append(np.full(len(heard), languages[f"<|{language}|>"]))
        columns += [np.full(len(heard), token) for token in self.rules["after"]]
        return np.stack(columns, axis=1)

    def step(self, tokens: np.ndarray, heard: np.ndarray, caches: Caches) -> tuple[np.ndarray, Caches]:
        """Scores of what follows the last of `tokens`, (batch, labels), and the caches after them."""
        begun = caches is not self.empty
        # Those of the audio stay what they were made at first.
        renewed = [name for name in caches if not (begun and ".encoder." in name)]
        logits, *made = self.decoder.run(
            ["logits", *(name.replace("past_key_values", "present") for name in renewed)],
            {
                "input_ids": tokens,
                "encoder_hidden_states": heard,
                "use_cache_branch": np.array([begun]),
                **caches,
            },
        )
        return logits[:, -1], caches | dict(zip(renewed, made, strict=True))
