"""What libraries say, as one sentence."""

import pytest

from trimbre.errors import first_sentence, reason


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("requires at least 1 element. Got 0.", "requires at least 1 element"),
        ("There is no\n  model_type. Known ones: a, b", "There is no model_type"),
        ("expected 16.5 kHz, not a.wav", "expected 16.5 kHz, not a.wav"),
        ("", ""),
    ],
)
def test_the_first_sentence_is_told(said, sentence):
    assert first_sentence(said) == sentence
    assert reason(ValueError(said)) == sentence or not said
