import sys
from typing import Any

from helpers.places import ROOT

sys.path.insert(0, str(ROOT / "recipes" / "teacher"))

from card import SETS, card


def _judged(errors: int) -> dict[str, Any]:
    counts = {"substitutions": errors, "deletions": 0, "insertions": 0, "reference": 200}
    return {"utterances": 50, "wer": counts | {"percent": errors / 2, "interval": [0.0, errors]}}


def _read(*names: str) -> dict[str, Any]:
    sets = {name: _judged(number + 4) for number, name in enumerate(names)}
    shifted = {name: one | {"wer_shifted": _judged(9)["wer"], "changed": 1.25} for name, one in sets.items()}
    real = {
        name: {"utterances": {"train": 40 + number}, "speakers": {"train": ["a", "b"]}, "shared_sentences": ["one two"]}
        for number, name in enumerate(("an4", "so762", "lj"))
    }
    size = {"parameters": 10_994_592, "macs_per_second": 3.3e8}
    return {"greedy": {"size": size, "sets": sets}, "judged": {"sets": shifted}, "real": real}


STAGE = {"steps": 100, "minutes": 3.0, "audio_seconds": 7200.0}
TRAINED = STAGE | {"earlier": [STAGE, STAGE], "data": {"utterances": 1234, "hours": 5.0}}


def test_the_card_has_a_row_for_each_set_in_its_order() -> None:
    text = card(_read("prompts", "an4", "data"), TRAINED)
    found = [line for line in text.splitlines() if line.startswith("| ") and "/ 0 / 0" in line]
    assert [line.split(" | ")[0][2:] for line in found] == [SETS[name] for name in ("data", "an4", "prompts")]
    assert found[1] == f"| {SETS['an4']} | 50 | 200 | 2.50 [0.00, 5.00] | 5 / 0 / 0 | 4.50 [0.00, 9.00] | 1.2 % |"
    assert "graph" not in text
    assert "3 stages, 300 steps and 9 minutes on 2 cores, 6 hours" in text
    assert "AN4 (40 utterances of 2 speakers)" in text


def test_a_graph_has_a_column_of_its_own() -> None:
    read = _read("data", "an4") | {"graph": {"graph": {"words": 9, "ngrams": 12, "order": 3}}}
    read["graph"]["sets"] = {"data": _judged(2)}
    text = card(read, TRAINED)
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in table} == {9}
    assert table[2].endswith("| 1.00 [0.00, 2.00] |")
    assert table[3].endswith("| – |")
    assert "9 words and 12 n-grams" in text
