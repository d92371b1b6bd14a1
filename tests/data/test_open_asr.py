"""The Open ASR Leaderboard's normaliser: what its own gives for these texts, and where OpenAI's differs."""

import pytest

from trimbre.data.open_asr import judged, open_asr
from trimbre.data.text import normalise, refuse_foreign
from trimbre.errors import OptionError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Okay, Mr. Smith (laughs) won't, uh, pay twenty-one dollars!", "okay mister smith will not pay $21"),
        ("Ah, huh, it's the neighbour's aeroplane.", "it is the neighbor s airplane"),  # is after a pronoun alone
        ("he's gone, what's been done", "he has gone what has been done"),
        ("Jon's brother Stephen met Katherine Macdonald", "john s brother steven met catherine mcdonald"),
        ("The B.B.C. at five p.m.", "the bbc at 5 pm"),
        ("u s a or i a", "usa or i a"),  # two letters of which one is a word stay
        ("5 G and 4 5", "5g and 45"),
        ("a b", "a b"),
        ("Wi-Fi, e-mail and X-rays: all right?", "wifi email and x rays alright"),
        ("OK, an archaeological travelogue", "okay an archeological travelog"),
        ("a cancelation, a cancellation", "a cancelation a cancelation"),
        ("snowploughs pummelled", "snowplows pummeled"),
        ("one oh one and two point five million", "101 and 2500000"),
        ("$2.50, 50 %", "$2.50 50"),
        ("Café <noise> [music] colour", "cafe color"),
        ("um", ""),
    ],
)
def test_by_the_leaderboards_own_output(text, expected):
    assert normalise(text, "open-asr", language="en") == open_asr(text) == expected


def test_openais_normaliser_stays_as_it_is():
    open_asr("the neighbour's Wi-Fi")
    assert normalise("the neighbour's Wi-Fi", "whisper-en") == "the neighbor is wi fi"


def test_it_is_for_english():
    refuse_foreign("open-asr", ["en", None], name="data/mine")
    with pytest.raises(OptionError, match=r"^normalize='open-asr': it is for English, and data/mine is in fr:"):
        refuse_foreign("open-asr", ["fr"], name="data/mine")


def test_what_is_not_judged():
    assert [judged(text) for text in ("a", "", " ", "ignore time segment in scoring")] == [True, False, False, False]
