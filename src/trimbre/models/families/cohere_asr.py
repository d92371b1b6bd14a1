"""Cohere's recogniser: Parakeet's encoder and a decoder of text, which is told what language is spoken."""

from typing import Any

from transformers.models.cohere_asr.processing_cohere_asr import LANGUAGES

from trimbre.models.anatomy import Anatomy, Kind
from trimbre.models.families import kinds, parakeet
from trimbre.models.families.blocks import encoder_decoder
from trimbre.models.families.moonshine import decoder_branches
from trimbre.models.families.registry import Family
from trimbre.models.heads.prompted import Prompted

LENGTHS = "model.encoder._get_subsampling_output_length"
FEED_FORWARD = kinds.feed_forward("fc1", "fc2", name="decoder-ffn")


def attention(module: Any, *, name: str, source: str = "") -> Kind:
    """The kind of an attention module of the decoder; `source` as in `kinds.attention`."""
    return kinds.attention(module.head_dim, parakeet.PROJECTIONS, "o_proj", name=name, source=source)


def anatomy(model: Any) -> Anatomy:
    """What can be cut from a `CohereAsrForConditionalGeneration` or a Canary, dense or pruned before."""
    decoder = decoder_branches(attention, FEED_FORWARD)
    return encoder_decoder(model, parakeet.branches(), decoder, ends=(None, "model.decoder.norm"))


def prompt(processor: Any, language: str, task: str | None) -> list[int]:
    """The tokens before a text, as the processor gives them."""
    return list(processor.get_decoder_prompt_ids(language=language))


FAMILY = Family(
    name="cohere-asr",
    classes=("CohereAsrForConditionalGeneration",),
    head=Prompted(lengths=LENGTHS, masks_padding=True, prompt=prompt, languages=frozenset(LANGUAGES)),
    anatomy=anatomy,
    runtimes=(),
)
