"""The texts of an export are compared with the model's: rounding is let pass, another label is not."""

import copy
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from helpers.families import END, FAMILIES, shaken

import trimbre
from trimbre.errors import OptionError, UserError
from trimbre.exporting.ctc import first_gap
from trimbre.exporting.onnx import EQUAL
from trimbre.exporting.runtime import ExportedModel
from trimbre.exporting.targets import noise
from trimbre.exporting.whisper import check_rules
from trimbre.exporting.whisper import first_gap as first_gap_of_whisper
from trimbre.models.families.registry import head_of
from trimbre.models.heads.generation import GenerationRules
from trimbre.models.inputs import features_of

PARAKEET, WHISPER = FAMILIES["parakeet"], FAMILIES["whisper, multilingual"]


@pytest.fixture(scope="module")
def parakeet():
    torch.manual_seed(0)
    return shaken(PARAKEET.build())


@pytest.fixture(scope="module")
def inputs():
    return features_of(noise((1.4,), 16_000), PARAKEET.processor())


class Altered(torch.nn.Module):
    """A model whose logits are altered."""

    def __init__(self, model, alter):
        super().__init__()
        self.model, self.alter, self.head, self.config = model, alter, head_of(model), model.config
        self._get_subsampling_output_length = getattr(model, "_get_subsampling_output_length", None)

    def __getattr__(self, name):
        return super().__getattr__(name) if name in ("model", "alter") else getattr(self.model, name)

    def forward(self, **given):
        return SimpleNamespace(logits=self.alter(self.model(**given).logits.clone()))


def swapped(by):
    """An alteration that makes the second likeliest label of the first frame the likeliest, by lowering the other."""

    def alter(logits):
        best, second = logits[0, 0].topk(2).indices
        logits[0, 0, best] = logits[0, 0, second] - by
        return logits

    return alter


def test_equal_labels_have_no_gap(parakeet, inputs):
    assert first_gap(parakeet, Altered(parakeet, lambda logits: logits), inputs) is None
    assert first_gap(parakeet, Altered(parakeet, lambda logits: logits.log_softmax(-1)), inputs) is None


def test_the_gap_is_how_far_the_model_has_two_labels_apart(parakeet, inputs):
    (scores,) = head_of(parakeet).frame_logits(parakeet, inputs)
    best, second = scores[0].topk(2).values
    found = first_gap(parakeet, Altered(parakeet, swapped(1e-6)), inputs)
    assert found == pytest.approx(float((best - second) / scores.abs().max()))
    tied = copy.deepcopy(parakeet)
    label, other = scores[0].topk(2).indices
    rows = next(m for m in tied.modules() if getattr(m, "weight", None) is not None and len(m.weight) == 30)
    with torch.no_grad():
        rows.weight[other], rows.bias[other] = rows.weight[label], rows.bias[label] - 1e-6
    assert first_gap(tied, Altered(tied, swapped(1e-6)), inputs) <= EQUAL


def test_frames_that_are_missing_are_no_rounding(parakeet, inputs):
    exported = SimpleNamespace(head=SimpleNamespace(frame_logits=lambda model, given: [torch.zeros(3, 30)]))
    assert first_gap(parakeet, exported, inputs) == math.inf


def test_an_export_of_a_ctc_model_that_gives_another_text_is_refused(parakeet, tmp_path, monkeypatch):
    forward = ExportedModel.forward

    def shifted(self, **given):
        return SimpleNamespace(logits=forward(self, **given).logits.roll(1, -1))

    monkeypatch.setattr(ExportedModel, "forward", shifted)
    with pytest.raises(UserError, match="gives another text than the model for 11200 samples of noise: nothing was wr"):
        trimbre.export(parakeet, PARAKEET.processor(), to="onnx", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.family("whisper")
def test_the_gap_of_a_whisper_is_where_the_texts_begin_to_differ():
    """Or where the languages do that are detected."""
    torch.manual_seed(0)
    model, processor = shaken(WHISPER.build()), WHISPER.processor()
    features = features_of(noise((1.4,), 16_000), processor)["input_features"]

    def gap(rules, text, language=None):
        exported = SimpleNamespace(
            generation_config=rules,
            generate=lambda features, generation_config: torch.tensor([text]),
            detect_language=lambda features: torch.tensor([language]),
        )
        return first_gap_of_whisper(model, exported, {"input_features": features})

    def scores(rules, *text):
        """Of the labels that may follow a text."""
        with torch.no_grad():
            found = model(features, decoder_input_ids=torch.tensor([text])).logits[0, -1]
        return {label: float(score) for label, score in enumerate(found) if label not in rules.never}

    rules = GenerationRules.of(model, processor).preset("<|de|>", "transcribe")
    (text,) = model.generate(features, language="de", task="transcribe").tolist()
    assert len(text) > 4
    known = scores(rules, *rules.prompt(), *text[:3])
    largest = max(map(abs, known.values()))
    other = max(known.keys() - {text[3], END}, key=known.get)
    assert gap(rules, text) is None
    assert gap(rules, [*text[:3], other, *text[4:]]) == pytest.approx((known[text[3]] - known[other]) / largest)
    assert gap(rules, text[:3]) == pytest.approx((known[text[3]] - known[END]) / largest)
    assert gap(rules, [*text[:3], rules.never[0], *text[4:]]) == math.inf
    detecting = GenerationRules.of(model, processor)
    known = scores(replace(detecting, never=()), detecting.start)
    best, second = sorted(detecting.languages.values(), key=known.get, reverse=True)
    expected = (known[best] - known[second]) / max(map(abs, known.values()))
    assert gap(detecting, text, second) == pytest.approx(expected)


@pytest.mark.family("whisper")
@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("English", {}, "to='onnx-asr': .* this model's texts begin otherwise: export to onnx"),
        (
            "multilingual",
            {"forced_decoder_ids": None},
            "to='onnx-asr': .* begin otherwise: give a task, or export to onnx",
        ),
        ("multilingual", {"task": "translate"}, "task='translate': onnx-asr only transcribes: export to onnx"),
        ("multilingual", {"no_repeat_ngram_size": 3}, "to='onnx-asr': .* asks for no_repeat_ngram_size=3, which it"),
        ("multilingual", {"repetition_penalty": 1.2}, "to='onnx-asr': .* asks for repetition_penalty=1.2, which it"),
    ],
)
def test_what_onnx_asr_cannot_follow_is_refused(name, settings, said):
    family = FAMILIES[f"whisper, {name}"]
    model = family.build()
    for setting, value in settings.items():
        setattr(model.generation_config, setting, value)
    with pytest.raises(OptionError, match=said):
        check_rules(GenerationRules.of(model, family.processor()))
    assert GenerationRules.of(model, family.processor()).end == END
