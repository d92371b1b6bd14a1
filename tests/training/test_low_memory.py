"""Memory is saved without a change of the result: the same gradients and statistics, a teacher with the same output."""

import copy
import mmap
from collections import Counter
from dataclasses import replace

import pytest
import torch
from helpers.runs import QUICK, pruned
from torch import nn

from trimbre.benchmark.memory import resident
from trimbre.config import PruneConfig
from trimbre.errors import UserError
from trimbre.models.checkpoint import save
from trimbre.models.families.registry import anatomy_of
from trimbre.models.regularisation import without_regularisation
from trimbre.pruning.gates import Gates, gated
from trimbre.training.low_memory import cast_matrices_to_bfloat16, recomputed

pytestmark = pytest.mark.ctc


def after_a_step(model, inputs, *, recompute):
    """Gradients and statistics of a gated student after one forward and backward, and what its layers kept for it."""
    student = copy.deepcopy(model).train()
    gates = Gates(anatomy_of(student))
    kept = 0

    def count(tensor):
        nonlocal kept
        kept += tensor.numel()
        return tensor

    torch.manual_seed(1)
    with (
        gated(student, gates),
        without_regularisation(student),
        torch.autograd.graph.saved_tensors_hooks(count, lambda t: t),
    ):
        if recompute:
            with recomputed(student):
                output = student(**inputs, output_hidden_states=True)
                held = kept
                sum(hidden.square().mean() for hidden in output.hidden_states).backward()
        else:
            output = student(**inputs, output_hidden_states=True)
            held = kept
            sum(hidden.square().mean() for hidden in output.hidden_states).backward()
    learned = [*student.named_parameters(), *gates.named_parameters()]
    gradients = {name: p.grad for name, p in learned if p.grad is not None}
    return gradients, {name: b for name, b in student.named_buffers() if b.is_floating_point()}, held


def test_recomputing_changes_neither_gradients_nor_statistics_and_keeps_less(model, padded):
    gradients, statistics, kept = after_a_step(model, padded, recompute=False)
    again, same, less = after_a_step(model, padded, recompute=True)
    assert gradients.keys() == again.keys()
    assert all(torch.equal(value, again[name]) for name, value in gradients.items())
    assert all(torch.equal(value, same[name]) for name, value in statistics.items())
    assert less < 0.5 * kept
    moved = [name for name, value in statistics.items() if not torch.equal(value, dict(model.named_buffers())[name])]
    assert moved or not statistics  # or there would be nothing to keep still


@pytest.mark.once
def test_a_model_is_as_before_when_recomputing_ends(model):
    with pytest.raises(KeyError), recomputed(model):
        raise KeyError
    assert not any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


def test_only_what_every_product_rounds_is_stored_in_bfloat16(model):
    """Weights of linear layers and convolutions, and an embedding tied to one; positions, norms and biases stay."""
    multiplied = {
        module.weight
        for module in model.modules()
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d) and not hasattr(module, "parametrizations")
    }
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    cast_matrices_to_bfloat16(model)
    for name, parameter in model.named_parameters():
        if parameter in multiplied:
            assert torch.equal(parameter, before[name].bfloat16()), name
        else:
            assert torch.equal(parameter, before[name]), name
            assert parameter.dtype == torch.float32, name
    positions = [
        name for name, _ in model.named_parameters() if "position" in name or "pos_" in name or "bias_u" in name
    ]
    assert all(model.get_parameter(name).dtype == torch.float32 for name in positions)


def test_a_teacher_in_bfloat16_computes_what_autocast_makes_the_whole_one_compute(model, padded):
    halved = copy.deepcopy(model)
    cast_matrices_to_bfloat16(halved)
    held = sum(p.numel() * p.element_size() for p in halved.parameters())
    assert held < 0.65 * sum(p.numel() * p.element_size() for p in model.parameters())
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model(**padded).logits, halved(**padded).logits)


@pytest.mark.once
@pytest.mark.slow
def test_pruning_with_little_memory_is_pruning(model, processor, noise_corpus, tmp_path):
    """The teacher's matrices are multiplied in bfloat16, and layers are run again while gradients are computed."""
    teacher = str(save(model, processor, tmp_path / "teacher"))
    seen = {}
    for low_memory in (False, True):
        counts = Counter()

        def note(module, inputs, counts=counts):
            if isinstance(module, nn.Linear) and not module.weight.requires_grad:
                counts[module.weight.dtype] += 1
            counts["student"] += module.training and torch.is_grad_enabled()

        hook = nn.modules.module.register_module_forward_pre_hook(note)
        config, out = replace(QUICK, low_memory=low_memory), tmp_path / str(low_memory)
        try:
            report = pruned(teacher, noise_corpus, out, config, precision="bf16", dev=str(noise_corpus))
        finally:
            hook.remove()
        seen[low_memory] = counts
    assert report["removed"]["params"]["blocks"] == pytest.approx(0.5, abs=0.01)
    assert report["evaluation"]["sets"]["dev"]["references"]["dense"]["utterances"] == 24
    assert seen[False][torch.bfloat16] == 0 < seen[True][torch.bfloat16]
    assert seen[True]["student"] > 1.5 * seen[False]["student"]


@pytest.mark.once
def test_what_does_not_go_with_little_memory_is_named(model, processor, noise_corpus, tmp_path):
    with pytest.raises(UserError, match="control=True: low_memory"):
        PruneConfig(control=True, low_memory=True)
    teacher = str(save(model, processor, tmp_path / "teacher"))
    with pytest.raises(UserError, match=r"low_memory=True: .*precision"):
        pruned(teacher, noise_corpus, tmp_path / "half", replace(QUICK, low_memory=True), precision="fp32")
    assert not (tmp_path / "half.run").exists()


@pytest.mark.skipif(resident() is None, reason="only Linux says how much memory a process holds")
def test_what_a_process_holds_and_has_held():
    before = resident()
    block = mmap.mmap(-1, 50_000_000)  # from Linux itself: torch may be given what an earlier test has freed
    for page in range(0, len(block), mmap.PAGESIZE):
        block[page] = 1
    held = resident()
    assert held - before == pytest.approx(len(block), rel=0.2)
    block.close()
    assert resident() < held - 25_000_000
    assert resident(peak=True) > held - 2_000_000  # Linux counts in lots
