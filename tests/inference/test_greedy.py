"""Greedy CTC decoding, against hand-written alignments and transformers' own decoding."""

import numpy as np
import pytest
import torch
from helpers.mini_recogniser import PIECES, clips, mini_parakeet, mini_processor
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2ConformerConfig,
    Wav2Vec2ConformerForCTC,
    Wav2Vec2ForCTC,
    pipeline,
)

from trimbre.inference.greedy import greedy
from trimbre.models.families.registry import head_of
from trimbre.models.heads.ctc import CTC, collapse, spell
from trimbre.models.inputs import features_of


@pytest.mark.parametrize(
    ("frames", "labels"),
    [
        ([], []),
        ([0, 0, 0], []),
        ([3, 3, 3], [3]),
        ([3, 0, 3], [3, 3]),
        ([0, 3, 3, 4, 0, 0, 4, 4, 3, 0], [3, 4, 4, 3]),
    ],
)
def test_collapse_by_hand(frames, labels):
    assert collapse(frames, 0) == labels


def test_repeats_kept_apart_by_a_blank_are_spelled_twice():
    a, space_a = PIECES.index("a"), PIECES.index("▁a")
    assert spell([space_a, a, 0, a, a, 0, space_a, 0], processor=mini_processor(), blank=0) == "aaa a"
    assert spell([0, 0], processor=mini_processor(), blank=0) == ""


def test_transformers_decodes_the_same_three_ways():
    model, processor = mini_parakeet(), mini_processor()
    audio = clips(1.7, 0.6, 2.4)
    recognise = pipeline(
        "automatic-speech-recognition",
        model=model,
        tokenizer=processor.tokenizer,
        feature_extractor=processor.feature_extractor,
    )
    alone = [processor(clip, sampling_rate=16000) for clip in audio]
    ours = [greedy(model, inputs, processor)[0] for inputs in alone]
    assert all(len(set(text)) > 2 for text in ours)
    assert ours == [processor.decode(model.generate(**inputs)[0]) for inputs in alone]
    assert ours == [recognise(clip)["text"] for clip in audio]


def test_padding_adds_nothing():
    model, processor = mini_parakeet(), mini_processor()
    audio = clips(1.7, 0.6, 2.4)
    batch = processor(audio, sampling_rate=16000)
    apart = [greedy(model, processor(clip, sampling_rate=16000), processor)[0] for clip in audio]
    assert greedy(model, batch, processor) == apart
    assert greedy(model, batch, processor) == processor.batch_decode(model.generate(**batch))


WAV2VEC2 = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 12,
    "conv_dim": (8, 8),
    "conv_stride": (5, 4),
    "conv_kernel": (10, 3),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "feat_extract_norm": "layer",
    "layerdrop": 0.0,
    "pad_token_id": 0,
}


def test_wav2vec2_lengths_are_those_of_the_utterances_alone():
    torch.manual_seed(0)
    model = Wav2Vec2ForCTC(Wav2Vec2Config(**WAV2VEC2)).eval()
    values = torch.randn(2, 1000)
    mask = torch.ones_like(values, dtype=torch.long)
    mask[1, 617:] = 0
    inputs = {"input_values": values, "attention_mask": mask}
    alone = [model(values[:1]).logits.shape[1], model(values[1:, :617]).logits.shape[1]]
    head = head_of(model)
    assert head.output_lengths(model, inputs).tolist() == alone
    assert [len(labels) for labels in head.frame_labels(model, inputs)] == alone
    assert head.output_lengths(model, {"input_values": values}) is None


def test_a_model_that_has_been_evaluated_can_still_be_trained():
    sizes = WAV2VEC2 | {"position_embeddings_type": "rotary", "conv_depthwise_kernel_size": 3}
    model = Wav2Vec2ConformerForCTC(Wav2Vec2ConformerConfig(**sizes))
    values = torch.randn(1, 600)
    CTC().frame_labels(model, {"input_values": values})
    model(values).logits.sum().backward()
    assert model.lm_head.weight.grad is not None


@pytest.mark.parametrize("samples", [0, 1, 200, 319])
def test_hardly_any_audio_has_features(samples):
    inputs = features_of([np.full(samples, 0.1, dtype=np.float32), np.ones(9_000, dtype=np.float32)], mini_processor())
    assert all(torch.isfinite(value.float()).all() for value in inputs.values())
