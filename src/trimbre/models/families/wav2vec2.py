"""wav2vec 2.0 and its kin, on raw audio: convolutions, then blocks of attention and a feed-forward with norms."""

from collections.abc import Callable, Iterator
from typing import Any

from trimbre.models.anatomy import Anatomy, Group, Kind
from trimbre.models.families.blocks import Branch, channel_group, groups_of
from trimbre.models.families.kinds import attention, channels, feed_forward
from trimbre.models.families.registry import Family
from trimbre.models.heads.ctc import CTC

FEED_FORWARD = feed_forward("intermediate_dense", "output_dense")
PROJECTIONS = [f"{name}_proj.{part}" for name in "qkv" for part in ("weight", "bias")]


def self_attention(module: Any) -> Kind:
    """Attention as all of the kin have it."""
    return attention(module.head_dim, PROJECTIONS, "out_proj", attributes={"num_heads": 1})


def anatomy(model: Any, self_attention: Callable[[Any], Kind] = self_attention) -> Anatomy:
    """What can be cut from a `Wav2Vec2ForCTC` or one of its kin, dense or pruned before."""
    encoder, home = model.base_model.encoder, model.base_model_prefix
    # Pre-norm blocks are of a class of their own; the norms have the same names in both.
    first = type(encoder.layers[0]).__name__.endswith("StableLayerNorm")
    adapter = getattr(encoder.layers[0], "adapter_layer", None)  # of a language (MMS), behind the feed-forward
    if first:
        branches = (
            Branch("attention", "layer_norm", "final_layer_norm", self_attention),
            Branch("feed_forward", "final_layer_norm", adapter and "adapter_layer", lambda module: FEED_FORWARD),
        )
    else:
        branches = (
            Branch("attention", None, "layer_norm", self_attention),
            Branch("feed_forward", None, "final_layer_norm", lambda module: FEED_FORWARD),
        )
    path = f"{home}.encoder.layers"
    blocks = groups_of(encoder.layers, path, branches, end=f"{home}.encoder.layer_norm")
    return Anatomy((*front_end(model), *blocks), scopes(model))


def front_end(model: Any) -> Iterator[Group]:
    """The channels between the convolutions of a front end of raw audio; none where a norm is over all of them.

    The last convolution's stay: the projection behind it normalises over them too.
    """
    path = f"{model.base_model_prefix}.feature_extractor.conv_layers"
    layers = model.get_submodule(path)
    norms = [type(getattr(layer, "layer_norm", None)).__name__ for layer in layers]
    for first in range(len(layers) - 1):
        if norms[first] != "LayerNorm":  # what it makes of one channel depends on all others
            between = (f"{first}.layer_norm",) if norms[first] == "GroupNorm" else ()
            kind = channels(f"channels-{first}", f"{first}.conv", f"{first + 1}.conv", between=between)
            yield channel_group(model, f"{path}.{first}-{first + 1}", kind)


def scopes(model: Any) -> dict[str, str]:
    """The parts of a model on raw audio that a share may be of."""
    home = model.base_model_prefix
    front = {"front": f"{home}.feature_extractor."} if any(front_end(model)) else {}
    return {"blocks": f"{home}.encoder.layers.", **front, "encoder": f"{home}.", "model": ""}


FAMILY = Family(
    name="wav2vec2",
    classes=("Wav2Vec2ForCTC", "HubertForCTC", "Data2VecAudioForCTC", "UniSpeechForCTC", "UniSpeechSatForCTC"),
    head=CTC(),
    anatomy=anatomy,
)
