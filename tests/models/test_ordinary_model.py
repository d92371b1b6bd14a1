"""A pruned checkpoint is an ordinary model: what people do with transformers' own they do with it."""

import copy
import shutil
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
import transformers
from helpers.families import FAMILIES, random_plan, torch_is_right
from transformers import AutoModelForTDT, Trainer, TrainingArguments

import trimbre
import trimbre.auto
from trimbre.models.checkpoint import save
from trimbre.models.families.registry import anatomy_of
from trimbre.pruning.surgery import cut


@pytest.fixture
def pruned(family, model, anatomy, processor, tmp_path):
    """A pruned checkpoint, loaded as users do."""
    plan = random_plan(anatomy, 2, skip=0.1)
    folder = save(cut(model, plan), processor, tmp_path / "pruned", plan=plan)
    return family.auto.from_pretrained(folder).eval()


@torch.no_grad()
def logits(model, inputs):
    """Of the longest clip, which has no padding."""
    kind = next(model.parameters()).dtype
    given = {name: value.to(kind) if value.is_floating_point() else value for name, value in inputs.items()}
    return model(**given).logits[2].float()


@pytest.mark.parametrize(("kind", "within"), [(torch.float16, 0.02), (torch.bfloat16, 0.1)])
def test_it_runs_in_half_precision(pruned, padded, kind, within):
    if pruned.config.model_type.startswith("wav2vec2") and not torch_is_right():
        pytest.skip("torch's grouped convolutions in half precision are wrong on this processor")
    half = logits(copy.deepcopy(pruned).to(kind), padded)  # transformers caches rotary positions in the first dtype
    whole = logits(pruned, padded)
    assert (half - whole).norm() < within * whole.norm()


@pytest.mark.filterwarnings("ignore:Dynamo detected a call:UserWarning")  # in transformers' own forward
@pytest.mark.parametrize(
    "family",  # without what takes long: of a transducer the encoder is cut, a Parakeet's
    [name for name in FAMILIES if not name.startswith(("moonshine", "transducer"))],
    indirect=True,
)
@pytest.mark.slow
def test_it_compiles(pruned, padded):
    compiled = torch.compile(pruned, backend="aot_eager")
    assert torch.allclose(logits(compiled, padded), logits(pruned, padded), atol=1e-4)


def test_the_trainer_fine_tunes_it(family, pruned, padded, tmp_path):
    labels = torch.tensor([[3, 4, -100], [5, -100, -100], [6, 7, 8]])
    features = {name: value[2] for name, value in padded.items() if not name.startswith("decoder_")}
    if family.auto is AutoModelForTDT:  # others make what their decoder reads from the labels
        features["decoder_input_ids"] = torch.cat([torch.tensor([pruned.config.blank_token_id]), labels[2]])
    example = features | {"labels": labels[2]}
    before = {name: value.clone() for name, value in pruned.named_parameters()}
    arguments = TrainingArguments(
        str(tmp_path / "trained"),
        max_steps=2,
        per_device_train_batch_size=2,
        learning_rate=1e-2,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
    )
    trainer = Trainer(model=pruned, args=arguments, train_dataset=[example] * 4)
    assert trainer.train().global_step == 2
    assert any(not torch.equal(value, before[name]) for name, value in pruned.named_parameters())
    trainer.save_model()
    again = family.auto.from_pretrained(tmp_path / "trained").eval()
    assert anatomy_of(again).sizes == anatomy_of(pruned).sizes
    assert torch.equal(logits(again, padded), logits(pruned.eval(), padded))


def test_it_is_pushed_to_the_hub_whole(pruned, processor, padded, tmp_path, monkeypatch):
    hub = tmp_path / "hub"

    def create_commit(*, operations, **others):
        for one in operations:
            place = hub / one.path_in_repo
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(one.path_or_fileobj, place)

    stand_in = SimpleNamespace(
        create_repo=lambda name, **others: SimpleNamespace(repo_id=name), create_commit=create_commit
    )
    monkeypatch.setattr(transformers.utils.hub, "hf_api", lambda: stand_in)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)  # it would look for a card there, and wait
    pruned.push_to_hub("someone/small")
    processor.push_to_hub("someone/small")
    assert (hub / "modeling_trimbre.py").read_text() == Path(trimbre.models.modeling_trimbre.__file__).read_text()
    assert torch.equal(logits(trimbre.load(hub).model, padded), logits(pruned, padded))
