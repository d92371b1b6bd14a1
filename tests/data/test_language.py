"""Which language an utterance is in: codes by hand, and models that say it in each of the known ways."""

import pytest
from helpers.mini_recogniser import mini_parakeet, mini_processor
from helpers.places import MODEL
from lhotse import MonoCut, Recording, SupervisionSegment
from num2words import CONVERTER_CLASSES
from transformers import WhisperConfig, WhisperForConditionalGeneration
from transformers.models.whisper.tokenization_whisper import LANGUAGES

from trimbre.data.language import Languages, code_of, language_of, language_of_model, stated_language
from trimbre.errors import OptionError
from trimbre.models.loading import load
from trimbre.report.markdown.model_card import training_card


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("de", "de"),
        ("German", "de"),
        ("de-DE", "de"),
        ("de_DE.UTF-8", "de"),
        ("deu", "de"),
        ("ger", "de"),
        ("<|de|>", "de"),
        (" DE ", "de"),
        ("zh-TW", "zh"),
        ("cmn-script_simplified", "zh"),
        ("Mandarin", "zh"),
        ("Castilian", "es"),
        ("nb-NO", "no"),
        ("jv", "jw"),
        ("yue", "yue"),
        ("xx", None),
        ("Klingon", None),
        ("", None),
        (None, None),
    ],
)
def test_codes_by_hand(given, code):
    assert code_of(given) == code


def test_every_language_of_whisper_has_its_code_and_name():
    assert {code_of(code) for code in LANGUAGES} == {code_of(name) for name in LANGUAGES.values()} == set(LANGUAGES)


def test_every_language_whose_numbers_are_known_has_a_code():
    spelled = {code for code in CONVERTER_CLASSES if "_" not in code} - {"kz", "ce"}  # kz is its name of kk
    assert {code_of(code) for code in spelled} == spelled


def test_an_unknown_language_is_refused():
    assert stated_language("Dutch") == "nl"
    assert stated_language(None) is None
    with pytest.raises(OptionError, match=r"^language='xx': no such language"):
        stated_language("xx")


def cut(*languages):
    recording = Recording.from_dict(
        {"id": "a", "sources": [], "sampling_rate": 16000, "num_samples": 16000, "duration": 1.0}
    )
    segments = [SupervisionSegment(str(n), "a", 0, 1, text="a", language=one) for n, one in enumerate(languages)]
    return MonoCut("a", 0, 1, 0, supervisions=segments, recording=recording)


@pytest.mark.parametrize(
    ("stated", "found"),
    [
        (["de"], "de"),
        (["German", "de-AT"], "de"),
        (["de", "en"], None),
        (["de", None], None),
        (["und"], None),
        ([""], None),
        ([], None),
        (["Klingon"], "klingon"),  # stated, though nothing is known of it
    ],
)
def test_the_language_of_a_cut(stated, found):
    assert language_of(cut(*stated)) == found


def test_the_utterance_comes_before_the_user_and_the_user_before_the_model():
    rule = Languages(stated="es", model="en")
    assert rule.spoken(cut("de")) == rule.written(cut("de")) == "de"
    assert rule.spoken(cut()) == rule.written(cut()) == rule.text == "es"
    own = Languages(model="en")
    assert (own.spoken(cut()), own.written(cut()), own.text) == (None, "en", "en")
    into_english = Languages(stated="es", translated=True)
    assert (into_english.spoken(cut("de")), into_english.written(cut("de")), into_english.text) == ("de", "en", "en")


@pytest.mark.parametrize(
    ("front", "found"),
    [
        ("language: de", "de"),
        ("language: [German]", "de"),
        ("language:\n- de\n- en", None),
        ("license: mit", None),
        ("language: no", "no"),  # Norwegian, which YAML reads as false
        ("language: [a, : b", None),
    ],
)
def test_the_only_language_of_a_model_card(tmp_path, front, found):
    model = mini_parakeet()
    assert language_of_model(model, mini_processor()) is None
    (tmp_path / "README.md").write_text(f"---\n{front}\n---\n# A model\n")
    model.name_or_path = str(tmp_path)
    assert language_of_model(model, mini_processor()) == found


@pytest.mark.parametrize("language", ["de", "no", None])
def test_a_trained_model_keeps_the_language_that_it_was_trained_in(tmp_path, language):
    report = {"language": language, "steps": 1, "train": "data/mine", "command": "trimbre train"}
    (tmp_path / "README.md").write_text(training_card(report))
    model = mini_parakeet()
    model.name_or_path = str(tmp_path)
    assert language_of_model(model, mini_processor()) == language


def test_the_tokenizer_comes_before_the_card(tmp_path):
    (tmp_path / "README.md").write_text("---\nlanguage: de\n---\n")
    model, processor = mini_parakeet(), mini_processor()
    model.name_or_path = str(tmp_path)
    processor.tokenizer.target_lang = "fra"
    assert language_of_model(model, processor) == "fr"


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"is_multilingual": False}, "en"),
        ({"is_multilingual": True}, None),
        ({"is_multilingual": True, "language": "<|de|>"}, "de"),
        ({"is_multilingual": True, "language": "german"}, "de"),
    ],
)
def test_a_whisper_says_it_in_its_generation_config(settings, found):
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=8,
            d_model=4,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=1,
            decoder_attention_heads=1,
            encoder_ffn_dim=4,
            decoder_ffn_dim=4,
            pad_token_id=0,
            bos_token_id=0,
            eos_token_id=0,
            decoder_start_token_id=0,
        )
    )
    for name, value in settings.items():
        setattr(model.generation_config, name, value)
    assert language_of_model(model, None) == found


def test_the_shipped_model_is_english():
    model, processor = load(MODEL)
    assert language_of_model(model, processor) == "en"
