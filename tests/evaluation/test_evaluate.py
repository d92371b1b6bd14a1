"""Evaluation from audio to verdict, on a tiny recogniser whose own output makes the transcripts."""

import json

import numpy as np
import pytest
import soundfile
from helpers.mini_recogniser import clips, mini_parakeet, mini_processor
from lhotse import CutSet, Recording, SupervisionSegment
from rich.console import Console

from trimbre.data.text import unspellable_characters
from trimbre.errors import UserError
from trimbre.evaluation.evaluate import Evaluation, compare, evaluate, evaluate_sets
from trimbre.inference.greedy import greedy
from trimbre.inference.long_form import transcribe
from trimbre.models.heads.base import CHUNK_SECONDS
from trimbre.models.inputs import features_of
from trimbre.models.loading import Recogniser
from trimbre.report.rates import evaluation_table, verdicts


@pytest.fixture(scope="module")
def recogniser() -> Recogniser:
    return Recogniser(mini_parakeet(), mini_processor())


@pytest.fixture(scope="module")
def heard(recogniser, tmp_path_factory):
    """Audio files, and what the recogniser itself makes of each."""
    folder = tmp_path_factory.mktemp("audio")
    found = {}
    for number, samples in enumerate(clips(*[0.5 + 0.17 * step for step in range(7)])):
        path = folder / f"{number}.wav"
        soundfile.write(path, samples / 8, 16000, subtype="PCM_16")
        audio = soundfile.read(path, dtype="float32")[0]
        found[path] = greedy(recogniser.model, features_of([audio], recogniser.processor), recogniser.processor)[0]
    return found


def cutset(texts) -> CutSet:
    cuts = []
    for path, text in texts.items():
        recording = Recording.from_file(path, recording_id=path.stem)
        cut = recording.to_cut()
        cut.supervisions = [SupervisionSegment(path.stem, path.stem, 0, cut.duration, text=text)]
        cuts.append(cut)
    return CutSet.from_cuts(cuts)


def test_its_own_words_are_no_errors_and_added_ones_are_counted(recogniser, heard):
    perfect = evaluate(model=recogniser.model, processor=recogniser.processor, data=cutset(heard), max_seconds=3)
    assert (perfect.wer, perfect.cer) == (0, 0)
    assert len(perfect.ids) == 7
    assert perfect.seconds == pytest.approx(sum(0.5 + 0.17 * step for step in range(7)), abs=1e-3)
    longer = cutset({path: text + " abba" for path, text in heard.items()})
    found = evaluate(model=recogniser.model, processor=recogniser.processor, data=longer, max_seconds=3)
    counts = found.to_json()["wer"]
    assert (counts["deletions"], counts["substitutions"], counts["insertions"]) == (7, 0, 0)
    assert counts["percent"] == pytest.approx(100 * 7 / counts["reference"], abs=1e-3)
    low, high = counts["interval"]
    assert 0 < low < counts["percent"] < high
    assert found.to_json()["normalize"] == "basic"


def test_batching_changes_nothing_and_the_mode_is_kept(recogniser, heard):
    recogniser.model.train()
    together, apart = (
        evaluate(model=recogniser.model, processor=recogniser.processor, data=cutset(heard), max_seconds=seconds)
        for seconds in (100, 1.6)
    )
    assert recogniser.model.training
    recogniser.model.eval()
    assert together.hypotheses == apart.hypotheses
    assert together.ids == apart.ids


def test_a_long_recording_is_evaluated_in_the_pieces_that_transcription_takes(recogniser, tmp_path):
    """Ten minutes, beside a short clip: the same texts, and no forward sees more than a chunk."""
    seconds = {"long": 600.0, "edge": CHUNK_SECONDS, "short": 1.7}
    files = {name: tmp_path / f"{name}.wav" for name in seconds}
    for name, length in seconds.items():
        soundfile.write(files[name], np.tile(clips(10.0)[0] / 8, 60)[: round(length * 16_000)], 16_000)
    texts = dict.fromkeys(files.values(), "a bad abba")
    frames = []
    entry = recogniser.model.encoder.subsampling
    with entry.register_forward_pre_hook(
        lambda module, args, kwargs: frames.append((args or tuple(kwargs.values()))[0].shape[1]), with_kwargs=True
    ):
        found = evaluate(model=recogniser.model, processor=recogniser.processor, data=cutset(texts), normalize="none")
    assert len(frames) > 600 / CHUNK_SECONDS
    assert max(frames) <= 100 * CHUNK_SECONDS + 1  # feature frames of 10 ms
    transcripts = transcribe(model=recogniser.model, processor=recogniser.processor, files=map(files.get, found.ids))
    assert list(found.hypotheses) == [each.text for each in transcripts]
    assert found.seconds == pytest.approx(sum(seconds.values()))
    assert len(set(found.hypotheses)) == 3


def test_normalisation_is_the_same_on_both_sides(recogniser, heard):
    shouted = cutset({path: f"{text.upper()}!" for path, text in heard.items()})
    found = evaluate(model=recogniser.model, processor=recogniser.processor, data=shouted)
    assert found.wer == 0


def test_characters_that_cannot_be_spelled_are_counted_then_refused(recogniser, heard):
    texts = dict.fromkeys(heard, "abc def " * 20)
    texts[next(iter(texts))] += "é"
    found = evaluate(model=recogniser.model, processor=recogniser.processor, data=cutset(texts))
    assert found.to_json()["unspellable_characters"] == {"é": 1}
    texts = dict.fromkeys(heard, "abé")
    with pytest.raises(UserError, match=r"33\.3 % .*'é'"):
        evaluate(model=recogniser.model, processor=recogniser.processor, data=cutset(texts))


@pytest.mark.parametrize(
    ("text", "normalize", "lost"),
    [
        ("Bad Cafe", "none", {"B": 1, "C": 1}),
        ("Bad, Cafe!", "basic", {}),
        ("bad zoo", "basic", {"z": 1, "o": 2}),
        ("bad, bee", "none", {",": 1}),
    ],
)
def test_spelling(text, normalize, lost):
    assert unspellable_characters([text], processor=mini_processor(), normalize=normalize) == lost


def test_nothing_to_evaluate(recogniser):
    with pytest.raises(UserError, match="no transcribed utterance"):
        evaluate(model=recogniser.model, processor=recogniser.processor, data=CutSet.from_cuts([]))


def evaluation(hypotheses, references) -> Evaluation:
    ids = [str(number) for number in range(len(references))]
    return Evaluation(ids, references, hypotheses, "basic", 1.0, {})


def test_other_sentences_are_not_compared():
    with pytest.raises(ValueError, match="different sentences"):
        compare(evaluation(["a"], ["a"]), evaluation(["a"], ["b"]))


def test_watched_sets_stand_beside_dev_and_a_failing_teacher_gets_no_verdict(recogniser, heard):
    teacher = Recogniser(mini_parakeet(seed=0), recogniser.processor)
    strange = dict.fromkeys(heard, "bad bee")
    report = evaluate_sets(recogniser=recogniser, dev=cutset(heard), watch={"street": cutset(strange)}, against=teacher)
    found = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert list(found["sets"]) == ["dev", "street"]
    assert found["sets"]["dev"]["comparison"]["verdict"] == "undecided"  # seven sentences, none wrong
    assert found["sets"]["street"]["comparison"]["verdict"] is None
    assert found["sets"]["street"]["comparison"]["teacher_fails"] is True
    assert found["size"]["parameters"] == found["teacher_size"]["parameters"]
    console = Console(width=250, record=True)
    console.print(evaluation_table(report), *verdicts(found))
    shown = console.export_text()
    assert "teacher fails here" in shown
    assert "normalize = basic" in shown
    assert "street" in shown


def test_without_a_teacher_there_is_no_verdict(recogniser, heard):
    report = evaluate_sets(recogniser=recogniser, dev=cutset(heard))
    assert "comparison" not in report.to_json()["sets"]["dev"]
    assert len(evaluation_table(report).columns) == 6


def test_dev_is_no_name_for_a_watched_set(recogniser, heard):
    with pytest.raises(UserError, match="dev"):
        evaluate_sets(recogniser=recogniser, dev=cutset(heard), watch={"dev": cutset(heard)})
