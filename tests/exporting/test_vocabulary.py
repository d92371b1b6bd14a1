"""A Whisper with fewer rows is exported as any other, and what runs it writes what it writes."""

import copy
import json

import numpy as np
import onnx_asr
import pytest
import torch
from helpers.families import shaken
from helpers.wordy import ENGLISH, wordy, wordy_processor
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperProcessor

import trimbre
from trimbre.exporting.runtime import load_exported
from trimbre.inference.greedy import greedy
from trimbre.models.heads.writing import generated
from trimbre.models.inputs import features_of
from trimbre.models.vocabulary import kept_tokens, smaller_processor
from trimbre.pruning.surgery import without_rows

CLIPS = [np.random.default_rng(3).standard_normal(20_000).astype(np.float32) * 0.1]


@pytest.mark.slow
@pytest.mark.family("whisper")
def test_both_runtimes_write_what_the_model_writes(tmp_path):
    plain = wordy("whisper, multilingual")
    config = copy.deepcopy(plain.config)
    config.max_source_positions, config.max_target_positions = 1500, 448
    torch.manual_seed(0)
    dense = shaken(WhisperForConditionalGeneration(config))
    dense.generation_config = copy.deepcopy(plain.generation_config)
    dense.generation_config.max_length = 30
    dense.generation_config.forced_decoder_ids, dense.generation_config.task = None, "transcribe"
    processor = WhisperProcessor(WhisperFeatureExtractor(), wordy_processor().tokenizer)
    kept = kept_tokens(processor.tokenizer, config.vocab_size, [ENGLISH])
    model, processor = without_rows(dense, kept), smaller_processor(processor, kept)
    trimbre.export((model, processor), to="onnx-asr", out=tmp_path / "out", language="de")
    described = json.loads((tmp_path / "out/export.json").read_text())
    assert described["labels"] == len(kept.kept) < config.vocab_size
    features = features_of(CLIPS, processor)
    texts = generated(model, features, processor, language="de")
    assert len(texts[0]) > 20
    exported = load_exported(tmp_path / "out", threads=1)
    assert greedy(exported.model, features, exported.processor) == texts
    asr = onnx_asr.load_model("whisper", tmp_path / "out")
    assert [asr.recognize(clip).strip() for clip in CLIPS] == texts
