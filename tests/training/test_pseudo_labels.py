"""What a decoder reads: the text that transformers itself would have it read, and learns: what comes next."""

from copy import deepcopy

import pytest
import torch
from helpers.families import END, FAMILIES
from transformers import WhisperForConditionalGeneration

from trimbre.data.batches import Batch
from trimbre.models.heads.seq2seq import LONGEST_PERIOD, REPEATS, SHORTEST_LOOP, StopRepetition
from trimbre.models.heads.writing import generated
from trimbre.training.pseudo_labels import PseudoLabeller
from trimbre.training.task_loss import transcript_loss


@pytest.fixture(params=[name for name in FAMILIES if name.startswith("whisper")], scope="session")
def family(request):
    return FAMILIES[request.param]


START, ENGLISH, GERMAN, TRANSCRIBE, PLAIN = END + 1, END + 2, END + 3, END + 5, END + 9


def windows(padded, texts, languages) -> Batch:
    features = padded["input_features"][: len(texts)]
    return Batch({"input_features": features}, None, texts, ["x"] * len(texts), 1.0, {}, languages)


def test_transcripts_are_spelled_after_the_prefix_and_end(model, processor, padded):
    batch = PseudoLabeller(model, processor)(windows(padded, ["Bad cab.", "", "a"], ["en", "de", "en"]))
    many = model.generation_config.is_multilingual
    read, mask, labels = batch.inputs["decoder_input_ids"], batch.inputs["decoder_attention_mask"], batch.labels
    for row, (text, language) in enumerate([(" Bad cab.", ENGLISH), ("", GERMAN), (" a", ENGLISH)]):
        prefix = [START, language, TRANSCRIBE, PLAIN] if many else [START, PLAIN]
        spelled = processor.tokenizer(text, add_special_tokens=False).input_ids
        length = len(prefix) + len(spelled)
        assert read[row, :length].tolist() == [*prefix, *spelled]
        assert mask[row].tolist() == [1] * length + [0] * (read.shape[1] - length)
        said = [*[-100] * (len(prefix) - 1), *spelled, END]
        assert labels[row].tolist() == said + [-100] * (labels.shape[1] - length)
    assert processor.batch_decode(read, skip_special_tokens=True)[0].strip() == "Bad cab."


def test_the_loss_is_that_of_transformers_on_the_same_labels(model, processor, padded):
    """Which shifts the labels by itself; the prefix and other rows' padding have no part in it."""
    batch = PseudoLabeller(model, processor)(windows(padded, ["Bad cab.", "a"], ["en", "en"]))
    total, count = 0.0, 0
    for row, text in enumerate(["Bad cab.", "a"]):
        prefix = batch.inputs["decoder_input_ids"][row, : 4 if model.generation_config.is_multilingual else 2]
        spelled = processor.tokenizer(f" {text}", add_special_tokens=False).input_ids
        whole = torch.tensor([[*prefix[1:], *spelled, END]])
        logits = model(padded["input_features"][row : row + 1], labels=whole).logits[0, len(prefix) - 1 :]
        terms = torch.nn.functional.cross_entropy(logits, whole[0, len(prefix) - 1 :], reduction="sum")
        total, count = total + float(terms.detach()), count + len(logits)
    assert float(transcript_loss(model, batch).detach()) == pytest.approx(total / count, rel=1e-4)


def test_the_teacher_labels_audio_without_transcript(model, processor, padded):
    languages = [None, "de", None]
    batch = PseudoLabeller(model, processor)(windows(padded, [None, "Bad.", None], languages))
    assert batch.texts[1] == "Bad."
    spoken = None
    if model.generation_config.is_multilingual:
        spoken = processor.tokenizer.convert_ids_to_tokens(batch.inputs["decoder_input_ids"][[0, 2], 1])
        assert spoken == processor.tokenizer.convert_ids_to_tokens(model.detect_language(padded["input_features"]))[::2]
    written = generated(model, {"input_features": padded["input_features"][::2]}, processor, language=spoken)
    assert batch.texts[::2] == written
    assert all(written)


def test_a_teacher_writes_in_the_precision_that_it_is_held_in(model, processor, padded):
    """One that is held in bfloat16 reads features in float32, which takes autocast; one in float32 goes without."""
    entered = []

    def precision():
        entered.append(True)
        return torch.autocast("cpu", torch.bfloat16)

    for teacher in (model, deepcopy(model).bfloat16()):
        batch = PseudoLabeller(teacher, processor, precision)(windows(padded, [None, "a"], ["en", "en"]))
        assert batch.texts[0]
        assert bool(entered) == (teacher is not model)


@pytest.mark.parametrize("period", [1, 5, LONGEST_PERIOD])
def test_repetition_loops_are_ended_and_nothing_else(period):
    length = max(SHORTEST_LOOP, REPEATS * period)
    loop = (list(range(100, 100 + period)) * length)[:length]
    varied = list(range(length))
    slip = [*loop[:-1], 7]
    texts = torch.tensor([[1, *row] for row in (loop, varied, slip)])
    assert StopRepetition()(texts, None).tolist() == [True, False, False]
    assert not StopRepetition()(texts[:, 2:], None).any()


def test_a_teacher_in_a_repetition_loop_is_stopped(model, processor, padded):
    config = deepcopy(model.config)
    config.max_target_positions = 4 * SHORTEST_LOOP
    loop = WhisperForConditionalGeneration(config).eval()
    loop.generation_config = deepcopy(model.generation_config)
    loop.generation_config.max_length = config.max_target_positions
    with torch.no_grad():
        loop.proj_out.weight.zero_()  # all tokens are as likely, so that the first is written for ever
    batch = PseudoLabeller(loop, processor)(windows(padded, [None, "a"], ["en", "en"]))
    assert SHORTEST_LOOP <= (batch.labels[0] >= 0).sum() < 2 * SHORTEST_LOOP


def test_a_text_that_is_too_long_is_broken_off(model, processor, padded):
    batch = PseudoLabeller(model, processor)(windows(padded, ["a" * 100], ["en"]))
    assert batch.inputs["decoder_input_ids"].shape == batch.labels.shape == (1, 40)
    assert END not in batch.labels
    model(**batch.inputs, labels=batch.labels)
