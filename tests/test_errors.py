"""What libraries say, as one sentence."""

import pytest

from trimbre.errors import first_sentence, one_sentence, reason


@pytest.mark.parametrize(
    ("said", "first", "all_of_it"),
    [
        ("requires at least 1 element. Got 0.", "requires at least 1 element", "requires at least 1 element; Got 0"),
        (
            "There is no\n  kind. Known: ['a', 'b']. Take one",
            "There is no kind",
            "There is no kind; Known: ['a', 'b']; Take one",
        ),
        ("expected 16.5 kHz, not a.wav", "expected 16.5 kHz, not a.wav", "expected 16.5 kHz, not a.wav"),
        ("", "", ""),
    ],
)
def test_the_first_sentence_is_told_or_all_as_one(said, first, all_of_it):
    assert (first_sentence(said), one_sentence(said)) == (first, all_of_it)
    if said:
        assert (reason(ValueError(said)), reason(ValueError(said), whole=True)) == (first, all_of_it)
