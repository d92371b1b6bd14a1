"""Text normalisation and spelling, on examples by hand."""

import json

import pytest
from helpers.mini_recogniser import mini_processor
from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2Processor

from trimbre.data.text import labels_of, normalise, unspellable_characters
from trimbre.errors import UserError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('Press "1", or—if you must—2!', "press one or if you must two"),
        ("Don't: it’s the dogs' 'bone'", "don't it's the dogs bone"),
        ("rock 'n' roll_x", "rock n roll x"),
        ("1,234 of 21", "one thousand two hundred and thirty four of twenty one"),
        ("Ｆｕｌｌ\u00a0width\tand\nlines ", "full width and lines"),
        ("NAÏVE cafe\u0301", "naïve café"),
        ("हिन्दी, में!", "हिन्दी में"),  # vowel signs are part of the word
        ("٣", "three"),
        ("...", ""),
        ("9" * 400, " ".join(["nine"] * 400)),  # there is no name for such a number
    ],
)
def test_basic_by_hand(text, expected):
    assert normalise(text, language="en") == expected
    assert normalise(expected, language="en") == expected


def test_numbers_are_spelled_in_the_language_asked_for():
    assert normalise("¡Marque 21!", language="es") == "marque veintiuno"
    assert normalise("Tapez 3", language="fr") == "tapez trois"


def test_none_leaves_text_as_it_is():
    assert normalise("  Mr. Smith,\n1! ", "none") == "  Mr. Smith,\n1! "


def test_whisper_en_expands_words_and_writes_numbers_as_digits():
    text = "Okay, Mr. Smith (laughs) won't, uh, pay twenty-one dollars!"
    assert normalise(text, "whisper-en", language="en") == "okay mister smith will not pay $21"


def test_an_unknown_normaliser_is_refused_by_its_option():
    with pytest.raises(UserError, match=r"^normalize='upper': choose one of none, basic, whisper-en$"):
        normalise("a", "upper")


def test_characters_that_cannot_be_spelled_are_counted_over_all_texts():
    texts = [("Bad, bézé", "en"), ("3 bags", "en")]
    # Three is written as a word before it is spelled: t, r, and s of bags; h, e and a to g are in the vocabulary.
    lost = {"é": 2, "z": 1, "t": 1, "r": 1, "s": 1}
    assert unspellable_characters(texts, processor=mini_processor(), normalize="basic") == lost
    assert unspellable_characters(texts, processor=mini_processor(), normalize="whisper-en") == lost
    raw = {"B": 1, ",": 1, "é": 2, "z": 1, "3": 1, "s": 1}
    assert unspellable_characters(texts, processor=mini_processor(), normalize="none") == raw
    unknown = [(text, None) for text, _ in texts]
    assert unspellable_characters(unknown, processor=mini_processor(), normalize="basic") == {
        "é": 2,
        "z": 1,
        "3": 1,
        "s": 1,
    }
    assert unspellable_characters([], processor=mini_processor(), normalize="basic") == {}


def test_a_vocabulary_of_capitals_gets_capitals(tmp_path):
    vocabulary = tmp_path / "vocab.json"
    vocabulary.write_text(json.dumps({"<pad>": 0, "<unk>": 1, "|": 2} | {c: 3 + i for i, c in enumerate("ABCDE")}))
    tokenizer = Wav2Vec2CTCTokenizer(str(vocabulary), bos_token=None, eos_token=None)
    processor = Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), tokenizer)
    assert labels_of("A bed?", processor=processor, normalize="basic") == [3, 2, 4, 7, 6]
    assert labels_of("a bed", processor=processor, normalize="none") == [1, 2, 1, 1, 1]  # as it was given
    small = mini_processor()
    assert labels_of("b cab", processor=small, normalize="basic") == small.tokenizer("b cab").input_ids
