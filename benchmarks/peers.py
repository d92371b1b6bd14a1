"""Torch-Pruning on speech models: the parts that it cuts, whether the models run afterwards, and whether they reload.

pip install torch-pruning
python benchmarks/peers.py models/telephone-en tiny.en

Half of the units of each kind of module are to be removed, in two settings. *straightforward* follows its own examples;
*adjusted* removes whole heads (`prune_head_dims=False`) and corrects the modules' head counts after the cut. A small,
randomly initialised Wav2Vec2-Conformer represents that family.
"""

import argparse
import copy
import tempfile
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from transformers import Wav2Vec2ConformerConfig, Wav2Vec2ConformerForCTC

from trimbre.models.anatomy import Anatomy, Group
from trimbre.models.families.registry import anatomy_of
from trimbre.models.loading import load

CUTTABLE = nn.Linear | nn.Conv1d | nn.Conv2d


def main() -> None:
    """Prune each model in both settings and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", nargs="+")
    asked = parser.parse_args()
    import torch_pruning

    warnings.filterwarnings("ignore")
    shown = Table("model", "cut", "parameters left", "forward", "reloads")
    for name, model in {**{name: load(name).model for name in asked.models}, "wav2vec2-conformer": small()}.items():
        model.set_attn_implementation("eager")
        anatomy = anatomy_of(model)
        for kinds in [tuple(anatomy.kinds), *((kind,) for kind in anatomy.kinds)]:
            for adjusted in (False, True):
                setting = f"{'all' if len(kinds) > 1 else kinds[0]}, {'adjusted' if adjusted else 'straightforward'}"
                shown.add_row(name, setting, *prune(model, anatomy, kinds, adjusted=adjusted))
    Console(width=150).print(f"Torch-Pruning {torch_pruning.__version__}, torch {torch.__version__}", shown)


def small() -> Wav2Vec2ConformerForCTC:
    """A randomly initialised Wav2Vec2-Conformer of three blocks."""
    torch.manual_seed(0)
    model = Wav2Vec2ConformerForCTC(
        Wav2Vec2ConformerConfig(
            hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=128, vocab_size=32
        )
    )
    return model.eval()


def inputs_for(model: Any) -> dict[str, torch.Tensor]:
    """Three seconds of noise as the inputs of a forward."""
    torch.manual_seed(0)
    if model.config.model_type == "whisper":
        frames = 2 * model.config.max_source_positions
        start = torch.full((1, 2), model.config.decoder_start_token_id)
        return {"input_features": torch.randn(1, model.config.num_mel_bins, frames), "decoder_input_ids": start}
    if model.main_input_name == "input_values":
        return {"input_values": torch.randn(1, 48_000)}
    return {"input_features": torch.randn(1, 300, model.config.encoder_config.num_mel_bins)}


def prune(model: Any, anatomy: Anatomy, kinds: Sequence[str], *, adjusted: bool) -> list[str]:
    """Share of parameters left, and the outcome of a forward and of reloading the saved model."""
    import torch_pruning

    model, inputs = copy.deepcopy(model), inputs_for(model)
    groups = [group for group in anatomy.groups if group.kind.name in kinds]
    heads = {layer: group.size for group in groups if group.kind.rows > 1 for layer in sources(model, group)}
    targets = {id(layer) for group in groups for layer in sources(model, group)}
    before = model.num_parameters()
    try:
        pruner = torch_pruning.pruner.BasePruner(
            model,
            example_inputs=inputs,
            importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=0.5,
            head_pruning_ratio=0.5,
            num_heads=dict(heads),
            prune_num_heads=True,
            prune_head_dims=not adjusted,
            ignored_layers=[m for m in model.modules() if isinstance(m, CUTTABLE) and id(m) not in targets],
            output_transform=lambda output: output.logits.sum(),
        )
        pruner.step()
        if adjusted:
            for group in groups:
                for attribute in group.kind.attributes if group.kind.rows > 1 else ():
                    module, left = model.get_submodule(group.path), pruner.num_heads.get(sources(model, group)[0])
                    if hasattr(module, attribute) and left:
                        setattr(module, attribute, left)
        left = f"{model.num_parameters() / before:.1%}"
        with torch.no_grad():
            logits = model(**inputs).logits
    except Exception as error:  # any exception is a result
        return [f"{model.num_parameters() / before:.1%}", f"fails: {str(error).splitlines()[0][:70]}", ""]
    return [left, "runs", reloaded(model, inputs, logits)]


def sources(model: Any, group: Group) -> list[Any]:
    """The layers whose outputs are the units of a group."""
    home = model.get_submodule(group.home)
    owners = [part.tensor.rpartition(".")[0] for part in group.kind.slices if part.axis == 0]
    layers = [home.get_submodule(owner) for owner in dict.fromkeys(owners) if owner]
    return [layer for layer in layers if isinstance(layer, CUTTABLE)]


def reloaded(model: Any, inputs: dict[str, torch.Tensor], logits: torch.Tensor) -> str:
    """Whether the model has the same logits after `save_pretrained` and `from_pretrained`."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            model.save_pretrained(folder)
            again = type(model).from_pretrained(folder, attn_implementation="eager").eval()
            with torch.no_grad():
                same = torch.allclose(again(**inputs).logits, logits, atol=1e-4)
        except Exception as error:
            return f"fails: {type(error).__name__}"
    return "yes" if same else "with other logits"


if __name__ == "__main__":
    main()
