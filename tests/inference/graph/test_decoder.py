"""Decoding graphs against every alignment there is, and on the recognisers that take them."""

import copy
import math
import random
from functools import cache
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.families import FAMILIES
from helpers.mini_recogniser import mini_parakeet, mini_processor

from trimbre.data.splits import split_of
from trimbre.data.text import labels_of
from trimbre.errors import UserError
from trimbre.evaluation.score import score
from trimbre.exporting.export import export
from trimbre.exporting.runtime import load_exported
from trimbre.inference.graph.build import make_graph
from trimbre.inference.graph.decoder import DecodingGraph, load_graph
from trimbre.inference.graph.network import network
from trimbre.inference.graph.ngrams import END, START, NGrams, estimate
from trimbre.inference.greedy import recognise
from trimbre.inference.long_form import transcriber
from trimbre.models.checkpoint import save
from trimbre.models.families.registry import head_of
from trimbre.models.heads.ctc import blank_id, collapse
from trimbre.models.inputs import features_of
from trimbre.models.loading import Recogniser

BLANK, SPACE = 0, 4
SPELLINGS = {"x": [1], "y": [1, 2], "z": [3], "w": [2], "v": [2, 2]}
SAID = ["x y", "x x z", "y", "w z z", "v w", "x y z"]


def cheapest(ngrams: NGrams, words: tuple[str, ...], weight: float) -> float:
    """What words cost on the cheapest of the ways to back off and to divide them into sentences."""
    start = ngrams.known((START,))

    @cache
    def rest(place: int, history: tuple[str, ...], begun: bool) -> float:
        paid, found = 0.0, math.inf
        while True:
            listed = ngrams.costs[history]
            if place < len(words) and words[place] in listed:
                after = rest(place + 1, ngrams.known((*history, words[place])), True)
                found = min(found, paid + weight * listed[words[place]] + after)
            if END in listed:
                # An empty sentence between two others is never the cheapest way.
                after = 0.0 if place == len(words) else rest(place, start, False) if begun else math.inf
                found = min(found, paid + weight * listed[END] + after)
            if not history:
                return found
            paid += weight * ngrams.backoff[history]
            history = history[1:]

    return rest(0, start, False)


def readings(labels: list[int]) -> list[tuple[str, ...]]:
    """All sentences that are spelled so."""
    if not labels:
        return [()]
    return [
        (word, *more)
        for word, spelled in SPELLINGS.items()
        if labels[: len(spelled)] == spelled
        for more in readings(labels[len(spelled) :])
    ]


def readings_with_spaces(labels: list[int]) -> list[tuple[str, ...]]:
    by_spelling = {tuple(spelled): word for word, spelled in SPELLINGS.items()}
    parts = "".join(map(str, labels)).split(str(SPACE))
    words = [by_spelling.get(tuple(map(int, part))) for part in parts if part]
    return [] if None in words else [tuple(words)]


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("space", [None, SPACE])
def test_the_sentence_is_the_best_over_all_alignments(order, space):
    """Each of the 4^5 (with spaces 5^5) ways to label five frames is read, priced and compared."""
    ngrams, weight = estimate(SAID, order), 0.7
    found = network(ngrams, SPELLINGS, weight=weight, blank=BLANK, space=space)
    graph = DecodingGraph(found, sorted(SPELLINGS), SimpleNamespace(space=space))
    labels, frames = 4 if space is None else 5, 5
    read = readings if space is None else readings_with_spaces
    several = set()
    for seed in range(16):
        draw = np.random.default_rng(seed)
        scores = np.log(draw.dirichlet(np.full(labels, 0.5), size=frames)).clip(-12)
        best: dict[tuple[str, ...], float] = {}
        for path in product(range(labels), repeat=frames):
            acoustic = -scores[range(frames), path].sum()
            for words in read(collapse(path, BLANK)):
                best[words] = min(best.get(words, math.inf), acoustic + cheapest(ngrams, words, weight))
        expected = min(best, key=best.__getitem__)
        assert graph.text(scores.astype(np.float32)) == " ".join(expected)
        several.add(expected)
    assert len(several) > 4
    assert max(map(len, several)) > 1


def test_sentences_may_follow_each_other():
    said = ["x y"] * 500 + ["z w"] * 500
    spell = {"x": [1], "y": [2], "z": [3], "w": [4]}
    graph = DecodingGraph(
        network(estimate(said, 3), spell, weight=1.0, blank=BLANK, space=None),
        sorted(spell),
        SimpleNamespace(space=None),
    )
    scores = np.full((4, 5), -6.0)
    scores[range(4), [1, 2, 3, 4]] = 0.0
    assert graph.text(scores) == "x y z w"
    scores[2, 1] = -2.0  # less likely to the ear, and nothing that follows y in a sentence either
    assert graph.text(scores) == "x y z w"


def test_audio_that_ends_within_a_word_keeps_the_words_before_it():
    graph = DecodingGraph(
        network(estimate(["x v", "x"], 2), {"x": [1], "v": [2, 3]}, weight=0.1, blank=BLANK, space=None),
        ["v", "x"],
        SimpleNamespace(space=None),
    )
    scores = np.full((2, 4), -90.0)
    scores[range(2), [1, 2]] = 0.0
    assert graph.text(scores) == "x"
    assert graph.text(scores[:0]) == ""


def test_a_repeated_word_takes_a_blank_between():
    graph = DecodingGraph(
        network(estimate(["x x x", "x"], 2), SPELLINGS, weight=0.1, blank=BLANK, space=None),
        sorted(SPELLINGS),
        SimpleNamespace(space=None),
    )

    def decoded(*labels: int) -> str:
        scores = np.full((len(labels), 4), -20.0)
        scores[range(len(labels)), labels] = 0.0
        return graph.text(scores)

    assert decoded(1, 1, 1) == "x"
    assert decoded(1, 0, 1) == "x x"
    assert decoded(0, 1, 0, 0, 1, 1, 0, 1) == "x x x"


def test_words_alone_cost_nothing_with_weight_zero():
    said = network(estimate(SAID, 3), SPELLINGS, weight=0.0, blank=BLANK, space=None)
    graph = DecodingGraph(said, sorted(SPELLINGS), SimpleNamespace(space=None))
    scores = np.full((3, 4), -9.0)
    scores[range(3), [3, 1, 2]] = 0.0
    assert graph.text(scores) == "z y"  # which nobody said


SENTENCES = ["bad cab", "a bee", "ace", "cab a cab", "bad bad bee"]


@pytest.fixture
def saved(model, processor, tmp_path):
    save(model, processor, tmp_path / "model")
    (tmp_path / "said.txt").write_text("\n".join(SENTENCES))
    made = make_graph(model=str(tmp_path / "model"), out=tmp_path / "graph", sentences=tmp_path / "said.txt")
    assert (made.words, made.sentences, made.left_out) == (5, 5, [])
    return tmp_path


def spoken(text: str, processor, model) -> np.ndarray:
    """(frames, labels) scores that spell a text without doubt, one frame a label and one of blank between."""
    labels = [label for one in labels_of(text, processor=processor, normalize="basic") for label in (one, None)]
    blank = blank_id(model)
    scores = torch.full((len(labels), model.config.vocab_size), -9.0)
    for frame, label in enumerate(labels):
        scores[frame, blank if label is None else label] = 0.0
    return scores.log_softmax(-1).numpy()


@pytest.mark.ctc
def test_clear_spellings_are_kept_and_misspelled_ones_become_words(saved, model, processor):
    graph = load_graph(saved / "graph", Recogniser(model, processor))
    for sentence in SENTENCES:
        assert graph.text(spoken(sentence, processor, model)) == sentence
    assert graph.text(spoken("bab cap", processor, model)) == "bad cab"
    assert graph.text(spoken("bad bad bad bee", processor, model)) == "bad bad bad bee"  # known words in a new order


@pytest.mark.ctc
def test_evaluation_and_transcription_decode_by_it(saved, model, processor, noise_corpus):
    graph = load_graph(saved / "graph", Recogniser(model, processor))
    found = score(model=model, processor=processor, data=noise_corpus, graph=graph)
    greedily = score(model=model, processor=processor, data=noise_corpus)
    assert found.ids == greedily.ids
    assert found.hypotheses != greedily.hypotheses
    words = set(" ".join(SENTENCES).split())
    assert all(set(text.split()) <= words for text in found.hypotheses)
    clip = np.random.default_rng(3).standard_normal(20_000).astype(np.float32)
    inputs = features_of([clip], processor)
    expected = graph.text(head_of(model).frame_scores(model, inputs)[0])
    assert recognise(model, inputs, processor, graph) == [expected]
    assert transcriber(model, processor, graph)(clip) == expected
    assert transcriber(model, processor, graph)(clip[:0]) == ""


@pytest.mark.ctc
def test_another_vocabulary_or_blank_is_refused(saved, model, processor):
    load_graph(saved / "graph", Recogniser(model, processor), Recogniser(model, processor))
    model.config.pad_token_id -= 1
    with pytest.raises(UserError, match="vocabulary"):
        load_graph(saved / "graph", Recogniser(model, processor))
    model.config.pad_token_id += 1
    processor = copy.deepcopy(processor)
    processor.tokenizer.add_tokens(["new"])
    with pytest.raises(UserError, match="vocabulary"):
        load_graph(saved / "graph", Recogniser(model, processor))


@pytest.mark.parametrize("file", ["graph.fst", "words.txt", "graph.json"])
@pytest.mark.parametrize("change", ["cut short", "gone"])
def test_a_damaged_graph_is_refused(saved_mini, tmp_path, capfd, file, change):
    model, processor, _ = saved_mini
    damaged = tmp_path / "graph" / file
    whole = damaged.read_bytes()
    damaged.unlink()
    if change == "cut short":
        damaged.write_bytes(whole[: len(whole) // 2])
    capfd.readouterr()
    with pytest.raises(UserError, match=f"graph='{tmp_path / 'graph'}': it is"):
        load_graph(tmp_path / "graph", Recogniser(model, processor))
    assert capfd.readouterr().err == ""


def test_a_moved_graph_reports_its_new_path(saved_mini, tmp_path):
    model, processor, _ = saved_mini
    (tmp_path / "graph").rename(tmp_path / "moved")
    assert load_graph(tmp_path / "moved", Recogniser(model, processor)).to_json()["out"] == str(tmp_path / "moved")


def test_what_cannot_be_written_whole_is_not_there(saved_mini, tmp_path, monkeypatch):
    monkeypatch.setattr("kaldifst.StdVectorFst.write", lambda network, file: False)
    with pytest.raises(UserError, match=r"graph\.fst"):
        make_graph(model=str(tmp_path / "mini"), out=tmp_path / "full", sentences=tmp_path / "said.txt")
    assert not (tmp_path / "full").exists()


def test_a_decoder_of_its_own_takes_no_graph(tmp_path):
    whisper = FAMILIES["whisper, English"]
    save(whisper.build(), whisper.processor(), tmp_path / "model")
    (tmp_path / "said.txt").write_text("a\n")
    with pytest.raises(UserError, match="decoder of its own"):
        make_graph(model=str(tmp_path / "model"), out=tmp_path / "graph", sentences=tmp_path / "said.txt")
    assert not (tmp_path / "graph").exists()


@pytest.fixture
def saved_mini(tmp_path):
    model, processor = mini_parakeet(), mini_processor()
    save(model, processor, tmp_path / "mini")
    draw = random.Random(0)
    said = [" ".join(draw.choices(["a", "ab", "bad", "cab", "fed", "egg"], k=4)) for _ in range(20)]
    (tmp_path / "said.txt").write_text("\n".join([*said, "a zebra 5"]))
    made = make_graph(
        model=str(tmp_path / "mini"), out=tmp_path / "graph", sentences=tmp_path / "said.txt", language="en"
    )
    assert made.left_out == ["five", "zebra"]
    return model, processor, load_graph(tmp_path / "graph", Recogniser(model, processor))


def test_only_the_sentences_of_the_splits_are_read(tmp_path, saved_mini):
    lines = (tmp_path / "said.txt").read_text().splitlines()
    parts = {
        split: make_graph(
            model=str(tmp_path / "mini"), out=tmp_path / split, sentences=tmp_path / "said.txt", splits=(split,)
        ).sentences
        for split in ("train", "test")
    }
    assert parts == {split: sum(split_of(line) == split for line in lines) for split in parts}
    assert 0 < parts["test"] < parts["train"]


def test_transcripts_and_arpa_files_are_sources_too(tmp_path, saved_mini, noise_corpus):
    place = str(tmp_path / "mini")
    spoken = make_graph(model=place, out=tmp_path / "spoken", transcripts=str(noise_corpus))
    assert (spoken.sentences, spoken.order) == (24, 3)
    shorter = make_graph(model=place, out=tmp_path / "shorter", transcripts=str(noise_corpus), order=2)
    assert shorter.order == 2
    assert shorter.ngrams < spoken.ngrams
    both = make_graph(
        model=place, out=tmp_path / "both", transcripts=str(noise_corpus), sentences=tmp_path / "said.txt"
    )
    assert both.sentences == 24 + 21
    arpa = tmp_path / "some.arpa"
    arpa.write_text("\\1-grams:\n-0.3\tbad\t-0.1\n-0.3\t</s>\n\\2-grams:\n-0.1\tbad bad\n\\end\\\n")
    read = make_graph(model=place, out=tmp_path / "read", arpa=arpa, weight=0.2)
    assert (read.words, read.ngrams, read.order, read.sentences, read.normalize) == (1, 3, 2, None, None)


@pytest.mark.slow
def test_an_exported_model_is_read_by_the_same_graph(saved_mini, tmp_path):
    model, processor, graph = saved_mini
    for to in ("onnx", "sherpa-onnx"):  # which have the labels in other orders
        export(model=str(tmp_path / "mini"), to=to, out=tmp_path / to)
        exported = load_exported(tmp_path / to)
        clip = np.random.default_rng(3).standard_normal(40_000).astype(np.float32)
        text = transcriber(*exported, load_graph(tmp_path / "graph", Recogniser(*exported)))(clip)
        assert text == transcriber(model, processor, graph)(clip) != ""


def test_words_of_any_length_are_spelled(tmp_path, saved_mini):
    (tmp_path / "long.txt").write_text("ab" * 1500 + "\n")
    made = make_graph(model=str(tmp_path / "mini"), out=tmp_path / "long", sentences=tmp_path / "long.txt")
    assert made.words == 1
