"""Families that share kinds and heads with others: cut, counted, loaded and read as those are."""

import copy

import numpy as np
import pytest
import torch
from helpers.checkpoints import CLIP, logits_of
from helpers.families import FAMILIES, edge_plans, random_plan, shaken
from helpers.relatives import PROMPT, RELATIVES

import trimbre
import trimbre.auto
from trimbre.config import DistillationConfig
from trimbre.costs.macs import macs_budget, reference_of
from trimbre.costs.params import params_budget
from trimbre.costs.size import size
from trimbre.data.batches import Batch
from trimbre.errors import OptionError, UserError
from trimbre.inference.greedy import greedy
from trimbre.inference.long_form import transcriber
from trimbre.models.checkpoint import save
from trimbre.models.families.registry import anatomy_of, family_of, head_of
from trimbre.models.inputs import features_of
from trimbre.models.positions import valid_frames
from trimbre.pruning.equivalence import check_equality
from trimbre.pruning.refit import refit
from trimbre.pruning.refit_channels import refit_channels
from trimbre.pruning.surgery import GateValues, cut
from trimbre.training.distillation import Distiller, Objective
from trimbre.training.pseudo_labels import PseudoLabeller

CLIPS = [CLIP[:9_040], CLIP[:16_000], CLIP]
WRITERS = [name for name, family in RELATIVES.items() if "Seq2Seq" in family.auto.__name__]
PROMPTED = ["cohere-asr", "canary"]


@pytest.fixture(params=RELATIVES, scope="module")
def family(request):
    return RELATIVES[request.param]


@pytest.fixture
def inputs(model, processor):
    found = head_of(model).example_inputs(model, features_of(CLIPS, processor), 7)
    if head_of(model).reads_text:
        found["decoder_attention_mask"] = (torch.arange(7) < torch.tensor([[3], [5], [7]])).long()
    return found


def plans(anatomy):
    edges = edge_plans(anatomy)
    return [edges["no units"], edges["no modules"], *(random_plan(anatomy, seed) for seed in range(3))]


def test_masked_equals_sliced(model, anatomy, inputs):
    for plan in plans(anatomy):
        values = GateValues.open(anatomy).restricted_to(plan)
        assert check_equality(model, cut(model, plan, gate_values=values), values, inputs) < 1e-5


def test_costs_are_exact(model, anatomy, processor):
    params = params_budget(model, anatomy, scope="model")
    macs = macs_budget(model, anatomy, reference_of(model, processor), scope="model")
    assert macs.dense == pytest.approx(size(model, processor).macs_per_second, rel=1e-9)
    for plan in plans(anatomy)[1:3]:
        small = size(cut(model, plan), processor)
        assert params.cost.of(plan) == small.parameters
        assert macs.cost.of(plan) == pytest.approx(small.macs_per_second, rel=1e-9)


@pytest.mark.parametrize("family", [name for name in RELATIVES if name != "moonshine-streaming"], indirect=True)
def test_padding_changes_no_output(model, processor, inputs):
    together = model(**inputs).logits
    valid = valid_frames(model, inputs, together)
    for row, clip in enumerate(CLIPS):
        alone = features_of([clip], processor)
        text = {name: value[row : row + 1] for name, value in inputs.items() if name.startswith("decoder_")}
        logits = model(**alone, **text).logits[0]
        expected = together[row][valid[row]]
        assert torch.allclose(logits[: len(expected)], expected, atol=1e-4)
        if not text:
            assert len(logits) == len(expected)


@pytest.mark.parametrize("name", ["moonshine", "moonshine-streaming"])
def test_frames_of_a_moonshine_are_those_of_its_encoder_s_own_mask(name):
    family = (FAMILIES | RELATIVES)[name]
    model, processor = shaken(family.build()), family.processor()
    inputs = features_of([CLIP[:3_000], CLIP[:7_680], CLIP[:7_681], CLIP[:9_100], CLIP], processor)
    seen = model.model.encoder(**inputs)
    valid = valid_frames(model, inputs, seen.last_hidden_state, positions="frames")
    assert torch.equal(valid, seen.attention_mask.bool())


@pytest.mark.parametrize("family", ["granite-speech5"], indirect=True)
def test_frames_before_a_granite_s_halving_layers_are_those_of_its_input(model, anatomy, inputs):
    early = next(group for group in anatomy.groups if group.layer == 0)
    mask = inputs["attention_mask"]
    assert torch.equal(valid_frames(model, inputs, mask.unsqueeze(-1), positions=early.positions), mask.bool())


def test_checkpoints_are_loaded_and_cut_again(family, model, anatomy, processor, inputs, tmp_path):
    plan = random_plan(anatomy, 4)
    small = cut(model, plan).eval()
    save(small, processor, tmp_path / "small", plan=plan)
    loaded = trimbre.load(tmp_path / "small")
    for again in (loaded.model, family.auto.from_pretrained(tmp_path / "small")):
        assert torch.equal(logits_of(again, inputs), logits_of(small, inputs))
    assert greedy(loaded.model, features_of(CLIPS, processor), loaded.processor) == greedy(
        small, features_of(CLIPS, processor), processor
    )
    twice = random_plan(anatomy_of(loaded.model), 5)
    values = GateValues.open(anatomy_of(loaded.model)).restricted_to(twice)
    check_equality(loaded.model, cut(loaded.model, twice, gate_values=values), values, inputs)


@pytest.mark.parametrize("family", ["moonshine-streaming", "granite-speech5"], indirect=True)
def test_one_is_pruned_distilled_and_evaluated(model, processor, noise_corpus):
    config = trimbre.PruneConfig(
        remove=0.3, calibration_batches=1, recovery=trimbre.RecoveryConfig(steps=1, refit_batches=1)
    )
    result = trimbre.prune(model, processor, train=noise_corpus, config=config)
    assert result.report["removed"]["params"]["blocks"] == pytest.approx(0.3, abs=0.06)
    found = trimbre.evaluate(result.model, processor, data=noise_corpus, normalize="none")
    (scored,) = found.sets.values()
    assert len(scored.evaluation.hypotheses) == 24


def test_a_student_that_is_its_teacher_is_no_distance_from_it(model, inputs):
    objective = Objective(model, Distiller(copy.deepcopy(model), DistillationConfig(layer_weight=1)))
    assert float(objective(Batch(inputs, None, (), (), 1.0), 0)["loss"].detach()) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("family", ["granite-speech5"], indirect=True)
def test_what_follows_refitted_streams_is_refitted_to_what_it_then_reads(model, anatomy, inputs):
    assert {group.residual for group in anatomy.groups} == {True, False}
    plan, batch = random_plan(anatomy, 2, skip=0.0), Batch(inputs, None, (), (), 1.0)
    small = cut(model, plan).requires_grad_(False)
    refit(small, model, [batch], plan=plan, ridge=1e-5)
    behind = next(group for group in anatomy_of(small).groups if not group.residual and group.layer == 3)
    consumer = small.get_submodule(behind.consumer)
    found = consumer.weight.clone()
    refit_channels(small, model, plan, [behind], [batch], ridge=1e-5, loss=None, reduce_sum=lambda own: own)
    assert float((consumer.weight - found).norm()) < 0.01 * float(found.norm())


def as_transformers_writes(model, processor, clip, language):
    """The text of a clip by the processor's own way to ask for it."""
    name = family_of(model).name
    if name == "canary":
        asked = processor.apply_transcription_request([clip], source_language=language)
    elif name == "cohere-asr":
        asked = processor(clip, language=language, sampling_rate=16_000)
    else:
        asked = processor(clip, sampling_rate=16_000)
    tokens = model.generate(**asked, num_beams=1, do_sample=False)[0].tolist()
    unspoken = [token for token in tokens if token > 2 + len(PROMPT) * ("decoder_input_ids" in asked)]
    return processor.tokenizer.decode(unspoken).strip()


@pytest.mark.parametrize("family", WRITERS, indirect=True)
def test_texts_are_those_of_generate(family, model, processor):
    for clip in CLIPS[1:]:
        expected = as_transformers_writes(model, processor, clip, "de")
        assert greedy(model, features_of([clip], processor), processor, languages=["de"]) == [expected]
        assert transcriber(model, processor, language="de")(clip) == expected
        assert expected
    assert transcriber(model, processor, chunk_seconds=1.0, overlap_seconds=0)(CLIP).strip()


@pytest.mark.parametrize("family", ["moonshine-streaming"], indirect=True)
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"suppress_tokens": "ab"}, "has suppress_tokens='ab' in place of a list of tokens"),
        ({"repetition_penalty": -1.0}, "transformers refuses the model's generation config, correct it"),
    ],
)
def test_a_generation_config_that_cannot_be_followed_is_refused(model, processor, settings, said):
    for name, value in settings.items():
        setattr(model.generation_config, name, value)
    with pytest.raises(UserError, match=said):
        greedy(model, features_of(CLIPS[:1], processor), processor)


@pytest.mark.parametrize("family", WRITERS, indirect=True)
def test_transcripts_and_the_teacher_s_own_text_are_learned_from(family, model, processor):
    head, languages = head_of(model), ["de", "en"]
    inputs = features_of(CLIPS[:2], processor)
    batch = PseudoLabeller(model, processor)(Batch(inputs, None, ("bad cab", None), ("a", "b"), 1.0, {}, languages))
    prefix = head.prefixes(model, processor, inputs, languages)[0]
    spelled = processor.tokenizer("bad cab", add_special_tokens=False).input_ids
    length = len(prefix) + len(spelled)
    assert batch.inputs["decoder_input_ids"][0, :length].tolist() == [*prefix, *spelled]
    assert batch.labels[0, :length].tolist() == [*[-100] * (len(prefix) - 1), *spelled, 2]
    assert batch.texts[1] == greedy(model, inputs, processor, languages=languages)[1]
    output = model(**batch.inputs, labels=batch.labels)
    by_hand = torch.nn.functional.cross_entropy(output.logits.transpose(1, 2), batch.labels)
    assert float(output.loss.detach()) == pytest.approx(float(by_hand.detach()), rel=1e-5)


@pytest.mark.parametrize("family", PROMPTED, indirect=True)
def test_the_language_is_stated_or_refused(family, model, processor):
    inputs, head = features_of(CLIPS[:2], processor), head_of(model)
    german, english = head.prefixes(model, processor, inputs, ["de", None])
    assert processor.tokenizer.convert_tokens_to_ids("<|de|>") in german
    assert processor.tokenizer.convert_tokens_to_ids("<|en|>") in english
    model.generation_config.decoder_start_token_id = 2  # `generate` puts it before a prompt that begins otherwise
    assert head.prefixes(model, processor, inputs, ["de", "en"])[0] == [2, *head.prompt(processor, "de", None)]
    with pytest.raises(OptionError, match=r"^language='xx': the model has no such language; it has "):
        transcriber(model, processor, language="xx")
    model.generation_config.language = None
    with pytest.raises(OptionError, match=r"^language=None: the model does not detect what is spoken: give one of"):
        greedy(model, inputs, processor)


@pytest.mark.parametrize("family", ["canary"], indirect=True)
def test_a_canary_writes_english_of_what_is_spoken_in_german(family, model, processor):
    asked = processor.apply_transcription_request([CLIP], source_language="de", target_language="en")
    found = head_of(model).prefixes(model, processor, features_of([CLIP], processor), ["de"], task="translate")
    assert found == asked["decoder_input_ids"].tolist()
    transcriber(model, processor, language="de", task="translate")


@pytest.mark.parametrize("family", ["cohere-asr"], indirect=True)
def test_what_a_model_does_not_do_is_refused(family, model, processor, tmp_path):
    with pytest.raises(OptionError, match=r"^task='translate'"):
        transcriber(model, processor, language="de", task="translate")
    with pytest.raises(
        OptionError, match=r"^to='onnx': it does not run a CohereAsrForConditionalGeneration; no runtime"
    ):
        trimbre.export(model, processor, to="onnx", out=tmp_path / "out")
    with pytest.raises(UserError, match="divides clips as long as these"):
        features_of([np.zeros(16_000 * 36, dtype=np.float32)], processor)
