import json
import sys
from typing import Any

from helpers.places import DEEP, ROOT

import trimbre

RECIPE = ROOT / "recipes" / "teacher"
sys.path.insert(0, str(RECIPE))

from card import SETS, card  # noqa: E402


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
    before = {name: _judged(20) for name in names}
    return {"judged": {"sets": shifted}, "before": {"sets": before}, "real": real}


STAGE = {"steps": 100, "minutes": 3.0, "audio_seconds": 7200.0}
TRAINED = STAGE | {"earlier": [STAGE, STAGE], "data": {"utterances": 1234, "hours": 5.0}}
COSTS = {"params": {"model": 10_994_592.0}, "macs": {"model": 3.3e8}}


def test_the_card_has_a_row_for_each_set_in_its_order() -> None:
    read = _read("prompts", "an4", "data")
    del read["judged"]["sets"]["data"]["changed"]  # not measured
    text = card(read, TRAINED, COSTS)
    found = [line for line in text.splitlines() if line.startswith("| ") and "/ 0 / 0" in line]
    assert [line.split(" | ")[0][2:] for line in found] == [SETS[name] for name in ("data", "an4", "prompts")]
    cells = "50 | 200 | 10.00 [0.00, 20.00] | 2.50 [0.00, 5.00] | 5 / 0 / 0 | 4.50 [0.00, 9.00] | 1.2 % |"
    assert found[0].endswith(" | 6 / 0 / 0 | – | – |")
    assert found[1] == f"| {SETS['an4']} | {cells}"
    assert {line.count("|") for line in text.splitlines() if line.startswith("|")} == {9}
    assert "10,994,592 parameters, 330,000,000" in text
    assert "3 stages, 300 steps and 9 minutes on 2 cores beside other work,\n6 hours" in text
    assert "AN4 (40 utterances of 2 speakers)" in text
    assert "In the last stage, 1,234 utterances (5.0 h" in text


def test_the_card_that_ships_is_made_of_the_record() -> None:
    judged = {name: json.loads((RECIPE / f"judged/{name}.json").read_text()) for name in ("telephone-en", DEEP.name)}
    assert {name: found["model"] for name, found in judged.items()} == {name: f"models/{name}" for name in judged}
    read = {"judged": judged[DEEP.name], "before": judged["telephone-en"]}
    read["real"] = json.loads((RECIPE / "real.json").read_text())
    made = card(read, json.loads((DEEP / "train.json").read_text()), trimbre.inspect(DEEP)["dense"])
    assert made == (DEEP / "README.md").read_text()
    readme = (ROOT / "README.md").read_text()
    an4 = [found["sets"]["an4"]["wer"]["percent"] for found in judged.values()]
    assert f"{an4[1]:.2f} % WER on AN4's test speakers, where the other has {an4[0]:.2f} %" in readme
