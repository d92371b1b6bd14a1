import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.places import ROOT
from safetensors.torch import load_file, save_file

RECIPE = ROOT / "recipes" / "teacher"
sys.path.insert(0, str(RECIPE))

from fragments import fragments  # noqa: E402
from grammar import Grammar  # noqa: E402
from sentences import grammar_of, sentences  # noqa: E402

from trimbre.data.splits import split_of  # noqa: E402

SMALL = """
sentence: press {key} | 3 * {key}
  {key} or {key}
key: one | two | pound key
"""


def test_grammar_samples_counts_and_recognises_the_same_sentences() -> None:
    grammar = Grammar(SMALL)
    said = set(itertools.islice(grammar.sentences(seed=0), 2000))
    assert len(said) == grammar.derivations() == 3 + 3 + 9
    assert all(grammar.contains(sentence) for sentence in said)
    assert not any(grammar.contains(no) for no in ["press", "press pound", "one two", "press one or two", "three"])
    assert grammar.vocabulary() == {"press", "or", "one", "two", "pound", "key"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("sentence: {missing}", "'missing' is used but not defined"),
        ("sentence: a {sentence}", "'sentence' refers to itself"),
        ("sentence: press 1", "'1'"),
        ("sentence: a\nsentence: b", "not the start of a new rule"),
        ("  a | b", "not the start of a new rule"),
    ],
)
def test_grammar_names_what_is_wrong(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        Grammar(text)


def test_main_sentences_are_short_plain_distinct_and_of_a_closed_vocabulary() -> None:
    said = list(sentences(count=5000, seed=3))
    assert len(set(said)) == len(said) == 5000
    assert all(re.fullmatch(r"[a-z']+( [a-z']+){0,15}", sentence) for sentence in said)
    lengths = [len(sentence.split()) for sentence in said]
    assert 6.5 < sum(lengths) / len(lengths) < 8.5
    assert sum(length <= 2 for length in lengths) > 250
    assert len(grammar_of("main").vocabulary() | grammar_of("unseen").vocabulary()) < 1500


@pytest.mark.slow
def test_unseen_sentences_use_words_of_main_in_sentences_main_cannot_say() -> None:
    main = grammar_of("main")
    unseen = list(sentences(count=300, seed=3, domain="unseen"))
    assert not any(main.contains(sentence) for sentence in unseen)
    assert all(main.contains(sentence) for sentence in sentences(count=300, seed=3))
    assert grammar_of("unseen").vocabulary() <= main.vocabulary()


def test_each_sentence_falls_into_one_split() -> None:
    parts: dict[str, set[str]] = {"train": set(), "dev": set(), "test": set()}
    for seed in (1, 2):  # short sentences come up under both seeds, and have to fall on the same side
        for sentence in sentences(count=2000, seed=seed):
            parts[split_of(sentence)].add(sentence)
    assert min(map(len, parts.values())) > 200
    assert not any(one & other for one, other in itertools.combinations(parts.values(), 2))


def test_a_seed_gives_the_same_sentences_again() -> None:
    assert list(sentences(count=200, seed=5)) == list(sentences(count=200, seed=5))
    assert list(sentences(count=200, seed=5)) != list(sentences(count=200, seed=6))


def test_asking_for_more_than_there_is_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sentences.grammar_of", lambda domain: Grammar(SMALL))
    with pytest.raises(ValueError, match="only 15 distinct sentences, 16 asked for"):
        list(sentences(count=16, seed=0))


def test_the_command_writes_one_sentence_a_line(tmp_path: Path) -> None:
    out = tmp_path / "new" / "sentences.txt"
    command = [
        sys.executable,
        str(RECIPE / "sentences.py"),
        "--count",
        "50",
        "--seed",
        "5",
        "--out",
        str(out),
    ]
    report = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert out.read_text().splitlines() == list(sentences(count=50, seed=5))
    assert report.startswith("50 sentences")


def test_model_config_is_a_small_ctc_model_without_layer_drop() -> None:
    config = json.loads((RECIPE / "model.json").read_text())
    assert config["model_type"] == "parakeet_ctc"
    assert config["encoder_config"]["layerdrop"] == 0.0


def test_fragments_are_new_sentences_of_runs_of_known_ones() -> None:
    spoken, written = ["a b c d e f g h", "i j"], ["k l m", "n"]
    said = list(fragments(spoken, written, count=4000, seed=0))
    assert len(set(said)) == 4000
    assert not set(said) & {*spoken, *written}
    pairs = {pair for text in [*spoken, *written] for pair in itertools.pairwise(text.split())}
    found = [pair for sentence in said for pair in itertools.pairwise(sentence.split())]
    assert max(len(sentence.split()) for sentence in said) <= 16
    assert 0.4 < sum(pair in pairs for pair in found) / len(found) < 0.9
    assert {word for sentence in said for word in sentence.split()} == set("abcdefghijklmn")
    again, otherwise = (list(fragments(spoken, written, count=100, seed=seed)) for seed in (0, 1))
    assert said[:100] == again != otherwise


def test_open_sentences_are_taken_from_fortunes_as_written_or_plain(tmp_path: Path) -> None:
    fortunes = tmp_path / "fortunes"
    fortunes.mkdir()
    (fortunes / "art").write_text(
        "Art is long. Well, life is short!\n%\nToo few.\n%\nIt costs $5 a day.\n%\nart is long.\n"
    )
    (fortunes / "art.dat").write_bytes(b"\x00Not a sentence at all.")
    command = [sys.executable, str(RECIPE.parent / "whisper" / "sentences.py"), "--fortunes", str(fortunes), "--out"]
    written = {}
    for name, more in {"written": [], "plain": ["--plain"]}.items():
        subprocess.run([*command, str(tmp_path / name), *more], check=True, capture_output=True)
        written[name] = sorted((tmp_path / name).read_text().splitlines())
    assert written["written"] == ["Art is long.", "Well, life is short!", "art is long."]
    assert written["plain"] == ["art is long", "well life is short"]


@pytest.mark.slow
def test_the_mean_of_two_recognisers_names_both(tmp_path: Path) -> None:
    weights = [{"w": torch.tensor(values, dtype=torch.float16), "n": torch.tensor(7)} for values in ([1.0, -2], [5, 2])]
    for name, one in zip(("first", "second"), weights, strict=True):
        (tmp_path / name).mkdir()
        save_file(one, tmp_path / name / "model.safetensors")
        (tmp_path / name / "train.json").write_text(json.dumps({"steps": name}))
    command = [sys.executable, str(RECIPE / "mean.py"), "first", "second", "--share", "0.25", "--out", "mean"]
    subprocess.run(command, check=True, cwd=tmp_path)
    found = load_file(tmp_path / "mean/model.safetensors")
    assert torch.equal(found["w"], torch.tensor([2.0, -1.0], dtype=torch.float16))
    assert torch.equal(found["n"], torch.tensor(7))
    record = json.loads((tmp_path / "mean/train.json").read_text())
    assert record == {"steps": "second", "mean_of": {"first": 0.75, "second": 0.25}}
