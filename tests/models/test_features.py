"""Features beside those of transformers' own extractor, which is the judge."""

import numpy as np
import pytest
import torch
from transformers import ParakeetFeatureExtractor

from trimbre.models.features import computes, log_mel
from trimbre.models.inputs import features_of


@pytest.mark.parametrize("lengths", [(160_000,), (16_000, 3_203, 30_001), (1_600,), (480, 5_000), (8_000, 8_000)])
@pytest.mark.parametrize("given", [{}, {"feature_size": 16, "preemphasis": None}, {"n_fft": 400, "hop_length": 100}])
def test_they_are_those_of_transformers(lengths, given):
    draw = np.random.default_rng(0)
    clips = [(0.1 * draw.standard_normal(length)).astype(np.float32) for length in lengths]
    before = [clip.copy() for clip in clips]
    extractor = ParakeetFeatureExtractor(**given)
    expected = dict(extractor(clips, sampling_rate=16_000, padding=True, return_tensors="pt"))
    found = log_mel(clips, extractor)
    assert list(found) == list(expected)
    assert torch.equal(found["attention_mask"], expected["attention_mask"])
    assert found["input_features"].dtype == torch.float32
    torch.testing.assert_close(found["input_features"], expected["input_features"], rtol=0, atol=2e-5)
    assert all(np.array_equal(clip, same) for clip, same in zip(clips, before, strict=True))


def test_extractors_beside_each_other_keep_their_own_windows_and_filters():
    clip = [(0.1 * np.random.default_rng(0).standard_normal(16_000)).astype(np.float32)]
    extractors = [ParakeetFeatureExtractor(**given) for given in ({}, {"win_length": 300}, {"feature_size": 16})]
    for extractor in (*extractors, *extractors):
        expected = extractor(clip, sampling_rate=16_000, return_tensors="pt")["input_features"]
        torch.testing.assert_close(log_mel(clip, extractor)["input_features"], expected, rtol=0, atol=2e-5)


def test_digital_silence_is_what_it_is_in_transformers():
    extractor = ParakeetFeatureExtractor()
    clips = [np.zeros(16_000, dtype=np.float32)]
    expected = extractor(clips, sampling_rate=16_000, padding=True, return_tensors="pt")["input_features"]
    torch.testing.assert_close(log_mel(clips, extractor)["input_features"], expected, rtol=0, atol=1e-4)


def test_other_extractors_keep_their_own(family):
    extractor = family.processor().feature_extractor
    assert computes(extractor) == (type(extractor) is ParakeetFeatureExtractor)
    assert not computes(ParakeetFeatureExtractor(padding_value=1.0))
    clip = np.ones(16_000, dtype=np.float32)
    padding = "max_length" if hasattr(extractor, "chunk_length") else True
    expected = extractor([clip], sampling_rate=16_000, padding=padding, return_tensors="pt")
    found = features_of([clip], family.processor())
    assert found.keys() == dict(expected).keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=2e-4)


def test_autocast_around_them_changes_nothing(family):
    clip = (0.1 * np.random.default_rng(0).standard_normal(16_000)).astype(np.float32)
    expected = features_of([clip], family.processor())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = features_of([clip], family.processor())
    assert all(torch.equal(value, expected[name]) for name, value in found.items())
