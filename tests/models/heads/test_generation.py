"""Whatever a generation config says, texts are those of `generate`, in PyTorch and in an exported graph."""

import copy
import json
from functools import partial

import pytest
import torch
from helpers.families import END, FAMILIES, random_plan, shaken
from transformers import WhisperForConditionalGeneration

import trimbre
from trimbre.data.audio import load_cut
from trimbre.data.batches import Batch
from trimbre.data.corpus import Utterance, write_corpus
from trimbre.data.cuts import read_cuts
from trimbre.errors import OptionError, UserError
from trimbre.exporting import whisper_runtime
from trimbre.exporting.onnx import write_graph
from trimbre.exporting.runtime import load_exported
from trimbre.exporting.targets import layout_for, noise
from trimbre.exporting.whisper_runtime import ExportedWhisper
from trimbre.inference.greedy import greedy
from trimbre.inference.long_form import transcriber
from trimbre.models.checkpoint import save
from trimbre.models.families.registry import anatomy_of
from trimbre.models.heads.generation import GenerationRules
from trimbre.models.inputs import features_of
from trimbre.models.loading import load
from trimbre.pruning.surgery import cut
from trimbre.training.pseudo_labels import PseudoLabeller

pytestmark = pytest.mark.family("whisper")

ENGLISH, MULTILINGUAL = "whisper, English", "whisper, multilingual"
START, EN, DE, TRANSLATE, TRANSCRIBE, PLAIN = (END + number for number in (1, 2, 3, 4, 5, 9))
NOTHING = {"forced_decoder_ids": None}
TABLES = ("lang_to_id", "task_to_id", "no_timestamps_token_id", "is_multilingual")
WRITTEN = range(40, 94)
"""Tokens of some printable characters."""

SETTINGS = {
    "as OpenAI's": {},
    "nothing preset": NOTHING,
    "language": {"language": "de"},
    "language by name": {"language": "German"},
    "task": {"task": "translate"},
    "both": {"language": "<|en|>", "task": "translate"},
    "forced language": {"forced_decoder_ids": [[1, DE], [2, TRANSLATE]]},
    "forced in full": {"forced_decoder_ids": [[1, DE], [2, TRANSCRIBE], [3, PLAIN]]},
    "forced task alone": {"forced_decoder_ids": [[2, TRANSCRIBE]]},
    "preset beside forced": {"forced_decoder_ids": [[1, EN], [2, TRANSLATE]], "language": "de"},
    "multilingual or not": {"is_multilingual": ...},
    "no languages": {"lang_to_id": ..., **NOTHING},
    "no languages, forced": {"lang_to_id": ..., "forced_decoder_ids": [[1, DE], [2, TRANSCRIBE]]},
    "no tables": {**dict.fromkeys(TABLES, ...), **NOTHING},
    "no tables, forced": dict.fromkeys(TABLES, ...),
    "no n-gram twice": {"no_repeat_ngram_size": 2},
    "no token twice": {"no_repeat_ngram_size": 1},
    "penalty": {"repetition_penalty": 1.7},
    "both against loops": {"repetition_penalty": 0.8, "no_repeat_ngram_size": 3},
    "nothing suppressed": {"suppress_tokens": None},
    "an empty list": {"suppress_tokens": [], "begin_suppress_tokens": []},
    "minus one": {"suppress_tokens": [-1], "begin_suppress_tokens": [-1]},
    "not at first": {"begin_suppress_tokens": list(WRITTEN)},
    "few new tokens": {"max_new_tokens": 5},
    "short": {"max_length": 7},
    "no length": {"max_length": None},
    "sampling": {"do_sample": True, "temperature": 0.7, "top_k": 3},
    "a prompt of ids": {"prompt_ids": [END + 7, 60, 61]},
    "another pad token": {"pad_token_id": 50},
}
ENGLISH_SETTINGS = {
    "as it is": {},
    "forced": {"forced_decoder_ids": [[1, PLAIN]]},
    "no tables": dict.fromkeys(TABLES, ...),
    "without a word of it": {"is_multilingual": ...},
}
CASES = [(MULTILINGUAL, name) for name in SETTINGS] + [(ENGLISH, name) for name in ENGLISH_SETTINGS]


@pytest.fixture(scope="module")
def dense():
    """A tiny model of each kind, whose texts have no times and end after some tokens."""
    found = {}
    for name in (ENGLISH, MULTILINGUAL):
        torch.manual_seed(0)
        found[name] = shaken(FAMILIES[name].build())
        with torch.no_grad():
            decoder = found[name].model.decoder
            decoder.embed_tokens.weight[PLAIN + 1 :] = 0
            decoder.embed_positions.weight[24:] += 9 * decoder.embed_tokens.weight[END]
    return found


@pytest.fixture(scope="module")
def features():
    return features_of(noise((0.7, 1.3, 1.9), 16_000), FAMILIES[MULTILINGUAL].processor())["input_features"]


@pytest.fixture(scope="module")
def exported(dense, tmp_path_factory):
    """A function from a model with its settings to its exported graphs, which the settings do not change."""
    folder = tmp_path_factory.mktemp("exported")
    written = set()

    def export(name, model):
        layout = layout_for("onnx", model, FAMILIES[name].processor())
        files = {graph.name: f"{name}-{graph.name}.onnx" for graph in layout.graphs}
        if name not in written:
            for graph in layout.graphs:
                write_graph(model, graph, folder / files[graph.name])
            written.add(name)
        return ExportedWhisper(folder, {**layout.described, "files": files}, threads=1)

    return export


def with_settings(model, settings):
    """The model with some of its settings replaced, or taken out where they are `...`."""
    model = copy.copy(model)
    model.generation_config = copy.deepcopy(model.generation_config)
    for name, value in settings.items():
        if value is ...:
            if hasattr(model.generation_config, name):
                delattr(model.generation_config, name)
        else:
            setattr(model.generation_config, name, value)
    return model


def own(model, features, **asked):
    with torch.no_grad():
        return model.generate(features, **asked)


def texts(tokens):
    decoded = FAMILIES[MULTILINGUAL].processor().batch_decode(tokens, skip_special_tokens=True)
    return [text.strip() for text in decoded]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "case"), CASES)
def test_texts_are_those_of_generate(name, case, dense, exported, features):
    model = with_settings(dense[name], (SETTINGS if name == MULTILINGUAL else ENGLISH_SETTINGS)[case])
    processor, inputs = FAMILIES[name].processor(), {"input_features": features}
    expected = own(model, features)
    assert greedy(model, inputs, processor) == texts(expected)
    graph = exported(name, model)
    assert torch.equal(graph.generate(features), expected)
    assert greedy(graph, inputs, processor) == texts(expected)


@pytest.mark.parametrize(
    "settings",
    [
        {"num_beams": 3},
        {"num_beams": 2, "num_return_sequences": 2},
        {"return_timestamps": True},
        {"min_new_tokens": 30},
    ],
    ids=str,
)
def test_what_an_exported_model_cannot_follow_is_followed_here_and_refused_there(settings, dense, features):
    model = with_settings(dense[MULTILINGUAL], {"suppress_tokens": None, **settings})
    processor, inputs = FAMILIES[MULTILINGUAL].processor(), {"input_features": features}
    expected = own(model, features, num_return_sequences=1)
    assert greedy(model, inputs, processor) == texts(expected)
    (name, value), *_ = settings.items()
    with pytest.raises(UserError, match=f"generation config asks for {name}={value}, and an exported one does not"):
        layout_for("onnx", model, processor)


@pytest.mark.parametrize("case", ["as OpenAI's", "nothing preset", "both", "forced language", "multilingual or not"])
def test_a_language_that_is_asked_for_takes_the_place_of_the_preset_one(case, dense, exported, features):
    model = with_settings(dense[MULTILINGUAL], SETTINGS[case])
    processor, inputs = FAMILIES[MULTILINGUAL].processor(), {"input_features": features}
    for each in (model, exported(MULTILINGUAL, model)):
        asked = greedy(each, inputs, processor, languages=["de", None, "en"])
        assert asked[0] == texts(own(model, features[:1], language="de"))[0]
        assert asked[1] == texts(own(model, features[1:2]))[0]
        assert asked[2] == texts(own(model, features[2:], language="en"))[0]
        translated = greedy(each, inputs, processor, languages=["de"] * 3, task="translate")
        assert translated == texts(own(model, features, language=["de"] * 3, task="translate"))
        assert greedy(each, inputs, processor, task="translate") == texts(own(model, features, task="translate"))
    preset = exported(MULTILINGUAL, model)
    preset.generation_config = GenerationRules.of(model, processor).preset("<|de|>", "translate")
    assert torch.equal(preset.generate(features), own(model, features, language="de", task="translate"))


def test_an_outdated_config_has_its_tables_from_the_tokenizer(dense, exported, features):
    new = with_settings(dense[MULTILINGUAL], SETTINGS["as OpenAI's"])
    old = with_settings(new, SETTINGS["no tables"])
    processor, inputs = FAMILIES[MULTILINGUAL].processor(), {"input_features": features}
    for task in ("transcribe", "translate"):
        expected = texts(own(new, features, language="de", task=task))
        for each in (old, exported(MULTILINGUAL, old)):
            assert greedy(each, inputs, processor, languages=["de"] * 3, task=task) == expected
    assert greedy(old, inputs, processor, task="translate") == texts(own(new, features, task="translate"))


@pytest.mark.parametrize(
    ("name", "language", "task", "said"),
    [
        (ENGLISH, "de", None, "language='de': the model is English-only: take a multilingual one"),
        (
            ENGLISH,
            None,
            "translate",
            "task='translate': the model is English-only and translates nothing: leave it out",
        ),
        (MULTILINGUAL, "fr", None, "language='fr': the model has no such language; it has de, en"),
        (MULTILINGUAL, None, "sing", "task='sing': choose one of transcribe, translate"),
        (
            "parakeet",
            "de",
            "translate",
            "task='translate': a ParakeetForCTC only transcribes, and multilingual Whispers",
        ),
    ],
)
def test_a_language_or_task_that_a_model_lacks_is_refused(name, language, task, said):
    model, processor = FAMILIES[name].build(), FAMILIES[name].processor()
    with pytest.raises(OptionError) as error:
        transcriber(model, processor, language=language, task=task)
    assert str(error.value).startswith(said)


def test_english_only_models_take_english_and_transcribe(dense, features):
    model, processor = dense[ENGLISH], FAMILIES[ENGLISH].processor()
    asked = greedy(model, {"input_features": features}, processor, languages=["en", "English", None], task="transcribe")
    assert asked == texts(own(model, features))


@pytest.mark.parametrize(
    ("null", "alike"),
    [
        ({"forced_decoder_ids": []}, NOTHING),
        ({"lang_to_id": None}, {"lang_to_id": ...}),
        (dict.fromkeys(TABLES), dict.fromkeys(TABLES, ...)),
        ({"no_timestamps_token_id": None}, {"no_timestamps_token_id": ...}),
        ({"decoder_start_token_id": None}, {}),
    ],
)
def test_what_is_null_is_as_good_as_left_out(null, alike, dense, features):
    expected = own(with_settings(dense[MULTILINGUAL], alike), features)
    model = with_settings(dense[MULTILINGUAL], null)
    assert greedy(model, {"input_features": features}, FAMILIES[MULTILINGUAL].processor()) == texts(expected)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"language": "fr"}, "asks for language='fr', for which it has no token"),
        ({"task": "sing"}, "asks for task='sing', for which it has no token"),
        ({"forced_decoder_ids": [[1, DE], [3, PLAIN]]}, "forced_decoder_ids=.* leave positions out"),
        ({"max_new_tokens": 400}, "transformers refuses the model's generation config, .*max_new_tokens"),
        ({"eos_token_id": [END, 3]}, "eos_token_id=.*give each one token"),
        ({"max_length": "20"}, "max_length='20' in place of a whole number"),
        ({"no_repeat_ngram_size": 2.5}, "no_repeat_ngram_size=2.5 in place of a whole number"),
        ({"pad_token_id": [END]}, "pad_token_id=.* in place of a whole number"),
        ({"suppress_tokens": 5}, "suppress_tokens=5 in place of a list of tokens"),
        ({"lang_to_id": [EN]}, "lang_to_id=.* in place of a table"),
        ({"forced_decoder_ids": "x"}, "forced_decoder_ids='x' in place of pairs"),
        ({"forced_decoder_ids": [[1, "de"]]}, "forced_decoder_ids=.* in place of pairs"),
        ({"no_speech_threshold": 0.6, "logprob_threshold": -1.0}, "transformers refuses"),
    ],
)
def test_a_generation_config_that_cannot_be_meant_is_refused(settings, said, dense, features):
    model = with_settings(dense[MULTILINGUAL], settings)
    with pytest.raises(UserError, match=said):
        greedy(model, {"input_features": features}, FAMILIES[MULTILINGUAL].processor())


@pytest.mark.parametrize("case", ["as OpenAI's", "nothing preset", "task", "language"])
def test_a_long_recording_is_in_the_language_of_its_first_window(case, dense, exported, monkeypatch):
    """Another language is detected in the windows after the first, were they asked."""
    model, processor = with_settings(dense[MULTILINGUAL], SETTINGS[case]), FAMILIES[MULTILINGUAL].processor()
    (clip,) = noise((4.5,), 16_000)
    detected = []

    def detect(features, *, generation_config=None, **rest):
        detected.append(len(features))
        return torch.full((len(features),), DE if len(detected) == 1 else EN)

    model.detect_language = detect
    found = transcriber(model, processor)(clip)
    detected.clear()
    stated = {} if case in ("task", "as OpenAI's") else {"forced_decoder_ids": [[1, DE]]}
    known = with_settings(model, stated if case == "nothing preset" else {"language": "de"})
    assert found == transcriber(known, processor)(clip)
    assert not detected
    graph = exported(
        MULTILINGUAL,
        dense[MULTILINGUAL] if case == "as OpenAI's" else with_settings(dense[MULTILINGUAL], SETTINGS[case]),
    )
    monkeypatch.setattr(graph, "detected", lambda hidden, rules: detect(torch.from_numpy(hidden)).numpy())
    assert transcriber(graph, processor)(clip) == found


@pytest.mark.slow
@pytest.mark.parametrize(("name", "case"), CASES)
def test_what_is_dictated_is_what_the_teacher_writes(name, case, dense, features):
    """Behind the prompt of `generate`; where an outdated config leaves it to the model, that of a transcript."""
    settings = (SETTINGS if name == MULTILINGUAL else ENGLISH_SETTINGS)[case]
    model, processor = with_settings(dense[name], settings), FAMILIES[name].processor()
    batch = Batch({"input_features": features}, None, [None, "abc", None], ["x"] * 3, 1.0, {}, [None] * 3)
    made = PseudoLabeller(model, processor)(batch)
    rules = GenerationRules.of(model, processor).of_transcripts
    begun = len(rules.prompt())
    prompts = made.inputs["decoder_input_ids"][:, :begun].tolist()
    seen = Seen()
    with torch.no_grad():
        config = rules.config(model.generation_config, None, None)
        expected = model.generate(features, generation_config=config, logits_processor=[seen], max_new_tokens=1)
    assert prompts == seen.prompt.tolist()
    assert prompts[0][-1] == PLAIN
    if {*TABLES[:3]} - {*settings} and "no tables" not in case:
        expected = texts(own(model, features))
        assert [made.texts[0], made.texts[2]] == [expected[0], expected[2]]
    assert (made.labels[:, : begun - 1] == -100).all()


class Seen:
    """Keeps the prompt that a text begins with."""

    prompt = None

    def __call__(self, text, scores):
        if self.prompt is None:
            self.prompt = text
        return scores


def test_texts_without_times_do_not_teach_a_model_that_writes_them(dense, features):
    model = with_settings(dense[MULTILINGUAL], {"return_timestamps": True})
    batch = Batch({"input_features": features}, None, ["a"] * 3, ["x"] * 3, 1.0, {}, [None] * 3)
    refused = r"asks for return_timestamps=True.*set return_timestamps to false"
    with pytest.raises(UserError, match=refused):
        PseudoLabeller(model, FAMILIES[MULTILINGUAL].processor())(batch)
    with pytest.raises(UserError, match=refused):
        trimbre.preview(model, FAMILIES[MULTILINGUAL].processor(), train=[], device="cpu")


@pytest.mark.parametrize(
    ("in_config", "stated"),
    [
        ({}, {}),
        ({"forced_decoder_ids": [[1, DE], [2, TRANSCRIBE]]}, {}),
        ({}, None),
        ({"forced_decoder_ids": [[1, EN]]}, None),
    ],
)
def test_checkpoints_of_2022_write_what_they_write_in_transformers(in_config, stated, dense, features, tmp_path):
    """Whose generation config has no tables, or is not there: their config.json says what is forced."""
    processor = FAMILIES[MULTILINGUAL].processor()
    dense[MULTILINGUAL].save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | in_config | {"suppress_tokens": [*range(40)]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    if stated is None:
        (tmp_path / "generation_config.json").unlink()
    else:
        kept = {"max_length": 30, "decoder_start_token_id": START, "eos_token_id": END, "pad_token_id": END}
        (tmp_path / "generation_config.json").write_text(json.dumps(kept))
    model, processor = load(tmp_path)
    theirs = WhisperForConditionalGeneration.from_pretrained(tmp_path).eval()
    inputs = {"input_features": features}
    assert greedy(model, inputs, processor) == texts(own(theirs, features))
    for name in TABLES[:3]:
        setattr(theirs.generation_config, name, getattr(dense[MULTILINGUAL].generation_config, name))
    assert greedy(model, inputs, processor, languages=["de"] * 3) == texts(own(theirs, features, language="de"))


def test_a_pruned_checkpoint_keeps_its_generation_config(dense, features, tmp_path):
    settings = {"language": "de", "task": "translate", "no_repeat_ngram_size": 3, "max_new_tokens": 9}
    model, processor = with_settings(dense[MULTILINGUAL], settings), FAMILIES[MULTILINGUAL].processor()
    small = cut(model, random_plan(anatomy_of(model), 1))
    save(small, processor, tmp_path / "small")
    again = load(tmp_path / "small").model
    assert {name: getattr(again.generation_config, name) for name in settings} == settings
    assert greedy(again, {"input_features": features}, processor) == texts(own(small, features))


@pytest.mark.slow
def test_an_export_that_writes_another_text_is_refused(dense, tmp_path, monkeypatch):
    monkeypatch.setattr(whisper_runtime, "by_rules", lambda rules, text, scores, begun: scores.roll(1, -1))
    model, processor = dense[MULTILINGUAL], FAMILIES[MULTILINGUAL].processor()
    with pytest.raises(UserError, match="gives another text than the model for 11200 samples of noise: nothing was wr"):
        trimbre.export(model, processor, to="onnx", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_an_export_is_told_language_and_task(dense, features, tmp_path):
    model, processor = dense[MULTILINGUAL], FAMILIES[MULTILINGUAL].processor()
    trimbre.export(model, processor, to="onnx", out=tmp_path / "out", language="German", task="translate")
    found = load_exported(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "export.json").read_text())["rules"]["prompt"] == [
        START,
        DE,
        TRANSLATE,
        PLAIN,
    ]
    assert torch.equal(found.model.generate(features), own(model, features, language="de", task="translate"))


@pytest.mark.parametrize(("name", "known"), [(ENGLISH, "the model is English-only"), (MULTILINGUAL, "it has de, en")])
def test_utterances_in_a_language_that_a_model_lacks_are_named(name, known, tmp_path):
    model, processor = FAMILIES[name].build(), FAMILIES[name].processor()
    clip = noise((0.7,), 16_000)[0]
    write_corpus([Utterance("a", clip, "oui", None)], tmp_path / "data", source="noise", licence="none")
    cuts = list(read_cuts(tmp_path / "data"))
    for each in cuts:
        each.supervisions[0].language = "fr"
    for verb in (
        partial(trimbre.evaluate, data=cuts),
        partial(trimbre.preview, train=cuts),
        partial(trimbre.export, to="onnx", out=tmp_path / "out", data=cuts),
    ):
        with pytest.raises(UserError, match=f"the utterance .* states the language 'fr': .*{known}"):
            verb(model, processor)
    assert not (tmp_path / "out").exists()


def test_a_set_of_several_languages_is_recognised_in_each(dense, tmp_path):
    model, processor = dense[MULTILINGUAL], FAMILIES[MULTILINGUAL].processor()
    clips = noise((0.7, 1.3, 4.5), 16_000)
    spoken = ["de", "en", "de"]
    utterances = [Utterance(f"{number}", clip, "a", None) for number, clip in enumerate(clips)]
    write_corpus(utterances, tmp_path / "data", source="noise", licence="none")
    cuts = sorted(read_cuts(tmp_path / "data"), key=lambda each: each.duration)
    for each, language in zip(cuts, spoken, strict=True):
        each.supervisions[0].language = language
    found = trimbre.evaluate(model, processor, data=cuts, normalize="none", device="cpu").sets["data"].evaluation
    expected = {
        each.id: transcriber(model, processor, language=language)(load_cut(each, 16_000))
        for each, language in zip(cuts, spoken, strict=True)
    }
    assert dict(zip(found.ids, found.hypotheses, strict=True)) == expected
    unstated = [each.with_id(each.id) for each in cuts]
    for each in unstated:
        each.supervisions[0].language = None
    all_german = (
        trimbre.evaluate(model, processor, data=unstated, normalize="none", language="German", device="cpu")
        .sets["data"]
        .evaluation
    )
    assert all_german.hypotheses[0] == found.hypotheses[0]
    assert all_german.hypotheses[1] == transcriber(model, processor, language="de")(load_cut(cuts[1], 16_000))
