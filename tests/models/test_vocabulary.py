"""A smaller vocabulary spells texts of its language as before, and all others too."""

import json

import pytest
from helpers.families import FAMILIES, WHISPER_SPECIAL
from helpers.wordy import ENGLISH, GERMAN, JAPANESE, wordy_processor
from transformers import AutoProcessor, WhisperTokenizer

from trimbre.errors import UserError
from trimbre.models.vocabulary import kept_tokens, smaller_processor, smaller_tokenizer

pytestmark = pytest.mark.family("whisper")


@pytest.fixture(scope="module")
def processor():
    return wordy_processor()


def few(*merged: str) -> WhisperTokenizer:
    """A tokenizer of all bytes and these tokens, each merged from all but its last letter and that."""
    bytes_ = FAMILIES["whisper, English"].processor().tokenizer.get_vocab()
    letters = {token: number for token, number in bytes_.items() if number < 256}
    vocabulary = letters | {token: 256 + place for place, token in enumerate(merged)}
    pairs = [(token[:-1], token[-1]) for token in merged]
    return WhisperTokenizer(vocab=vocabulary, merges=pairs, extra_special_tokens=WHISPER_SPECIAL[1:])


def test_what_stays_is_what_the_words_need_and_what_is_no_word():
    tokenizer = few("Ġt", "Ġth", "Ġthe", "Ġo", "Ġox", "TH", "Th", "The", "12", "Â¿", "zz", "Ã©")  # the last are ¿ and é
    size = len(tokenizer) + 3  # timestamps, say, that the tokenizer has no names for
    known = tokenizer.get_vocab()
    kept = set(kept_tokens(tokenizer, size, ["the"]).kept)
    # Ġthe and what it is merged from; The, capitalised; numbers and signs. Not: THE, another word, other letters.
    gone = {"Ġo", "Ġox", "TH", "zz", "Ã©"}
    assert set(range(size)) - kept == {known[token] for token in gone}
    shouted = kept_tokens(tokenizer, size, ["THE"])  # as it is written, besides
    assert {known[token] for token in gone} - set(shouted.kept) == {known[token] for token in gone - {"TH"}}
    assert known["zz"] in kept_tokens(tokenizer, size, ["the"], [known["zz"]]).kept
    for text in ('"The', "(the)", "“THE”", "the-x", "x/the"):  # none of which has Ġthe as it is written
        assert kept <= set(kept_tokens(tokenizer, size, [text]).kept), text


@pytest.mark.parametrize("texts", [[ENGLISH], [GERMAN, JAPANESE], []])
def test_every_text_is_spelled_and_those_of_the_language_as_before(processor, texts, tmp_path):
    tokenizer = processor.tokenizer
    kept = kept_tokens(tokenizer, len(tokenizer), texts)
    assert 256 + len(WHISPER_SPECIAL) + 101 <= len(kept.kept) < len(tokenizer)
    small = smaller_processor(processor, kept)
    assert processor.tokenizer is tokenizer
    for text in (*texts, *(f" {text}" for text in texts), *(text.lower() for text in texts)):
        assert [kept.kept[label] for label in small.tokenizer(text).input_ids] == tokenizer(text).input_ids
    small.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path).tokenizer
    for text in (ENGLISH, GERMAN, JAPANESE, "naïve\n  ½ 🎵"):
        ids = small.tokenizer(text).input_ids
        assert max(ids) < len(kept.kept)
        assert small.tokenizer.decode(ids, skip_special_tokens=True) == text
        assert loaded(text).input_ids == ids
    assert loaded.get_vocab() == small.tokenizer.get_vocab()
    small.tokenizer.save_vocabulary(str(tmp_path))  # the form of the older files, which exporters read
    written = json.loads((tmp_path / "vocab.json").read_text(encoding="utf-8"))
    assert written | small.tokenizer.get_added_vocab() == small.tokenizer.get_vocab()
    assert len((tmp_path / "merges.txt").read_text(encoding="utf-8").splitlines()) < len(tokenizer._merges) + 1


def test_special_tokens_and_times_keep_their_order(processor):
    tokenizer = processor.tokenizer
    small = smaller_tokenizer(tokenizer, kept_tokens(tokenizer, len(tokenizer), [ENGLISH]))
    moved = {token: small.get_vocab()[token] - number for token, number in tokenizer.get_added_vocab().items()}
    assert len(set(moved.values())) == 1
    assert small.all_special_ids[-1] + 1 == small.convert_tokens_to_ids("<|0.00|>")
    timed = [small.convert_tokens_to_ids(token) for token in ("<|0.00|>", "Ġthe", "<|0.40|>")]
    assert small.decode(timed, decode_with_timestamps=True) == "<|0.00|> the<|0.40|>"
    assert small.decode(timed, output_offsets=True)["offsets"] == [{"text": " the", "timestamp": (0.0, 0.4)}]
    small.set_prefix_tokens(language="en", task="translate")
    prompt = ["<|startoftranscript|>", "<|en|>", "<|translate|>", "<|notimestamps|>"]
    assert small.convert_ids_to_tokens(small("the").input_ids)[:4] == prompt


def test_other_vocabularies_are_refused():
    words = FAMILIES["parakeet"].processor().tokenizer
    with pytest.raises(UserError, match="not made of bytes"):
        kept_tokens(words, len(words), ["a"])
