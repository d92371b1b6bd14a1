"""Text normalisation and spelling, on examples by hand."""

import json

import pytest
from helpers.mini_recogniser import mini_processor
from num2words import CONVERTER_CLASSES
from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2Processor

from trimbre.data.text import labels_of, normalise, refuse_foreign, spelling_of, unspellable_characters
from trimbre.errors import OptionError, UserError


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


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("es", "¡Marque 21!", "marque veintiuno"),
        ("fr", "Tapez 3", "tapez trois"),
        ("de", "Drücken Sie die 1", "drücken sie die eins"),
        ("de", "3,5 von 1.234", "drei komma fünf von eintausendzweihundertvierunddreißig"),
        ("de", "am 3.5. um 14.30", "am drei fünf um vierzehn dreißig"),  # a date and a time
        ("de", "50 %", "fünfzig prozent"),
        ("de", "STRAẞE", "straße"),
        ("fr", "12\u202f345", "douze mille trois cent quarante cinq"),  # grouped by a narrow space
        ("fr", "la 1ère et le 2e", "la première et le deuxième"),
        ("es", "el 1º y la 2ª", "el primero y la segunda"),
        ("nl", "de 1e", "de eerste"),
        ("it", "3,5", "tre virgola cinque"),
        ("it", "l'11 e dell’8", "l'undici e dell'otto"),  # elided, which is one word
        ("vi", "3,5", "ba phẩy năm"),
        ("ru", "5 кг", "пять кг"),
        ("tr", "IĞDIR, İstanbul", "ığdır istanbul"),
        ("ja", "３人（笑）", "三人"),
        ("ar", "مُحَمَّدٌ كـــتاب ٣", "محمد كتاب ثلاثة"),
        ("he", 'שָׁלוֹם צה"ל', "שלום צהל"),
        ("fa", "می\u200cخواهم", "میخواهم"),
        ("zh", "我有3个", "我有3个"),  # num2words does not know Chinese
        ("hi", "१२ में", "12 में"),
        ("klingon", "3", "3"),
        (None, "Drücken Sie die 1", "drücken sie die 1"),
        (None, "3.5", "3 5"),
        (None, "1'234", "1234"),
        (None, "İstanbul", "istanbul"),
        ("lt", "I\u0307", "i\u0307"),  # the dot stands where an accent follows
    ],
)
def test_numbers_and_letters_are_read_in_the_language(language, text, expected):
    assert normalise(text, language=language) == expected
    assert normalise(expected, language=language) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the 1st, 2nd and 103rd", "the first second and one hundred and third"),
        ("3.5", "three point five"),
        ("press 3,5", "press three five"),
        ("1,234.5", "one thousand two hundred and thirty four point five"),
        ("in 1999 or 2024", "in nineteen ninety nine or twenty twenty four"),
        ("in 2005", "in two thousand and five"),
        ("1,999", "one thousand nine hundred and ninety nine"),  # with a separator it is no year
        ("the 1990s and 80s", "the nineteen nineties and eighties"),
        ("agent 007", "agent zero zero seven"),
        ("192.168.0.1", "one hundred and ninety two one hundred and sixty eight zero one"),
        (
            "$1, $5, £2.50 and €2.5 million",
            "one dollar five dollars two pounds and fifty pence and two point five million euros",
        ),
        ("$1.01, $0.50 and £0.01", "one dollar and one cent fifty cents and one penny"),
        ("£1.2bn", "one point two bn"),
        ("the 1990's, 60's and 1966s", "the nineteen nineties sixties and nineteen sixty sixes"),
        ("1999's", "nineteen ninety nine's"),
        ("10² and 2½", "ten two and two one two"),  # and not 102, nor 21/2
        ("50%", "fifty percent"),
        ("B2B", "b two b"),
    ],
)
def test_numbers_in_english(text, expected):
    assert normalise(text, language="en") == expected


@pytest.mark.parametrize("sign", "’‘´`ʼ＇")
def test_every_apostrophe_is_one(sign):
    assert normalise(f"don{sign}t {sign}quoted{sign}") == "don't quoted"


@pytest.mark.parametrize("sign", ["\u00ad", "\u200c", "\u200d", "\u2060", "\ufeff", "\u200e"])
def test_what_cannot_be_seen_leaves_no_gap(sign):
    assert normalise(f"inter{sign}national") == "international"
    assert normalise(f"{sign}a\u200bb") == "a b"  # but for a space of no width, which parts words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[noise] yes <unk> no", "yes no"),
        ("(laughter) yes (loud music playing)", "yes"),
        ("*coughs* yes {NS} 【笑】", "yes"),
        ("uh[breath]huh", "uh huh"),
        ("[one [in another]] yes", "yes"),
        ("(which was printed at Mainz) in 62", "which was printed at mainz in sixty two"),  # an aside is spoken
        ("*really* 2 * 3 * 4", "really two three four"),
        ("a < b and c > d", "a b and c d"),
    ],
)
def test_noises_in_brackets_are_dropped(text, expected):
    assert normalise(text, language="en") == expected


@pytest.mark.parametrize("language", sorted(code for code in CONVERTER_CLASSES if "_" not in code))
def test_the_numbers_of_every_language_are_words(language):
    code = "kk" if language == "kz" else language
    for number in (*range(32), 99, 1999, 12345):
        words = normalise(str(number), language=code)
        assert words
        assert not any(map(str.isdigit, words))
        assert normalise(words, language=code) == words


def test_none_leaves_text_as_it_is():
    assert normalise("  Mr. Smith,\n1! ", "none") == "  Mr. Smith,\n1! "


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Okay, Mr. Smith (laughs) won't, uh, pay twenty-one dollars!", "okay mister smith will not pay $21"),
        ("The colour of my neighbour's aeroplane", "the color of my neighbor is airplane"),
    ],
)
def test_whisper_en_expands_words_writes_numbers_as_digits_and_spells_american(text, expected):
    assert normalise(text, "whisper-en", language="en") == expected


def test_whisper_en_takes_the_spelling_that_is_given():
    assert normalise("colour", "whisper-en", spelling={"colour": "couleur"}) == "couleur"
    assert normalise("colour", "whisper-en", spelling={}) == "colour"


def test_a_model_spells_by_its_own_list(tmp_path):
    processor = mini_processor()
    assert spelling_of(processor) is None
    processor.tokenizer.english_spelling_normalizer = {"cab": "bad"}
    assert spelling_of(processor) == {"cab": "bad"}
    bad = processor.tokenizer("bad").input_ids
    assert labels_of("cab", processor=processor, normalize="whisper-en") == bad
    assert labels_of("cab", processor=processor, normalize="basic") != bad


def test_whisper_is_its_normaliser_of_all_languages():
    assert normalise("Drücken Sie (lacht) die 1!", "whisper", language="de") == "drücken sie die 1"


def test_the_english_normaliser_reads_no_other_language():
    refuse_foreign("whisper-en", ["en", None], name="data/mine")
    refuse_foreign("basic", ["de"], name="data/mine")
    with pytest.raises(OptionError, match=r"^normalize='whisper-en': it is for English, and data/mine is in de, fr:"):
        refuse_foreign("whisper-en", ["de", "en", "fr", None], name="data/mine")


def test_an_unknown_normaliser_is_refused_by_its_option():
    with pytest.raises(UserError, match=r"^normalize='upper': choose one of none, basic, whisper, whisper-en, "):
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
