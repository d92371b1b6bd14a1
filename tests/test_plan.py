"""The Plan: plain data that comes back as it was, refuses what cannot be, and composes."""

import copy
import json

import pytest
from helpers.families import edge_plans, random_plan
from helpers.pipes import through_a_pipe

from trimbre.errors import UserError
from trimbre.plan import FORMAT, KeptTokens, Plan

SIZES = {"a": 4, "b": 3, "c": 2}


@pytest.mark.parametrize("seed", range(5))
def test_a_plan_comes_back_from_json_as_it_was(anatomy, tmp_path, seed):
    plan = random_plan(anatomy, seed)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan


def test_edge_plans_come_back_from_json_as_they_were(anatomy):
    for plan in edge_plans(anatomy).values():
        assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_widths_count_what_is_kept_and_nothing_of_a_skipped_module():
    plan = Plan(SIZES, {"a": (0, 2, 3), "b": (), "c": (0, 1)}, frozenset("c"))
    assert dict(plan.widths) == {"a": 3, "b": 0, "c": 0}
    assert plan == Plan(SIZES, {"a": (0, 2, 3), "b": (), "c": ()}, frozenset("c"))  # they cut alike
    assert plan != Plan(SIZES, {"a": (0, 2, 3), "b": (), "c": ()})  # its bias would stay


def test_a_plan_changes_something_unless_everything_is_kept():
    everything = Plan.everything(SIZES)
    assert not everything.changes
    assert Plan(SIZES, dict(everything.kept) | {"b": (0, 1)}).changes
    assert Plan(SIZES, everything.kept, frozenset("b")).changes


def test_a_plan_keeps_nothing_of_the_mappings_it_was_made_from():
    sizes, kept = dict(SIZES), {"a": [0], "b": [1], "c": [0]}
    plan = Plan(sizes, kept)
    sizes["a"], kept["a"] = 9, [3]
    assert plan == Plan(SIZES, {"a": (0,), "b": (1,), "c": (0,)})
    with pytest.raises(TypeError):
        plan.kept["a"] = (1,)


def test_a_plan_is_a_value_that_can_be_sent_copied_and_hashed():
    plan = Plan(SIZES, {"a": (0, 2), "b": (), "c": (0, 1)}, frozenset("c"))
    assert plan.widths["a"] == 2  # what was computed of it travels along
    for made in (through_a_pipe(plan), copy.deepcopy(plan), copy.copy(plan)):
        assert made == plan
        assert hash(made) == hash(plan)
        assert made.widths == {"a": 2, "b": 0, "c": 0}
    other = Plan(dict(reversed(SIZES.items())), {"c": (), "b": (), "a": (0, 2)}, frozenset("c"))
    assert {plan: 1}[other] == 1  # the order of modules says nothing
    assert len({plan, Plan.everything(SIZES)}) == 2
    assert json.loads(json.dumps(plan.to_json())) == plan.to_json()


def test_modules_are_listed_in_the_order_of_the_model():
    plan = Plan(SIZES, {"c": (0, 1), "a": (0,), "b": ()})
    assert list(plan.kept) == list(plan.widths) == list(SIZES)


@pytest.mark.parametrize(
    ("kept", "skipped", "culprits"),
    [
        ({"a": (0,), "b": (0,)}, "", ["module c"]),
        ({"a": (0,), "b": (0,), "c": (0,), "d": (0,)}, "", ["module d"]),
        ({"a": (0,), "b": (2, 1), "c": (0,)}, "", ["b", "ascending"]),
        ({"a": (0,), "b": (1, 1), "c": (0,)}, "", ["b", "repeats"]),
        ({"a": (0, 4), "b": (0,), "c": (0,)}, "", ["unit 4 of a", "has 4"]),
        ({"a": (0,), "b": (-1, 2), "c": (0,)}, "", ["unit -1 of b"]),
        ({"a": (0,), "b": (0,), "c": (0,)}, "z", ["skips z"]),
    ],
)
def test_what_no_model_could_be_cut_by_is_refused_by_name(kept, skipped, culprits):
    with pytest.raises(UserError) as refused:
        Plan(SIZES, kept, frozenset(skipped))
    assert all(culprit in str(refused.value) for culprit in culprits)


@pytest.mark.parametrize("module", [{"size": 2}, {"kept": [0]}, {"size": 2.0, "kept": []}, {"size": -1, "kept": []}, 3])
def test_a_module_that_is_not_written_as_one_is_refused_by_name(module):
    data = {"format": FORMAT, "modules": {"fine": {"size": 1, "kept": [0]}, "odd.one": module}}
    with pytest.raises(UserError, match=r"odd\.one"):
        Plan.from_json(data)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": "x", "modules": {}}', '"plan"'])
def test_a_file_that_holds_no_plan_is_refused_by_name(tmp_path, text):
    (tmp_path / "odd.json").write_text(text)
    with pytest.raises(UserError, match=r"odd\.json"):
        Plan.load(tmp_path / "odd.json")
    with pytest.raises(UserError, match=r"gone\.json"):
        Plan.load(tmp_path / "gone.json")


def test_a_newer_format_is_refused_with_what_to_do():
    data = Plan.everything(SIZES).to_json() | {"format": FORMAT + 1}
    with pytest.raises(UserError, match=rf"format {FORMAT + 1}.*update Trimbre"):
        Plan.from_json(data)


def test_a_second_plan_counts_in_units_of_the_cut_model():
    first = Plan(SIZES, {"a": (1, 2, 3), "b": (0, 2), "c": ()}, frozenset("c"))
    second = Plan({"a": 3, "b": 2}, {"a": (0, 2), "b": ()}, frozenset("b"))
    assert first.then(second) == Plan(SIZES, {"a": (1, 3), "b": (), "c": ()}, frozenset("bc"))
    assert first.then(Plan.everything({"a": 3, "b": 2})) == first


@pytest.mark.parametrize("sizes", [{"a": 4}, {"z": 1}])
def test_a_second_plan_for_another_model_is_refused_by_name(sizes):
    first = Plan(SIZES, {"a": (1, 2, 3), "b": (0, 2), "c": ()})
    with pytest.raises(UserError, match=rf"at {next(iter(sizes))}\b"):
        first.then(Plan.everything(sizes))


def test_tokens_are_kept_as_ranges_and_counted_on():
    tokens = KeptTokens(12, (0, 1, 2, 5, 7, 8, 11))
    plan = Plan(SIZES, Plan.everything(SIZES).kept, vocabulary=tokens)
    assert plan.changes
    data = json.loads(json.dumps(plan.to_json()))
    assert data["vocabulary"] == {"size": 12, "kept": "0-2 5 7-8 11"}
    assert Plan.from_json(data) == plan
    assert tokens.renumbered[5] == 3
    later = Plan(SIZES, plan.kept, vocabulary=KeptTokens(7, (0, 3, 6)))
    assert plan.then(later).vocabulary == KeptTokens(12, (0, 5, 11))
    units = Plan(SIZES, {"a": (0,), "b": (), "c": (1,)})
    assert units.then(Plan({"a": 1, "c": 1}, {"a": (0,), "c": (0,)}, vocabulary=tokens)).vocabulary == tokens
    with pytest.raises(UserError, match="made for another model"):
        later.then(later)


def test_a_plan_of_a_whole_vocabulary_says_nothing_of_it():
    """And is read by what knows units alone."""
    whole = Plan(SIZES, Plan.everything(SIZES).kept, vocabulary=KeptTokens(3, (0, 1, 2)))
    assert whole == Plan.everything(SIZES)
    assert whole.to_json()["format"] == 1 < FORMAT


@pytest.mark.parametrize(
    "vocabulary",
    [
        {"size": 3},
        {"kept": "1"},
        {"size": 3, "kept": "1-3"},
        {"size": 3, "kept": "x"},
        {"size": 3, "kept": "2 1"},
        {"size": 3, "kept": "2-1"},
        {"size": 3, "kept": "0-"},
        {"size": 3, "kept": "0 1"},
        "0-2",
    ],
)
def test_tokens_that_are_not_written_as_such_are_refused(vocabulary):
    with pytest.raises(UserError, match=r"vocabulary|ascending"):
        Plan.from_json(Plan.everything(SIZES).to_json() | {"format": 2, "vocabulary": vocabulary})
