"""What the families have in common: blocks of residual branches, each with a norm before it."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from torch import nn

from trimbre.models.anatomy import Anatomy, Group, Kind, Positions
from trimbre.models.modeling_trimbre import Skipped


class Branch(NamedTuple):
    """One residual branch, by names within its block; see `Group`."""

    name: str
    norm: str | None
    after: str | None
    """None where the block ends with the branch."""
    kind: Callable[[Any], Kind]
    """The branch's module, or the block where it has none of its own -> its kind."""


def groups_of(
    blocks: nn.ModuleList,
    path: str,
    branches: Sequence[Branch],
    *,
    end: str | None = None,
    positions: Positions = "frames",
) -> Iterator[Group]:
    """The groups of the `blocks` at `path`, in the order of the forward pass, without those that are gone.

    Args:
        end: path of the module that follows the last block.
        positions: as in `Group`.
    """
    for layer, block in enumerate(blocks):
        home = f"{path}.{layer}"
        following = f"{path}.{layer + 1}" if layer + 1 < len(blocks) else end
        for branch in branches:
            module: Any = getattr(block, branch.name, block)
            if isinstance(module, Skipped):
                continue
            kind = branch.kind(module)
            consumer: Any = module.get_submodule(kind.consumer)
            if isinstance(consumer, Skipped):
                continue
            after = f"{home}.{branch.after}" if branch.after else following
            assert after is not None
            size = consumer.weight.shape[1] // kind.rows
            norm = branch.norm and f"{home}.{branch.norm}"
            yield Group(f"{home}.{branch.name}", kind, layer, size, norm, after, home, positions)


def encoder_decoder(
    model: Any,
    encoder: Sequence[Branch],
    decoder: Sequence[Branch],
    *,
    ends: tuple[str | None, str],
    front: Sequence[Group] = (),
    front_scope: str | tuple[str, ...] = (),
) -> Anatomy:
    """The anatomy of a model whose two stacks lie in `model.encoder.layers` and `model.decoder.layers`.

    Args:
        encoder, decoder: the branches of a block of each.
        ends: paths of the modules that follow the last block of each.
        front: the groups of the front end, and the names of its parameters as `Anatomy.scopes` has them.
    """
    paths = ("model.encoder.layers", "model.decoder.layers")
    seen = groups_of(model.get_submodule(paths[0]), paths[0], encoder, end=ends[0])
    read = groups_of(model.get_submodule(paths[1]), paths[1], decoder, end=ends[1], positions="tokens")
    scopes = {
        "blocks": (f"{paths[0]}.", f"{paths[1]}."),
        "encoder-blocks": f"{paths[0]}.",
        **({"front": front_scope} if front else {}),
        "encoder": "model.encoder.",
        "decoder": ("model.decoder.", "proj_out."),
        "model": "",
    }
    # What a decoder knows of language is not for the few words of a short training to change.
    untouched = {
        **dict.fromkeys(("encoder-blocks", "front", "encoder"), scopes["decoder"]),
        "decoder": scopes["encoder"],
    }
    return Anatomy((*front, *seen, *read), scopes, untouched=untouched)


def channel_group(model: Any, path: str, kind: Kind) -> Group:
    """The channels of a front end's `kind`, of which at least one stays; `path` is a name beside the convolutions."""
    consumer = model.get_submodule(f"{path.rpartition('.')[0]}.{kind.consumer}")
    size = consumer.weight.shape[1] // kind.rows
    return Group(path, kind, None, size, positions="inputs", skippable=False, least=1)
