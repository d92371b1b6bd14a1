"""Evaluation from audio to verdict, on a tiny recogniser whose own output makes the transcripts."""

import gzip
import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from helpers.mini_recogniser import clips, mini_parakeet, mini_processor
from lhotse import CutSet, Recording, SupervisionSegment
from lhotse.utils import fastcopy
from rich.console import Console

from trimbre.data.cuts import read_cuts, speaker_of
from trimbre.data.text import normalise, unspellable_characters
from trimbre.errors import OptionError, UserError
from trimbre.evaluation.evaluate import ReferenceResult, compare, evaluate_sets
from trimbre.evaluation.score import Evaluation, score
from trimbre.inference.greedy import greedy
from trimbre.inference.long_form import transcribe
from trimbre.models.checkpoint import save
from trimbre.models.heads.base import CHUNK_SECONDS
from trimbre.models.inputs import features_of
from trimbre.models.loading import Recogniser
from trimbre.report.terminal.evaluation import evaluation, evaluation_table, rates_table


@pytest.fixture(scope="module")
def recogniser() -> Recogniser:
    return Recogniser(mini_parakeet(), mini_processor())


@pytest.fixture(scope="module")
def spoken(recogniser, tmp_path_factory):
    """Audio files, and the recogniser's own text of each."""
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


def test_own_transcripts_have_no_errors_and_added_words_are_counted(recogniser, spoken):
    perfect = score(model=recogniser.model, processor=recogniser.processor, data=cutset(spoken), max_seconds=3)
    assert (perfect.wer, perfect.cer) == (0, 0)
    assert len(perfect.ids) == 7
    assert perfect.seconds == pytest.approx(sum(0.5 + 0.17 * step for step in range(7)), abs=1e-3)
    longer = cutset({path: text + " abba" for path, text in spoken.items()})
    found = score(model=recogniser.model, processor=recogniser.processor, data=longer, max_seconds=3)
    counts = found.to_json()["wer"]
    assert (counts["deletions"], counts["substitutions"], counts["insertions"]) == (7, 0, 0)
    assert counts["percent"] == pytest.approx(100 * 7 / counts["reference"], abs=1e-3)
    low, high = counts["interval"]
    assert 0 < low < counts["percent"] < high
    assert found.to_json()["normalize"] == "basic"


def test_by_the_leaderboards_normaliser_silence_is_left_out_and_counted(recogniser, spoken):
    texts = {path: ("[noise]" if number < 2 else "bad bee") for number, path in enumerate(spoken)}
    found, plain = (
        score(model=recogniser.model, processor=recogniser.processor, data=cutset(texts), normalize=how)
        for how in ("open-asr", "basic")
    )
    assert found.ids == plain.ids[2:]
    assert found.open_asr is found.words
    assert found.as_written[0] == ("bad bee",) * 5
    assert found.empty_transcripts == found.to_json()["empty_transcripts"] == 2
    silent = [normalise(text, "open-asr") for text in plain.hypotheses[:2]]
    assert found.hallucinated == sum(len(text.split()) for text in silent) > 0


def test_batching_changes_nothing_and_the_mode_is_kept(recogniser, spoken):
    recogniser.model.train()
    together, apart = (
        score(model=recogniser.model, processor=recogniser.processor, data=cutset(spoken), max_seconds=seconds)
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
        found = score(model=recogniser.model, processor=recogniser.processor, data=cutset(texts), normalize="none")
    assert len(frames) > 600 / CHUNK_SECONDS
    assert max(frames) <= 100 * CHUNK_SECONDS + 1  # feature frames of 10 ms
    transcripts = transcribe(model=recogniser.model, processor=recogniser.processor, files=map(files.get, found.ids))
    assert list(found.hypotheses) == [each.text for each in transcripts]
    assert found.seconds == pytest.approx(sum(seconds.values()))
    assert len(set(found.hypotheses)) == 3


def test_normalisation_is_the_same_on_both_sides(recogniser, spoken):
    shouted = cutset({path: f"{text.upper()}!" for path, text in spoken.items()})
    found = score(model=recogniser.model, processor=recogniser.processor, data=shouted)
    assert found.wer == 0


@pytest.mark.parametrize("owner", ["the model", "the other one"])
def test_one_list_of_spellings_serves_both_sides_of_a_comparison(recogniser, spoken, owner):
    listing = Recogniser(recogniser.model, mini_processor())
    listing.processor.tokenizer.english_spelling_normalizer = {"cab": "bad"}
    ours, theirs = (listing, recogniser) if owner == "the model" else (recogniser, listing)
    data, how = cutset(dict.fromkeys(spoken, "cab")), {"normalize": "whisper-en"}
    found = evaluate_sets(recogniser=ours, references={"baseline": theirs}, data=data, name="data", **how).sets["data"]
    for side in (found.evaluation, found.references["baseline"].evaluation):
        assert set(side.references) == {"bad"}


def test_characters_that_cannot_be_spelled_are_counted_then_refused(recogniser, spoken):
    texts = dict.fromkeys(spoken, "abc def " * 20)
    texts[next(iter(texts))] += "é"
    found = score(model=recogniser.model, processor=recogniser.processor, data=cutset(texts))
    assert found.to_json()["unspellable_characters"] == {"é": 1}
    texts = dict.fromkeys(spoken, "abé")
    with pytest.raises(UserError, match=r"33\.3 % .*'é'"):
        score(model=recogniser.model, processor=recogniser.processor, data=cutset(texts))


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
    assert unspellable_characters([(text, None)], processor=mini_processor(), normalize=normalize) == lost


def test_nothing_to_evaluate(recogniser):
    with pytest.raises(UserError, match="no transcribed utterance"):
        score(model=recogniser.model, processor=recogniser.processor, data=CutSet.from_cuts([]))


def hundred(texts, tmp_path, *bad: bytes) -> CutSet:
    """A hundred cuts of the same few files, some of them of files that are no sound."""
    cuts = list(cutset(texts))
    many = [cuts[number % len(cuts)].with_id(f"{number:03d}") for number in range(100 - len(bad))]
    for number, content in enumerate(bad):
        broken = next(iter(cutset(dict([next(iter(texts.items()))]))))
        broken.recording.sources[0].source = str(tmp_path / f"bad-{number}.wav")
        if content:
            (tmp_path / f"bad-{number}.wav").write_bytes(content)
        many.append(broken.with_id(f"bad-{number}"))
    return CutSet.from_cuts(many)


@pytest.mark.parametrize("content", [b"", b"this is no sound"], ids=["missing", "damaged"])
def test_one_bad_clip_in_a_hundred_is_left_out_of_both_sides_and_named(recogniser, spoken, tmp_path, content):
    data = hundred(spoken, tmp_path, content)
    report = evaluate_sets(recogniser=recogniser, references={"baseline": recogniser}, data=data, name="data")
    found = report.to_json()["sets"]["data"]
    assert list(found["unreadable"]) == ["bad-0"]
    assert "bad-0.wav" in found["unreadable"]["bad-0"]
    assert (found["utterances"], found["wer"]["errors"]) == (99, 0)
    assert found["references"]["baseline"]["utterances"] == 99
    console = Console(width=80, record=True)
    console.print(*evaluation(report.to_json()))
    shown = " ".join(console.export_text().split())
    assert "data: 1 utterance left out, whose audio cannot be read: bad-0" in shown


def test_more_bad_clips_are_an_error_as_in_training(recogniser, spoken, tmp_path):
    data = hundred(spoken, tmp_path, b"", b"this is no sound")
    with pytest.raises(UserError, match=r"bad-\d\.wav.*\(2 of 100 utterances of the data so far\)$"):
        score(**recogniser._asdict(), data=data)


def test_sets_whose_ids_are_the_same_are_evaluated_whole(recogniser, spoken):
    """As two corpora are, each numbered from 0, that are given together."""
    again = [cut.with_id("0") for cut in cutset(spoken)]
    found = score(**recogniser._asdict(), data=again)
    assert (len(found.ids), found.wer) == (7, 0)
    assert [text.split() for text in found.references] == [text.split() for text in spoken.values()]


def test_an_id_twice_in_a_manifest_is_named_with_its_line(spoken, tmp_path):
    with gzip.open(tmp_path / "cuts.jsonl.gz", "wt", encoding="utf-8") as file:
        for cut in [*cutset(spoken), next(iter(cutset(spoken)))]:
            file.write(json.dumps(cut.to_dict()) + "\n")
    with pytest.raises(UserError, match=r"cuts\.jsonl\.gz, line 8: the id '0' stands in an earlier line too"):
        list(read_cuts(tmp_path, allow_outside=True))


@pytest.mark.slow
def test_twenty_minutes_are_evaluated_in_less_than_a_gigabyte(recogniser, tmp_path):
    """In one forward, the attention of 15,000 frames alone would take more."""
    place = save(*recogniser, tmp_path / "mini")
    soundfile.write(tmp_path / "long.wav", np.tile(clips(10.0)[0] / 8, 120), 16_000)
    (tmp_path / "metadata.csv").write_text(f"file_name,text\nlong.wav,{'bad bee ' * 500}\n")
    script = (
        "import sys, trimbre.cli\n"
        "assert trimbre.cli.run(sys.argv[1:]) == 0\n"
        # ru_maxrss would count what this process had before the script took its place
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))\n"
    )
    command = [sys.executable, "-c", script, "eval", str(place), "--data", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout.splitlines()[-1]) < 1e6  # kilobytes


def evaluated(hypotheses, references) -> Evaluation:
    ids = [str(number) for number in range(len(references))]
    return Evaluation(ids, references, hypotheses, "basic", 1.0, {})


def test_other_sentences_are_not_compared():
    with pytest.raises(ValueError, match="different sentences"):
        compare(evaluated(["a"], ["a"]), evaluated(["a"], ["b"]))


@pytest.fixture(scope="module")
def report(recogniser, spoken):
    """A recogniser on its own words, beside itself as `dense` and another as `control`, and on words that none says."""
    strange = dict.fromkeys(spoken, "bad bee")
    return evaluate_sets(
        recogniser=recogniser,
        data=cutset(spoken),
        watch={"street": cutset(strange)},
        references={"dense": recogniser, "control": Recogniser(mini_parakeet(seed=1), recogniser.processor)},
    )


def test_every_set_is_compared_with_every_reference(report):
    found = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert list(found["sets"]) == ["dev", "street"]
    for one in found["sets"].values():
        assert list(one["references"]) == ["dense", "control"]
        for other in one["references"].values():
            points = one["wer"]["percent"] - other["wer"]["percent"]
            assert other["comparison"]["points"] == pytest.approx(points, abs=1e-3)
            assert other["sentences"]["sha256"] == one["sentences"]["sha256"]
    assert found["reference_sizes"]["dense"] == found["size"]
    assert found["sets"]["dev"]["references"]["dense"]["comparison"]["verdict"] == "undecided"  # seven sentences


def test_intervals_are_over_speakers_where_there_are_twenty(recogniser, spoken):
    """The same 21 clips, with a speaker each, with one speaker twice, and with one who is not known."""
    many = [
        cut.with_id(f"{number:02d}") for number, cut in enumerate(list(cutset(dict.fromkeys(spoken, "bad bee"))) * 3)
    ]
    sets = {}
    for name, first in (("alone", "0"), ("twice", "1"), ("unknown", None)):
        sets[name] = []
        for number, cut in enumerate(many):
            speaker = first if number == 0 else str(number)
            segment = SupervisionSegment(cut.id, cut.recording_id, 0, cut.duration, text="bad bee", speaker=speaker)
            sets[name].append(fastcopy(cut, supervisions=[segment]))
    main = sets.pop("alone")
    other = {"dense": Recogniser(mini_parakeet(seed=1), recogniser.processor)}
    report = evaluate_sets(recogniser=recogniser, data=main, name="alone", watch=sets, references=other)
    found = report.to_json()
    for name, kind, speakers in (("alone", "speakers", 21), ("twice", "speakers", 20), ("unknown", "sentences", None)):
        one = found["sets"][name]
        assert one["speakers"] == speakers
        assert ("speakers" in one["sentences"]) == (speakers is not None)
        for resampled in (one["wer"], one["cer"], one["references"]["dense"]["comparison"]):
            assert resampled["resampled"] == kind
    console = Console(width=80, record=True)
    console.print(*evaluation(found), rates_table(found))
    shown = console.export_text()
    assert max(map(len, shown.splitlines())) <= 80
    assert " ".join(shown.split()).count("95 % intervals over sentences or speakers") == 2
    assert "intervals over speakers: alone (21), twice (20)" in shown


@pytest.mark.parametrize(
    ("speakers", "found"),
    [(["a"], "a"), (["a", "a"], "a"), (["a", "b"], None), (["a", None], None), ([""], None), ([], None), ([0], "0")],
)
def test_the_speaker_of_a_cut_is_that_of_all_its_segments(spoken, speakers, found):
    cut = next(iter(cutset(spoken)))
    cut.supervisions = [SupervisionSegment(f"{n}", "0", 0, 0.1, speaker=one) for n, one in enumerate(speakers)]
    assert speaker_of(cut) == found


@pytest.mark.parametrize(("errors", "fails"), [(15, False), (16, True)])
def test_a_reference_fails_above_thirty_percent(errors, fails):
    words = ["a"] * 50
    recognised = ["x"] * errors + ["a"] * (50 - errors)
    sentences, texts = ([" ".join(row[at : at + 5]) for at in range(0, 50, 5)] for row in (words, recognised))
    found = Evaluation([str(number) for number in range(10)], sentences, texts, "basic", 1.0, {})
    assert ReferenceResult(found, compare(found, found)).fails is fails


def test_a_failing_reference_is_reported_and_hides_no_difference(recogniser, spoken):
    """Its transcripts say the same to both, and the candidate a word more in each of 21 sentences."""
    cuts = list(cutset(spoken)) * 3
    cuts = [cut.with_id(f"{number}") for number, cut in enumerate(cuts)]
    for cut in cuts:
        cut.supervisions = [SupervisionSegment(cut.id, cut.recording_id, 0, cut.duration, text="bad bee")]
    other = Recogniser(mini_parakeet(seed=1), recogniser.processor)
    first, second = (score(model=one.model, processor=one.processor, data=cuts) for one in (recogniser, other))
    worse, better = sorted((recogniser, other), key=lambda one: (first if one is recogniser else second).wer)[::-1]
    report = evaluate_sets(recogniser=worse, data=cuts, references={"dense": better})
    comparison = report.to_json()["sets"]["dev"]["references"]["dense"]["comparison"]
    assert first.wer != second.wer
    assert min(first.wer, second.wer) > 0.3
    assert comparison["reference_fails"] is True
    assert comparison["verdict"] == compare(*sorted((first, second), key=lambda one: -one.wer)).verdict
    assert f"{100 * abs(first.wer - second.wer):+.2f} points" in comparison["sentence"]
    assert "dense itself fails here" in comparison["sentence"]


def test_tables_hold_every_figure_within_80_columns(report):
    found = report.to_json()
    console = Console(width=80, record=True)
    console.print(*evaluation(found), rates_table(found))
    shown = console.export_text()
    assert max(map(len, shown.splitlines())) <= 80
    for one in found["sets"].values():
        for rate in (one["wer"], *(other["wer"] for other in one["references"].values())):
            assert f"{rate['percent']:.2f}" in shown
            assert f"[{rate['interval'][0]:.2f}, {rate['interval'][1]:.2f}]" in shown
        for other in one["references"].values():
            assert other["comparison"]["sentence"] in " ".join(shown.split())


def test_without_references_there_is_no_comparison(recogniser, spoken):
    report = evaluate_sets(recogniser=recogniser, data=cutset(spoken))
    assert "references" not in report.to_json()["sets"]["dev"]
    assert "dense" not in evaluation_table(report.to_json()).columns


def test_data_is_a_path_a_cutset_or_a_sequence_of_cuts(recogniser, spoken, tmp_path):
    cuts = cutset(spoken)
    cuts.to_file(tmp_path / "cuts.jsonl.gz")
    ways = [tmp_path, str(tmp_path), cuts, list(cuts), tuple(cuts)]
    found = [score(**recogniser._asdict(), data=way, allow_outside=True).hypotheses for way in ways]
    assert all(one == found[0] for one in found)


def test_dev_is_no_name_for_a_watched_set(recogniser, spoken):
    with pytest.raises(OptionError, match=r"^watch='dev': that is the name of the main set"):
        evaluate_sets(recogniser=recogniser, data=cutset(spoken), watch={"dev": cutset(spoken)})
