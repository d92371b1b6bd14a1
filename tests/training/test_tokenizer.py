"""Tokenizers trained on transcripts: text is decoded to itself, and the blank is a label of its own."""

import pytest
from transformers import AutoTokenizer

from trimbre.data.text import normalise
from trimbre.training.tokenizer import BLANK, UNKNOWN, train_tokenizer

TEXTS = [
    "Press 1, or stay on the line.",
    "Don't hang up: it's ringing!",
    "a a aa aaa",
    "I see a bee, 33 bees",
    "Naïve café — señor",
    "x",
]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(map(normalise, TEXTS), vocab_size=60)


def decoded(tokenizer, text) -> str:
    # Repeats are letters here: it is for CTC's collapse to merge those that are one.
    return tokenizer.decode(tokenizer(text).input_ids, group_tokens=False)


@pytest.mark.parametrize("text", [*TEXTS, "", "bees sing in a press", "eee ooo"])
def test_normalised_sentences_come_back(tokenizer, text):
    text = normalise(text)
    assert decoded(tokenizer, text) == text
    assert not {tokenizer.pad_token_id, tokenizer.unk_token_id} & set(tokenizer(text).input_ids)


def test_pad_is_the_blank_and_a_label_within_the_vocabulary(tokenizer):
    assert tokenizer.convert_ids_to_tokens(tokenizer.pad_token_id) == BLANK
    assert tokenizer.convert_ids_to_tokens(tokenizer.unk_token_id) == UNKNOWN
    assert sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer)))
    ids = tokenizer("bee").input_ids
    blanks = [tokenizer.pad_token_id]
    assert tokenizer.decode(blanks + ids + blanks, group_tokens=False) == "bee"


def test_group_tokens_is_what_tells_a_double_letter_from_a_long_one(tokenizer):
    (o,) = tokenizer.convert_tokens_to_ids(["o"])
    assert tokenizer.decode([o, o], group_tokens=False) == "oo"
    assert tokenizer.decode([o, o]) == "o"


def test_the_vocabulary_is_as_large_as_asked_for_and_holds_every_letter(tokenizer):
    assert len(tokenizer) == 60
    letters = {letter for text in TEXTS for letter in normalise(text).replace(" ", "")}
    small = train_tokenizer(map(normalise, TEXTS), vocab_size=5)
    assert len(small) == len(letters) + 3  # <unk>, <pad> and the mark of a word's beginning
    assert letters < set(small.get_vocab())
    # Merges make sentences shorter: FastConformer has few frames to say them in.
    text = normalise(TEXTS[0])
    assert len(tokenizer(text).input_ids) < len(small(text).input_ids) == len(text) + 1


def test_unknown_letters_are_unknown(tokenizer):
    assert tokenizer("ж").input_ids.count(tokenizer.unk_token_id) == 1


def test_the_same_texts_give_the_same_vocabulary_and_it_is_kept(tokenizer, tmp_path):
    assert train_tokenizer(map(normalise, TEXTS), vocab_size=60).get_vocab() == tokenizer.get_vocab()
    tokenizer.save_pretrained(tmp_path)
    kept = AutoTokenizer.from_pretrained(tmp_path)
    assert type(kept) is type(tokenizer)
    assert kept.get_vocab() == tokenizer.get_vocab()
    assert kept.pad_token_id == tokenizer.pad_token_id
    assert [decoded(kept, normalise(text)) for text in TEXTS] == list(map(normalise, TEXTS))
