"""What decides: words, characters in languages without spaces, and what is recognised where nothing is said."""

import json

import numpy as np
import pytest
from helpers.mini_recogniser import clips, mini_parakeet, mini_processor
from lhotse import CutSet, Recording, SupervisionSegment
from rich.console import Console

from trimbre.data.language import Languages
from trimbre.errors import OptionError
from trimbre.evaluation.bootstrap import word_errors
from trimbre.evaluation.evaluate import EvaluationReport, ReferenceResult, SetResult, compare, evaluate_sets
from trimbre.evaluation.score import Evaluation, score
from trimbre.evaluation.units import by_characters
from trimbre.models.loading import Recogniser
from trimbre.report.markdown.model_card import _error_rates
from trimbre.report.terminal.evaluation import apart, evaluation, rates_table
from trimbre.report.terminal.utterances import aligned


@pytest.mark.parametrize(
    ("text", "language", "characters"),
    [
        ("今天天气很好", "zh", True),
        ("今天天气很好", None, True),  # by its script
        ("今天天气很好", "en", True),
        ("iphone", "zh", True),
        ("我用iphone", None, False),  # more Latin letters than others
        ("きょうは いい天気", None, True),
        ("สวัสดีครับ", None, True),
        ("안녕하세요 여러분", "ko", False),
        ("guten morgen", "de", False),
        ("guten morgen", None, False),
        ("", "ja", True),
        ("", "de", False),
        ("12", None, False),
    ],
)
def test_the_language_or_the_script_decides(text, language, characters):
    assert by_characters([text], [language]) == (characters,)


def test_silence_is_judged_as_the_others_are():
    assert by_characters(["", "今天"], [None, None]) == (True, True)
    assert by_characters(["", "今天", "morgen"], [None, None, None]) == (False, True, False)
    assert by_characters([""], [None]) == (False,)


def evaluated(references, hypotheses, languages=()) -> Evaluation:
    ids = [str(number) for number in range(len(references))]
    return Evaluation(ids, references, hypotheses, "basic", 1.0, {}, languages=languages)


def test_a_language_without_spaces_is_judged_by_characters_and_spaces_count_for_nothing():
    found = evaluated(["今天 天气很好", "我们走"], ["今天天气 不好", "我们走"])
    assert found.decides == "cer"
    assert (found.units.total, int(found.units.reference.sum())) == (1, 9)
    assert found.rate == found.cer == pytest.approx(1 / 9)
    assert found.wer == pytest.approx(2 / 3)  # two words of three, which say nothing
    assert found.sentences()["errors"] == "1 0"
    assert found.sentences()["words"] == "6 3"


def test_a_mixed_set_counts_characters_in_some_utterances_and_words_in_others():
    found = evaluated(["今天天气很好", "a b c d"], ["今天天气不好", "a b x"])
    assert found.decides == "mer"
    assert found.units.per_sentence.tolist() == [1, 2]
    assert found.rate == pytest.approx(3 / 10)
    assert found.to_json()["mer"]["percent"] == pytest.approx(30)


def test_words_decide_elsewhere_and_nothing_changes():
    found = evaluated(["a b c", "d"], ["a x c", "d"], ["en", None])
    assert found.decides == "wer"
    assert found.units is found.words
    assert "mer" not in found.to_json()
    assert found.cer == pytest.approx(1 / 6)  # spaces are characters


def test_the_verdict_is_by_what_decides():
    """Each candidate sentence has one wrong character of ten, and is one wrong word."""
    text = "今天天气很好我们走吧"
    wrong = f"{text[:-1]}了"
    better, worse = evaluated([text] * 30, [text] * 27 + [wrong] * 3), evaluated([text] * 30, [wrong] * 30)
    found = compare(worse, better)
    assert found.difference == pytest.approx(0.1 - 0.01)
    assert found.verdict == "worse"


def test_what_is_recognised_where_nothing_is_said_is_counted():
    found = evaluated(["", "a b", ""], ["um yes", "a b", ""])
    assert found.hallucinated == 2
    assert found.words.total == 2
    assert found.rate == 1
    said = found.to_json()
    assert (said["empty_transcripts"], said["hallucinated"]) == (2, 2)
    assert evaluated(["", "今天"], ["天气", "今天"]).hallucinated == 2


def test_tables_say_what_decides():
    sets = {
        "data": evaluated(["今天天气很好"], ["今天天气不好"]),
        "both": evaluated(["今天天气很好", "a b c d", ""], ["今天天气不好", "a b x", "oh"]),
    }
    result = {name: SetResult(one, {"dense": ReferenceResult(one, compare(one, one))}) for name, one in sets.items()}
    sizes = {"parameters": 1, "macs_per_second": 1}
    found = EvaluationReport(result, _Size(), {"dense": _Size()}, "basic").to_json()
    assert found["size"] == sizes
    console = Console(width=80, record=True)
    console.print(*evaluation(found), rates_table(found))
    shown = " ".join(console.export_text().split())
    for part in ("data: decided by CER", "both: decided by MER", "16.67", "40.00", "words and"):
        assert part in shown
    assert "1 word recognised in 1 utterance with an empty transcript" in shown
    card = "\n".join(_error_rates(found))
    assert card.startswith("Error rates (CER, MER) in %")
    assert "| data | 1 | 6 characters |" in card
    alone = evaluation({**found, "sets": {"data": found["sets"]["data"]}})
    assert [column.header for column in next(alone).columns] == ["set", "length", "dense", "CER", "sub/del/ins", "WER"]


class _Size:
    def to_json(self):
        return {"parameters": 1, "macs_per_second": 1}


def test_characters_are_aligned_where_they_decide():
    lines = list(aligned("今天", "今日", characters=True))
    assert lines == ["REF: 今 天", "HYP: 今 日", "        S"]


def cuts_of(texts, language=None):
    found = []
    for number, (text, clip) in enumerate(zip(texts, clips(*[0.5] * len(texts)), strict=True)):
        recording = Recording.from_dict(
            {
                "id": str(number),
                "sources": [],
                "sampling_rate": 16000,
                "num_samples": len(clip),
                "duration": len(clip) / 16000,
            }
        )
        cut = recording.to_cut()
        cut.supervisions = [SupervisionSegment(str(number), str(number), 0, 0.5, text=text, language=language)]
        found.append(cut)
    return CutSet.from_cuts(found)


@pytest.fixture(scope="module")
def recogniser():
    return Recogniser(mini_parakeet(), mini_processor())


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (
            ["...", "?!"],
            r"^data='cuts in memory': normalised by basic, no transcript has a word left, .* '\.\.\.'",
        ),
        (["[noise]", ""], r"no transcript has a word left, such as '\[noise\]'"),
        (["", " "], "every transcript is empty, and without a word there is no error rate"),
        ([None, None], "no transcribed utterance"),
    ],
)
def test_a_set_without_a_word_is_refused_before_any_audio_is_read(recogniser, texts, said):
    """The recordings have no audio at all."""
    with pytest.raises(OptionError, match=said):
        evaluate_sets(recogniser=recogniser, data=cuts_of(texts), name="data")
    with pytest.raises(OptionError, match=said.removeprefix("^").replace("cuts in memory", "the data")):
        score(**recogniser._asdict(), data=cuts_of(texts))


def test_a_watched_set_is_refused_before_the_main_one_is_recognised(recogniser):
    with pytest.raises(OptionError, match=r"^watch={'street': .*}: every transcript is empty"):
        evaluate_sets(recogniser=recogniser, data=cuts_of(["a bad bee"]), watch={"street": cuts_of([""])})


def test_the_english_normaliser_is_refused_for_another_language(recogniser):
    for data, language in ((cuts_of(["bad"], "German"), None), (cuts_of(["bad"]), "de")):
        with pytest.raises(OptionError, match=r"^normalize='whisper-en': it is for English, and .* is in de"):
            evaluate_sets(recogniser=recogniser, data=data, normalize="whisper-en", language=language)


def test_digits_are_read_in_the_language_of_the_utterance_the_user_or_the_model():
    """A vocabulary of letters spells the words of 3 in German, but for i: d, r, e; a digit it cannot."""
    from trimbre.data.check import refuse_unspellable
    from trimbre.data.text import unspellable_characters

    spoken = cuts_of(["3"], "de")[0], cuts_of(["3"])[0]
    how = {"processor": mini_processor(), "normalize": "basic"}
    for rule, expected in (
        (Languages(), [{"r": 1, "i": 1}, {"3": 1}]),
        (Languages(stated="en"), [{"r": 1, "i": 1}, {"t": 1, "r": 1}]),
        (Languages(model="en"), [{"r": 1, "i": 1}, {"t": 1, "r": 1}]),
    ):
        assert [unspellable_characters([("3", rule.written(cut))], **how) for cut in spoken] == expected
    with pytest.raises(ValueError, match="state the language, in which digits become words"):
        refuse_unspellable([("3", None)], name="data", **how)


def test_the_report_is_plain_data(recogniser):
    assert json.dumps(evaluated(["", "今天"], ["天", "今天"]).to_json(), allow_nan=False)
    assert np.isnan(evaluated([""], [""]).rate)


def test_the_leaderboards_rate_stands_beside_that_of_an_english_set():
    """A compound that is written apart and a name are errors by `basic` alone; silence is not judged there."""
    spoken, recognised = ["Jon wrote a white paper", "um", "no"], ["john wrote a whitepaper", "thank you", "no no"]
    found = Evaluation(
        ["a", "b", "c"],
        ["jon wrote a white paper", "um", "no"],
        recognised,
        "basic",
        1.0,
        {},
        languages=["en"] * 3,
        as_written=(spoken, recognised),
    )
    assert (found.words.total, found.open_asr.total) == (3 + 2 + 1, 1)
    assert found.to_json()["open_asr"]["reference"] == 6
    assert "16.67 % WER by the Open ASR Leaderboard's normaliser" in " ".join(apart(found.to_json()))
    foreign = Evaluation(["a"], ["ja"], ["ja"], "basic", 1.0, {}, languages=["de"], as_written=(["ja"], ["ja"]))
    assert foreign.open_asr is None
    assert "open_asr" not in foreign.to_json()


def test_every_rate_has_the_speakers_of_its_sentences():
    texts, speakers = ["um", "bad", *["a bee"] * 20], [f"{number}" for number in range(22)]
    given = (speakers, texts, texts, "basic", 1.0, {})
    found = Evaluation(*given, languages=["en"] * 22, as_written=(texts, texts), speakers=speakers)
    for counts in (found.words, found.characters, found.units):
        assert list(counts.speakers) == speakers
    assert list(found.open_asr.speakers) == speakers[1:]  # "um" is not judged there
    mixed = Evaluation(*given, languages=[*["en"] * 21, "ja"], speakers=speakers)
    assert (mixed.decides, list(mixed.units.speakers)) == ("mer", speakers)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "errors", "marks"),
    [
        ("a white paper", "a whitepaper", 0, ""),
        ("a whitepaper now", "the white paper", 2, "SD"),
        ("yes", "yes no", 1, "I"),
    ],
)
def test_compounds_written_apart_are_no_error(reference, hypothesis, errors, marks):
    assert word_errors([reference], [hypothesis], merge_compounds=True).total == errors
    shown = list(aligned(reference, hypothesis, merge_compounds=True))
    assert "".join("".join(shown[2:]).split()) == marks
    assert word_errors([reference], [hypothesis]).total >= errors
