"""Transducers: the text of transformers' `generate`, losses of texts, and distillation along an alignment."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers.families import FAMILIES, RNNT, random_plan, shaken, talkative
from transformers import pipeline

import trimbre
from trimbre.config import DistillationConfig
from trimbre.data.batches import Batch
from trimbre.errors import UserError
from trimbre.inference.greedy import greedy
from trimbre.inference.long_form import transcriber
from trimbre.models.checkpoint import save
from trimbre.models.families.registry import anatomy_of, head_of
from trimbre.models.heads import lattice
from trimbre.models.heads.emissions import greedy_emissions
from trimbre.models.inputs import features_of
from trimbre.pruning.equivalence import verify_cutting
from trimbre.pruning.surgery import cut
from trimbre.training.cpu_kernels import CpuKernels
from trimbre.training.distillation import Distiller, Objective
from trimbre.training.pseudo_labels import PseudoLabeller
from trimbre.training.task_loss import transcript_loss

KINDS = {"TDT": FAMILIES["transducer, TDT"], "RNN-T": RNNT}
NOISE = np.random.default_rng(0)
CLIPS = [NOISE.standard_normal(samples).astype(np.float32) for samples in (9_000, 16_000, 24_000, 48_000)]


@pytest.fixture(params=KINDS)
def recogniser(request):
    torch.manual_seed(0)
    model, processor = shaken(KINDS[request.param].build()), KINDS[request.param].processor()
    talkative(model, processor)
    return model, processor


def test_tokens_and_durations_are_those_of_generate_and_a_batch_is_its_clips(recogniser):
    model, processor = recogniser
    together = head_of(model).emissions(model, features_of(CLIPS, processor))
    for clip, found in zip(CLIPS, together, strict=True):
        given = model.generate(**features_of([clip], processor))
        tokens, onward = given.sequences[0, 1:], given.durations[0, 1:]
        spoken = tokens != model.config.blank_token_id
        frames = onward.cumsum(0) - onward
        assert [one.token for one in found] == tokens[spoken].tolist()
        assert [one.frame for one in found] == frames[spoken].tolist()
        assert [one.onward for one in found] == onward[spoken].tolist()
    assert len({tuple(one.token for one in row) for row in together}) > 2


def test_texts_are_those_of_the_pipeline_and_repeated_letters_stay(recogniser):
    model, processor = recogniser
    recognise = pipeline(
        "automatic-speech-recognition",
        model=model,
        tokenizer=processor.tokenizer,
        feature_extractor=processor.feature_extractor,
    )
    texts = greedy(model, features_of(CLIPS[1:], processor), processor)
    assert texts == [recognise(clip)["text"] for clip in CLIPS[1:]]
    assert any(one == other for text in texts for one, other in pairwise(text))


def test_rnnt_goes_on_after_so_many_tokens_and_tdt_by_its_durations():
    """By hand: a joint network that always says token 1, and a duration of two frames the more frames have gone."""
    audio = torch.arange(5.0).reshape(1, 5, 1)
    predict = lambda tokens: torch.zeros(len(tokens), 1, 1)  # noqa: E731
    said = lambda text, audio: torch.tensor([0.0, 1.0]).expand(len(text), 1, 2)  # noqa: E731
    lasting = lambda text, audio: torch.cat([said(text, audio), 2 - audio, audio], -1)  # noqa: E731
    shared = {"audio": audio, "lengths": torch.tensor([5]), "vocabulary": 2, "blank": 0, "most": 3}
    (found,) = greedy_emissions(predict, said, durations=(), **shared)
    assert [one.frame for one in found] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4]  # as many steps as generate takes
    (found,) = greedy_emissions(predict, lasting, durations=(1, 3), **shared)
    assert [(one.frame, one.onward) for one in found] == [(0, 1), (1, 1), (2, 3)]


@pytest.mark.parametrize("tokens", [0, 1, 5])
def test_a_text_of_any_length_can_be_asked_for(recogniser, tokens):
    model, processor = recogniser
    timed = head_of(model).with_text_length(model, tokens)
    found = head_of(timed).emissions(timed, features_of(CLIPS, processor))
    assert [len(row) for row in found] == [tokens] * len(CLIPS)
    assert head_of(model).written is None
    assert head_of(cut(model, random_plan(anatomy_of(model), 1))).written is None


def test_a_long_recording_is_one_text_over_the_frames_of_its_chunks(recogniser):
    model, processor = recogniser
    audio = np.concatenate(CLIPS)
    text = transcriber(model, processor, chunk_seconds=2.0, overlap_seconds=1.0)(audio)
    assert len(text) > 3
    whole = transcriber(model, processor)
    assert whole(audio) == greedy(model, features_of([audio], processor), processor)[0]
    # One chunk as long as the recording, or more, is the recording seen whole.
    assert transcriber(model, processor, chunk_seconds=10.0, overlap_seconds=1.0)(audio) == whole(audio)
    with pytest.raises(UserError, match="no decoding graph"):
        transcriber(model, processor, graph=object())


def test_the_text_is_read_after_a_blank_and_written_by_the_teacher_where_there_is_none(recogniser):
    model, processor = recogniser
    inputs, blank = features_of(CLIPS[:3], processor), model.config.blank_token_id
    labels = torch.tensor([[3, 4, 4], [5, -100, -100], [-100, -100, -100]])
    batch = PseudoLabeller(model, processor)(Batch(inputs, labels, ["cdd", "e", ""], ("x",) * 3, 1.0))
    assert batch.inputs["decoder_input_ids"].tolist() == [[blank, 3, 4, 4], [blank, 5, *[blank] * 2], [blank] * 4]
    assert batch.inputs["decoder_attention_mask"].sum(1).tolist() == [4, 2, 1]
    assert batch.labels is labels
    own = PseudoLabeller(model, processor)(Batch(inputs, None, ["cdd", None, None], ("x",) * 3, 1.0))
    written = head_of(model).emissions(model, inputs)
    assert [row[row >= 0].tolist() for row in own.labels] == [[one.token for one in row] for row in written]
    assert list(own.texts) == greedy(model, inputs, processor)
    for one in (batch, own):
        assert torch.isfinite(transcript_loss(model, one))


def test_the_loss_is_that_of_the_lattice_of_all_logits(recogniser):
    """And of TDT transformers' own, where every text has a token."""
    model, processor = recogniser
    labels = torch.tensor([[3, 4, 4], [5, -100, -100]])
    batch = PseudoLabeller(model, processor)(Batch(features_of(CLIPS[:2], processor), labels, ["cdd", "e"], "ab", 1.0))
    found = float(transcript_loss(model, batch).detach())
    alone = []
    for row, length in enumerate((3, 1)):
        one = Batch(features_of([CLIPS[row]], processor), labels[row : row + 1, :length], ["x"], "a", 1.0)
        alone.append(float(transcript_loss(model, PseudoLabeller(model, processor)(one)).detach()))
    tdt = bool(head_of(model).durations(model.config))
    assert found == pytest.approx(sum(alone) / 2 if tdt else (3 * alone[0] + alone[1]) / 4, rel=1e-4)
    if tdt:
        padded = labels.masked_fill(labels < 0, model.config.pad_token_id)
        given = {name: value for name, value in batch.inputs.items() if name != "decoder_attention_mask"}
        assert found == pytest.approx(
            float(model(**given, labels=padded, output_attention_mask=True).loss.detach()), rel=1e-4
        )


def test_training_on_a_cpu_makes_logits_again_as_they_were(recogniser, monkeypatch):
    """Of a real vocabulary hardly any frames are made at once."""
    model, processor = recogniser
    labels = torch.tensor([[3, 4, 4], [5, -100, -100]])
    batch = PseudoLabeller(model, processor)(Batch(features_of(CLIPS[:2], processor), labels, ["cdd", "e"], "ab", 1.0))
    found = []
    for at_once in (lattice.AT_ONCE, 2 * 4 * model.config.vocab_size):
        monkeypatch.setattr(lattice, "AT_ONCE", at_once)
        model.zero_grad()
        with CpuKernels():
            transcript_loss(model, batch).backward()
        found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(*found, strict=True))


def test_distillation_compares_the_nodes_of_the_teachers_alignment(recogniser):
    model, processor = recogniser
    batch = PseudoLabeller(model, processor)(
        Batch(features_of(CLIPS[:2], processor), torch.tensor([[3, 4, 4], [5, -100, -100]]), "ab", "ab", 1.0)
    )
    head, student = head_of(model), copy.deepcopy(model)
    with torch.no_grad():
        student.joint.head.weight.mul_(0.9)
        mine, theirs = (head.forward(one, batch.inputs) for one in (student, model))
        compared = head.posteriors(mine, theirs, None)
        lattices = [one(**batch.inputs).logits for one in (student, model)]
    frames = head.output_lengths(model, batch.inputs).tolist()
    nodes = len(compared[0].teacher[0])
    if head.durations(model.config):
        assert len(compared) == 2
        assert 4 + 2 <= nodes <= sum(frames) + 4  # a blank at the end of each
    else:
        assert len(compared) == 1
        assert nodes == sum(frames) + 4  # a blank for every frame, and four tokens
    far = "donot_use_mm_for_euclid_dist"
    for each in (0, 1):  # what is compared are logits of the two lattices
        whole = torch.cat([one[each][0] for one in compared], -1)
        distance = torch.cdist(whole, lattices[each].flatten(0, -2), compute_mode=far).min(1).values
        assert float(distance.max()) < 1e-4
    terms = Objective(student, Distiller(model, DistillationConfig()))(batch, 0)
    assert set(terms) == {"loss", "task", "posterior", "layer"}
    assert terms["posterior"] > 1e-4
    assert float(terms["layer"].detach()) == pytest.approx(0, abs=1e-9)  # the encoders are the same
    terms["loss"].backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in student.parameters())


def test_an_rnnt_is_cut_saved_loaded_and_cut_again(tmp_path):
    model, processor = shaken(RNNT.build()), RNNT.processor()
    assert verify_cutting(model, processor, plans=2) < 1e-5
    small = cut(model, random_plan(anatomy_of(model), 0))
    again = trimbre.load(save(small, processor, tmp_path / "small")).model
    inputs = head_of(model).example_inputs(model, features_of(CLIPS[:2], processor), 4)
    direct = RNNT.auto.from_pretrained(tmp_path / "small")
    with torch.no_grad():
        expected = copy.deepcopy(small)(**inputs).logits
        assert all(torch.equal(copy.deepcopy(one)(**inputs).logits, expected) for one in (again, direct))
    assert verify_cutting(again, processor, plans=1) < 1e-5


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"blank_token_id": 99}, "blank_token_id in config.json) is 99"),
        ({"blank_token_id": 3}, "spells the model's blank 3 as 'c'"),
        ({"blank_token_id": 28}, "blank is 30 and the model's is 28"),
        ({"vocab_size": 27, "blank_token_id": 26}, "spells the model's blank 26"),
        ({"vocab_size": 100, "blank_token_id": 30}, "spells 30 of the model's 100 labels"),
    ],
)
def test_a_processor_of_another_model_is_refused(change, expected):
    model, processor = RNNT.build(), RNNT.processor()
    for name, value in change.items():
        setattr(model.config, name, value)
    found = head_of(model).misfit(model, processor)
    assert expected in found
