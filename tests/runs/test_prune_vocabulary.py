"""Pruning with fewer rows of the vocabulary, from end to end: what a share counts, what is taught, what is refused."""

import json
import re
from dataclasses import replace

import pytest
import torch
from helpers.families import FAMILIES
from helpers.runs import assert_equal_weights, weights
from helpers.wordy import ENGLISH, GERMAN, wordy, wordy_processor
from lhotse.utils import fastcopy

import trimbre
from trimbre.benchmark.timing import Spread
from trimbre.cli import run
from trimbre.config import AugmentConfig, BatchConfig, DistillationConfig, GateConfig, PruneConfig, RecoveryConfig
from trimbre.data.batches import training_batches
from trimbre.data.cuts import read_cuts
from trimbre.errors import UserError
from trimbre.models.checkpoint import load_plan, save
from trimbre.models.heads.whisper import Whisper
from trimbre.models.heads.writing import generated
from trimbre.models.loading import Recogniser, load
from trimbre.models.vocabulary import kept_tokens, smaller_processor
from trimbre.pruning.surgery import cut, without_rows
from trimbre.runs import prune as orchestration
from trimbre.training.pseudo_labels import PseudoLabeller

QUICK = PruneConfig(
    remove=0.4,
    budget="params",
    of="model",
    method="activation",
    precision="fp32",
    calibration_batches=1,
    gates=GateConfig(steps=3),
    recovery=RecoveryConfig(steps=2, refit_batches=1),
    batches=BatchConfig(max_duration=4.0, augment=AugmentConfig.none()),
)

pytestmark = pytest.mark.family("whisper")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    place = tmp_path_factory.mktemp("models") / "teacher"
    return str(save(wordy("whisper, multilingual"), wordy_processor(), place))


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    file = tmp_path_factory.mktemp("texts") / "english.txt"
    file.write_text(f"{ENGLISH}\n\n{ENGLISH.upper()}\n")
    return str(file)


@pytest.fixture(autouse=True)
def untimed(monkeypatch):
    """Nothing is timed here: a random model writes to the last token that there is room for."""
    monkeypatch.setattr(orchestration, "times_faster", lambda *models: Spread(1.0, 1.0, 1.0))


def parameters(path):
    return load(path).model.num_parameters()


@pytest.mark.parametrize("method", ["activation", pytest.param("l0", marks=pytest.mark.slow)])
def test_rows_count_among_what_leaves_of_the_model(teacher, text, noise_corpus, tmp_path, method):
    config = replace(QUICK, method=method)
    result = trimbre.prune(
        teacher,
        train=noise_corpus,
        dev=list(read_cuts(noise_corpus))[:2],
        vocabulary=text,
        config=config,
        out=tmp_path / "small",
    )
    report = result.report
    assert report["missed"] is None
    left = parameters(tmp_path / "small") / parameters(teacher)
    assert 1 - left == pytest.approx(report["removed"]["params"]["model"]) == pytest.approx(0.4, abs=0.005)
    assert report["dense"]["params"]["model"] == parameters(teacher)
    rows = report["rows"]
    assert (rows["kept"], rows["of"], rows["texts"]) == (load(tmp_path / "small").model.config.vocab_size, 470, text)
    gone = (rows["of"] - rows["kept"]) * 32
    blocks = report["removed"]["params"]["blocks"] * report["dense"]["params"]["blocks"]
    assert parameters(teacher) - parameters(tmp_path / "small") == round(gone + blocks)
    macs = report["removed"]["macs"]["model"] * report["dense"]["macs"]["model"]
    of_blocks = report["removed"]["macs"]["blocks"] * report["dense"]["macs"]["blocks"]
    assert macs - of_blocks == pytest.approx(3 * gone)  # tokens per second

    evaluation = report["evaluation"]
    assert "dense" in evaluation["sets"]["dev"]["references"]
    assert evaluation["reference_sizes"]["dense"]["parameters"] == parameters(teacher)
    assert f"{rows['kept']:,} of {rows['of']:,} tokens" in (tmp_path / "small/README.md").read_text()
    small, processor = load(tmp_path / "small")
    assert len(processor.tokenizer) == rows["kept"]
    plan = load_plan(tmp_path / "small")
    assert plan == result.plan
    again = cut(load(teacher).model, plan)  # the plan says it all
    assert {n: p.shape for n, p in again.named_parameters()} == {n: p.shape for n, p in small.named_parameters()}
    stated, loaded = again.generation_config.to_dict(), small.generation_config.to_dict()
    assert {name: value for name, value in stated.items() if value is not None}.items() <= loaded.items()


def test_rows_alone_leave_an_ordinary_model(teacher, text, noise_corpus, tmp_path, capsys):
    given = ["--train", str(noise_corpus), "--remove", "0", "--recover-steps", "0", "--calibration-batches", "1"]
    assert run(["prune", teacher, *given, "--vocabulary", text, "--out", str(tmp_path / "small")]) == 0
    plan = load_plan(tmp_path / "small")
    assert f"vocabulary: {len(plan.vocabulary.kept)} of 470 rows stay" in " ".join(capsys.readouterr().out.split())
    assert not (tmp_path / "small/modeling_trimbre.py").exists()
    assert "trimbre" not in json.loads((tmp_path / "small/config.json").read_text())
    dense, small = weights(teacher), weights(tmp_path / "small")
    name = "model.decoder.embed_tokens.weight"
    assert torch.equal(small.pop(name), dense.pop(name)[list(plan.vocabulary.kept)])
    assert all(torch.equal(value, dense[key]) for key, value in small.items() if key != "proj_out.weight")
    assert "rows of its vocabulary were removed" in (tmp_path / "small/README.md").read_text()

    # What comes out is pruned like any other, and recognises.
    further = trimbre.prune(str(tmp_path / "small"), train=noise_corpus, config=replace(QUICK, remove=0.2, of="blocks"))
    assert further.plan.vocabulary == plan.vocabulary
    further.save(tmp_path / "further")
    assert cut(load(teacher).model, further.plan).num_parameters() == parameters(tmp_path / "further")
    clip = next(iter(read_cuts(noise_corpus))).recording.sources[0].source
    assert run(["transcribe", str(tmp_path / "further"), clip]) == 0
    assert run(["inspect", str(tmp_path / "further"), "--verify"]) == 0
    assert f"vocabulary: {len(plan.vocabulary.kept)} tokens" in " ".join(capsys.readouterr().out.split())


def test_the_teacher_s_scores_are_of_the_tokens_that_stay_and_its_texts_its_own(teacher, noise_corpus):
    """What it would write in tokens that are gone is spelled in those that stay."""
    model, processor = load(teacher)
    model.generation_config.max_new_tokens = 5
    kept = kept_tokens(processor.tokenizer, 470, [])
    small, less = without_rows(model, kept), smaller_processor(processor, kept)
    model.generation_config.suppress_tokens = list(kept.kept)
    batches = training_batches(
        read_cuts(noise_corpus), processor=less, options=QUICK.batches, seed=0, transcripts=False
    )
    batch = next(batches)
    written = generated(model, batch.inputs, processor)
    found = PseudoLabeller(small, less, writer=Recogniser(model, processor))(batch)
    assert list(found.texts) == written != list(PseudoLabeller(small, less)(batch).texts)
    for row, text in zip(found.labels, written, strict=True):
        assert less.tokenizer.decode(row[row >= 0], skip_special_tokens=True).strip() == text
    read = found.inputs["decoder_input_ids"]
    with torch.no_grad():
        scores = small(**found.inputs).logits.log_softmax(-1)
        whole = dict(found.inputs) | {"decoder_input_ids": torch.tensor(kept.kept)[read]}
        restricted = model(**whole).logits[..., list(kept.kept)].log_softmax(-1)
    assert torch.allclose(scores, restricted, atol=1e-5)


@pytest.mark.slow
def test_the_teacher_s_own_text_teaches_and_a_stopped_run_goes_on(teacher, text, noise_corpus, tmp_path, monkeypatch):
    cuts = list(read_cuts(noise_corpus))
    own = replace(QUICK, distillation=DistillationConfig(text="teacher"), low_memory=True, precision="bf16")
    writers, written = [], Whisper.written
    with monkeypatch.context() as patched:
        patched.setattr(Whisper, "written", lambda *given, **more: writers.append(given[1]) or written(*given, **more))
        low = trimbre.prune(teacher, train=cuts, dev=cuts[:2], vocabulary=text, config=own)
    assert {model.config.vocab_size for model in writers} == {470}  # the whole model's
    assert low.report["missed"] is None
    given = {"vocabulary": text, "config": QUICK}
    trimbre.prune(teacher, train=cuts, out=tmp_path / "whole", **given)
    with monkeypatch.context() as patched:
        patched.setattr(orchestration, "_report", stop)
        with pytest.raises(KeyboardInterrupt):
            trimbre.prune(teacher, train=cuts, out=tmp_path / "stopped", **given)
    other = [fastcopy(cut, supervisions=[fastcopy(cut.supervisions[0], text=GERMAN)]) for cut in cuts]
    with pytest.raises(UserError, match="rows"):
        trimbre.prune(teacher, train=other, out=tmp_path / "stopped", resume=True, **given)
    trimbre.prune(teacher, train=cuts, out=tmp_path / "stopped", resume=True, **given)
    assert_equal_weights(tmp_path / "whole", tmp_path / "stopped")


def stop(*given):
    """Ends a run as Ctrl-C would."""
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("--remove 0", "--remove 0: give a share above 0 and below 1"),
        ("--vocabulary TEXT --remove 0.01 --of model", "the rows of the vocabulary that leave are .* ask for more"),
        ("--vocabulary TEXT --rtf 0.01", "--vocabulary .*english.txt: time is measured on a model as it is"),
        ("--vocabulary EMPTY", "--vocabulary .*empty.txt: there is no word in it"),
        ("--vocabulary gone.txt", "--vocabulary gone.txt: there is no such file"),
        ("--vocabulary BYTES", "bytes.txt, line 1: not UTF-16, save the file in the encoding UTF-8"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_sentence(teacher, text, noise_corpus, tmp_path, capsys, given, sentence):
    (tmp_path / "empty.txt").write_text(" \n\n")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    places = {"TEXT": text, "EMPTY": str(tmp_path / "empty.txt"), "BYTES": str(tmp_path / "bytes.txt")}
    words = [places.get(word, word) for word in given.split()]
    refused(teacher, noise_corpus, tmp_path, words, sentence, capsys)


def test_a_ctc_model_keeps_its_rows(text, noise_corpus, tmp_path, capsys):
    family = FAMILIES["parakeet"]
    model = str(save(family.build(), family.processor(), tmp_path / "ctc"))
    sentence = (
        "--vocabulary .*english.txt: rows can be removed from a Whisper, and this is a ParakeetForCTC: leave it out"
    )
    refused(model, noise_corpus, tmp_path, ["--vocabulary", text], sentence, capsys)


def refused(model, corpus, tmp_path, words, sentence, capsys):
    assert run(["prune", model, "--train", str(corpus), "--out", str(tmp_path / "out"), *words]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(sentence, said), said
    assert not (tmp_path / "out").exists()
