"""A Parakeet of a few thousand random weights with a vocabulary of its own, for tests that need text."""

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    ParakeetCTCConfig,
    ParakeetEncoderConfig,
    ParakeetFeatureExtractor,
    ParakeetForCTC,
    ParakeetProcessor,
    ParakeetTokenizer,
)

PIECES = ["<pad>", "<unk>", "▁", *"abcdefgh", "▁a", "ab", "▁ba"]


def mini_processor() -> ParakeetProcessor:
    backend = Tokenizer(models.BPE({piece: i for i, piece in enumerate(PIECES)}, [], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    tokenizer = ParakeetTokenizer(tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>")
    return ParakeetProcessor(ParakeetFeatureExtractor(feature_size=16), tokenizer, decoder_type="ctc")


def mini_parakeet(seed: int = 0) -> ParakeetForCTC:
    torch.manual_seed(seed)
    encoder = ParakeetEncoderConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        num_mel_bins=16,
        subsampling_conv_channels=4,
        layerdrop=0.0,
    )
    config = ParakeetCTCConfig(vocab_size=len(PIECES), encoder_config=encoder.to_dict(), pad_token_id=0)
    model = ParakeetForCTC(config).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv1d | torch.nn.Conv2d):
            module.reset_parameters()
    # Left alone, a random model says one label for ever: take its average frame out of the head.
    with torch.no_grad():
        average = model(**mini_processor()(clips(3.0), sampling_rate=16000)).logits.mean(1)[0]
        model.ctc_head.bias -= average
    return model


def clips(*seconds: float) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    sizes = [int(16000 * length) for length in seconds]
    return [(rng.standard_normal(size) * np.linspace(0, 1, size)).astype("float32") for size in sizes]
