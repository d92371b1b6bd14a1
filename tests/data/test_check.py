"""Checks of training data: what is counted, and what is refused before hours of training."""

from pathlib import Path

import pytest
from helpers.mini_recogniser import mini_processor
from helpers.tones import corpus_of, tone
from lhotse import CutSet

from trimbre.data.check import check_training_data, refuse_unreadable
from trimbre.data.cuts import cut_of, read_cuts
from trimbre.errors import UserError


def checked(texts, normalize="basic"):
    # There is no such audio: none may be read.
    cuts = CutSet([cut_of(Path(f"{n}.flac"), id=str(n), text=text, samples=32_000) for n, text in enumerate(texts)])
    return check_training_data(cuts, name="data/mine", processor=mini_processor(), normalize=normalize)


def test_utterances_hours_and_transcripts_are_counted():
    found = checked(["Bad cafe!"] * 100 + [None] * 25 + [""])
    assert (found.utterances, found.transcribed, found.unspellable) == (126, 101, {})
    assert found.hours == round(126 * 2 / 3600, 4)
    counts = {"utterances": 126, "hours": found.hours, "transcribed": 101, "unspellable": {}, "too_long": 0}
    assert found.to_json() == counts | {"language": None}


@pytest.mark.parametrize(
    ("languages", "found"), [(["German", "de"], "de"), (["de", "en"], None), (["de", None], None), ([None, None], None)]
)
def test_the_language_of_all_transcripts_is_found(languages, found):
    cuts = [cut_of(Path("a.flac"), id=f"{n}", text="bad", samples=9, language=one) for n, one in enumerate(languages)]
    how = {"name": "data/mine", "processor": mini_processor(), "normalize": "basic"}
    assert check_training_data(CutSet.from_cuts(cuts), **how).language == found


def test_the_english_normaliser_is_refused_for_another_language():
    cuts = CutSet.from_cuts([cut_of(Path("a.flac"), id="a", text="bad", samples=9, language="de")])
    with pytest.raises(UserError, match=r"^normalize='whisper-en': it is for English, and data/mine is in de"):
        check_training_data(cuts, name="data/mine", processor=mini_processor(), normalize="whisper-en")


def test_one_in_a_hundred_unspellable_characters_is_borne_and_more_is_not():
    hundred = "abcdefgh " * 12  # 96 letters
    assert checked([hundred + "abcé"]).unspellable == {"é": 1}
    with pytest.raises(UserError, match=r"^2\.0 % of the characters .* of data/mine .* \(most often 'é', 'z'\)"):
        checked([hundred + "abéz"])


def test_the_characters_named_are_the_most_frequent_ones():
    with pytest.raises(UserError, match=r"\(most often 'z', 'y', 'x', 'w', 'v'\).*the normalisation basic"):
        checked(["z" * 6 + "y" * 5 + "x" * 4 + "w" * 3 + "v" * 2 + "u"])


def test_capitals_count_where_nothing_is_normalised():
    assert checked(["BAD"]).unspellable == {}
    with pytest.raises(UserError, match=r"100\.0 %"):
        checked(["BAD"], normalize="none")


def test_a_set_is_refused_where_none_of_its_first_utterances_can_be_read(tmp_path):
    folder = corpus_of(tmp_path, [tone(300, 0.2)] * 9, ["a"] * 9)
    for number in range(7):
        (folder / f"audio/{number}.flac").unlink()
    refuse_unreadable(read_cuts(folder), name="mine")
    (folder / "audio/7.flac").unlink()
    with pytest.raises(
        UserError, match=r"^cannot read the audio of 0 .*\(none of the first 8 utterances of mine can be"
    ):
        refuse_unreadable(read_cuts(folder), name="mine")
    refuse_unreadable([], name="mine")


def test_unlabelled_audio_is_accepted_and_none_is_not():
    found = checked([None, None])
    assert (found.utterances, found.transcribed, found.unspellable) == (2, 0, {})
    with pytest.raises(UserError, match="train='data/mine': there is no utterance in it"):
        checked([])
