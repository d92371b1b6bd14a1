"""A Whisper with fewer rows writes what the whole one writes in the tokens that stay."""

import copy

import numpy as np
import pytest
import torch
from helpers.families import FAMILIES, random_plan
from helpers.wordy import ENGLISH, GERMAN, wordy, wordy_processor
from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor, pipeline

from trimbre.errors import UserError
from trimbre.inference.greedy import greedy
from trimbre.inference.long_form import transcriber
from trimbre.models.checkpoint import save
from trimbre.models.families.registry import anatomy_of
from trimbre.models.heads.generation import GenerationRules
from trimbre.models.inputs import features_of
from trimbre.models.loading import load
from trimbre.models.rows import SINGLE, named_tokens, remove_rows
from trimbre.models.vocabulary import kept_tokens, smaller_processor
from trimbre.plan import KeptTokens, Plan
from trimbre.pruning.surgery import cut, without_rows

NOISE = np.random.default_rng(3).standard_normal(70_000).astype(np.float32) * 0.1
CLIPS = [NOISE[:20_000], NOISE[20_000:50_000]]
TEXT = torch.tensor([[5, 6, 7], [8, 9, 10]])

pytestmark = pytest.mark.family("whisper")


@pytest.fixture(scope="module", params=[name for name in FAMILIES if name.startswith("whisper")])
def dense(request):
    return wordy(request.param)


@pytest.fixture(scope="module")
def processor():
    return wordy_processor()


@pytest.fixture(scope="module")
def kept(processor, dense):
    return kept_tokens(processor.tokenizer, dense.config.vocab_size, [ENGLISH], named_tokens(dense))


@pytest.fixture(scope="module")
def small(dense, kept):
    return without_rows(dense, kept)


@pytest.fixture(scope="module")
def less(processor, kept):
    return smaller_processor(processor, kept)


@pytest.fixture(scope="module")
def restrained(dense, kept):
    """The whole model, which may not write what is gone."""
    model = copy.copy(dense)
    model.generation_config = copy.deepcopy(dense.generation_config)
    gone = set(range(kept.size)) - set(kept.kept)
    model.generation_config.suppress_tokens = sorted(gone | set(dense.generation_config.suppress_tokens))
    return model


def test_scores_of_the_tokens_that_stay_are_those_of_the_whole_model(dense, small, kept, processor):
    features = features_of(CLIPS, processor)["input_features"]
    text = torch.tensor([kept.kept[token] for token in TEXT.flatten()]).reshape(TEXT.shape)
    with torch.no_grad():
        whole = dense(features, decoder_input_ids=text).logits
        fewer = small(features, decoder_input_ids=TEXT).logits
    assert torch.allclose(fewer, whole[..., list(kept.kept)], atol=1e-6)
    rows = dense.model.decoder.embed_tokens.weight[list(kept.kept)]
    assert torch.equal(small.proj_out.weight, rows)
    assert small.proj_out.weight is small.model.decoder.embed_tokens.weight
    removed = dense.num_parameters() - small.num_parameters()
    assert removed == (kept.size - len(kept.kept)) * dense.config.d_model
    assert small.model.encoder.conv1.weight.data_ptr() == dense.model.encoder.conv1.weight.data_ptr()


def test_everything_that_names_a_token_names_the_same_one(dense, small, processor, less):
    def named(model, processor, settings):
        name = processor.tokenizer.convert_ids_to_tokens
        found = {field: name(token) for field in SINGLE if (token := getattr(settings, field, None)) is not None}
        for field in ("lang_to_id", "task_to_id"):
            found[field] = {key: name(token) for key, token in (getattr(settings, field, None) or {}).items()}
        forced = getattr(settings, "forced_decoder_ids", None) or []
        return found | {"forced": [(at, token and name(token)) for at, token in forced]}

    for part in ("config", "generation_config"):
        before = named(dense, processor, getattr(dense, part))
        assert named(small, less, getattr(small, part)) == before
        assert len(before) > 5
    kept = set(less.tokenizer.get_vocab())
    spelled = processor.tokenizer.convert_ids_to_tokens(dense.generation_config.suppress_tokens)
    left = less.tokenizer.convert_ids_to_tokens(small.generation_config.suppress_tokens)
    assert left == [token for token in spelled if token in kept]
    assert small.generation_config.alignment_heads == dense.generation_config.alignment_heads
    prompts = [GenerationRules.of(*pair).prompt() for pair in ((dense, processor), (small, less))]
    assert [token and less.tokenizer.convert_ids_to_tokens(token) for token in prompts[1]] == [
        token and processor.tokenizer.convert_ids_to_tokens(token) for token in prompts[0]
    ]


def test_it_writes_what_the_whole_model_writes(restrained, small, processor, less):
    features = features_of(CLIPS, processor)
    texts = greedy(restrained, features, processor)
    assert greedy(small, features, less) == texts
    assert min(map(len, texts)) > 20
    assert transcriber(small, less)(NOISE) == transcriber(restrained, processor)(NOISE)


def test_times_of_words_are_those_of_the_whole_model(restrained, small, processor, less):
    found = []
    for model, own in ((restrained, processor), (small, less)):
        model = copy.copy(model)
        model.generation_config = copy.deepcopy(model.generation_config)
        first = model.generation_config.no_timestamps_token_id + 1
        never = [token for token in model.generation_config.suppress_tokens if token < first]
        model.generation_config.suppress_tokens = never
        run = pipeline(
            "automatic-speech-recognition", model, tokenizer=own.tokenizer, feature_extractor=own.feature_extractor
        )
        given = {"num_beams": 1, "max_new_tokens": 12} | (
            {"language": "en"} if model.generation_config.is_multilingual else {}
        )
        found.append([run(CLIPS[0], return_timestamps=kind, generate_kwargs=given) for kind in (True, "word")])
    assert found[0] == found[1]
    assert found[0][0]["chunks"]


def test_what_it_was_told_to_be_it_stays(dense, kept):
    """Fine-tunes of 2022 do not say that they are multilingual: it was read off the size of the vocabulary."""
    old = copy.copy(dense)
    old.generation_config = copy.deepcopy(dense.generation_config)
    del old.generation_config.is_multilingual
    assert without_rows(old, kept).generation_config.is_multilingual
    english = copy.copy(old)
    english.config = copy.deepcopy(dense.config)
    english.config.vocab_size = 51_864
    small = copy.deepcopy(english)
    remove_rows(small, kept)
    assert small.generation_config.is_multilingual is False


def test_phrases_with_tokens_that_are_gone_leave():
    model = wordy("whisper, English")
    settings = model.generation_config
    settings.bad_words_ids = [[1, 2], [2, 300]]
    settings.sequence_bias = [[[3], 0.5], [[300], 1.0]]
    settings.begin_suppress_tokens, settings.eos_token_id = [2, 300], [settings.eos_token_id, 0]
    remove_rows(model, KeptTokens(model.config.vocab_size, (0, 1, 2, 3, *range(301, model.config.vocab_size))))
    assert settings.bad_words_ids == [[1, 2]]
    assert settings.sequence_bias == [[[3], 0.5]]
    assert settings.begin_suppress_tokens == [2]
    assert settings.eos_token_id == [model.config.eos_token_id, 0]
    assert model.model.decoder.embed_tokens.padding_idx == model.config.pad_token_id


def test_a_fine_tuned_projection_of_its_own_loses_the_same_rows(dense, kept):
    model = copy.deepcopy(dense)
    model.proj_out.weight = torch.nn.Parameter(torch.randn_like(model.proj_out.weight))
    model.proj_out.bias = torch.nn.Parameter(torch.randn(len(model.proj_out.weight)))
    assert anatomy_of(model).rows.parameters == 2 * anatomy_of(dense).rows.parameters
    small = without_rows(model, kept)
    assert torch.equal(small.proj_out.weight, model.proj_out.weight[list(kept.kept)])
    assert torch.equal(small.proj_out.bias, model.proj_out.bias[list(kept.kept)])
    assert torch.equal(small.model.decoder.embed_tokens.weight, dense.proj_out.weight[list(kept.kept)])


def test_a_plan_with_tokens_cuts_and_is_cut_again(dense, kept, processor, less, tmp_path):
    anatomy = anatomy_of(dense)
    units = random_plan(anatomy, 3)
    plan = Plan(units.sizes, units.kept, units.skipped, kept)
    once, apart = cut(dense, plan), cut(without_rows(dense, kept), units)
    assert all(torch.equal(one, apart.state_dict()[name]) for name, one in once.state_dict().items())
    assert once.generation_config.to_dict() == apart.generation_config.to_dict()

    place = save(once, less, tmp_path / "once", plan=plan)
    loaded, own = load(place)
    assert anatomy_of(loaded).rows.tokens == len(kept.kept)
    later = kept_tokens(own.tokenizer, len(kept.kept), ["the"], named_tokens(loaded))
    assert len(later.kept) < len(kept.kept)
    both = plan.then(Plan(anatomy_of(loaded).sizes, Plan.everything(anatomy_of(loaded).sizes).kept, vocabulary=later))
    again, whole = without_rows(loaded, later), cut(dense, both)
    assert torch.equal(again.proj_out.weight, whole.proj_out.weight)
    assert again.generation_config.suppress_tokens == whole.generation_config.suppress_tokens

    left = Plan.everything(anatomy_of(loaded).sizes)
    with pytest.raises(UserError, match="does not fit this model at its vocabulary"):
        cut(loaded, Plan(left.sizes, left.kept, vocabulary=kept))
    other = Plan(plan.sizes, plan.kept, plan.skipped, KeptTokens(kept.size, kept.kept[:-1]))
    other.save(place / "plan.json")
    with pytest.raises(UserError, match=r"plan\.json of the model .* is of another model"):
        load(place)


@pytest.mark.slow
def test_transformers_loads_it(dense, kept, processor, less, small, tmp_path):
    plan = random_plan(anatomy_of(dense), 3)
    for name, model in (("rows alone", small), ("cut", cut(small, plan))):
        place = save(model, less, tmp_path / name)
        assert (place / "modeling_trimbre.py").is_file() == (name == "cut")
        loaded = AutoModelForSpeechSeq2Seq.from_pretrained(place).eval()
        assert loaded.config.vocab_size == len(kept.kept)
        features = features_of(CLIPS, processor)
        own = AutoProcessor.from_pretrained(place)
        assert greedy(loaded, features, own) == greedy(model, features, less)


def test_the_other_language_is_spelled_in_bytes(small, less):
    ids = less.tokenizer(GERMAN).input_ids
    assert less.tokenizer.decode(ids, skip_special_tokens=True) == GERMAN
    assert max(ids) < small.config.vocab_size
