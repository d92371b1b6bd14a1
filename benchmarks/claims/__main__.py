"""The claims of Trimbre, a row of the table for each: made, judged beside the dense model and its control, and timed.

make demo                                        # synthetic voices and English prompts, in demo/
python benchmarks/claims data --speech SPEECH    # real speakers, Common Voice and prompts, in data/
python benchmarks/claims list
python benchmarks/claims run conformer-half      # goes on where it stopped
python benchmarks/claims table                   # Markdown, of the rows that are done

SPEECH is a folder of AudioFolders: an4, so762 and lj, each with train and test, and cv/LANGUAGE. OpenAI's weights are
made into runs/base and runs/tiny.en by `trimbre convert ctranslate2`. Models lie in runs/claims/NAME; figures are
written to benchmarks/claims/NAME.json, and what the commands printed to NAME.log. AN4 by cross-validation is made by
an4.py, and stands first in the table.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "demo"))

from commands import Failed, run
from making import make
from rows import CROSSED, Row, read_rows
from summary import summary, tables

from trimbre.errors import UserError
from trimbre.files import write_json

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = ("en", "de", "es", "fr", "nl", "pt", "ru")
PROMPTS = ("es", "fr")


def main(arguments: list[str] | None = None) -> int:
    """Bring data, run rows or print what is there; returns the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks/claims", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("verb", choices=["data", "list", "run", "table"])
    parser.add_argument("names", nargs="*", help="rows to run")
    parser.add_argument("--speech", type=Path, help="folder of an4, so762, lj and cv, for data")
    parser.add_argument("--rows", type=Path, default=ROOT / "benchmarks/claims/rows.json")
    parser.add_argument("--root", type=Path, default=ROOT, help="folder that the paths of rows are relative to")
    parser.add_argument("--figures", type=Path, help="folder of the figures and logs; that of --rows by default")
    asked = parser.parse_args(arguments)
    rows, figures = read_rows(asked.rows), (asked.figures or asked.rows.parent).absolute()
    speech = asked.speech and asked.speech.absolute()  # the paths of the user's folder, not of --root
    if unknown := [name for name in asked.names if name not in rows]:
        parser.error(f"{unknown[0]}: give names of {', '.join(rows)}")
    os.chdir(asked.root)
    try:
        if asked.verb == "data":
            if speech is None:
                parser.error("data needs --speech beside it")
            bring(speech)
        elif asked.verb == "run":
            if not asked.names:
                parser.error(f"run needs names beside it, of {', '.join(rows)}")
            for name in asked.names:
                finish(rows[name], figures)
        elif asked.verb == "list":
            for name, row in rows.items():
                print(f"{'done  ' if (figures / f'{name}.json').exists() else '      '}{name}: {row.title}")
        else:
            print("\n".join(tables(done(rows, figures))))
    except (Failed, UserError) as error:
        if isinstance(error, UserError):
            print(error, file=sys.stderr)
        return error.code if isinstance(error, Failed) else 2
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from here.", file=sys.stderr)
        return 130
    return 0


def done(rows: Iterable[str], figures: Path) -> list[dict[str, Any]]:
    """The figures of the rows that are there, those by cross-validation first."""
    crossed = figures / CROSSED
    found = json.loads(crossed.read_text())["rows"] if crossed.exists() else []
    files = (figures / f"{name}.json" for name in rows)
    return found + [json.loads(file.read_text()) for file in files if file.exists()]


def bring(speech: Path) -> None:
    """Write the corpora that rows name and `make demo` does not bring, where they are missing."""
    wanted = {Path("data/real"): ["python", "recipes/teacher/real.py", "--speech", str(speech), "--out", "data/real"]}
    for code in LANGUAGES:
        out = Path("data/cv") / code
        folder = ["trimbre", "corpus", "folder", str(speech / "cv" / code), "--no-split", "--language", code]
        wanted[out] = [*folder, "--out", str(out)]
    for code in PROMPTS:
        script = ["python", "recipes/corpora/prompts.py", "--language", code]
        wanted[Path("data") / code] = [*script, "--out", f"data/{code}"]
    for place, command in wanted.items():
        if not place.exists():
            run(command)


def finish(row: Row, figures: Path) -> None:
    """Run what is not done of a row, and write its figures."""
    figures.mkdir(parents=True, exist_ok=True)
    log = figures / f"{row.name}.log"
    print(f"{row.name}: its log is {log}", flush=True)
    try:
        make(row, Path("runs/claims"), log)
    except Failed:
        print("\n".join(log.read_text().splitlines()[-20:]), file=sys.stderr)
        raise
    write_json(figures / f"{row.name}.json", summary(row, Path("runs/claims")))


if __name__ == "__main__":
    sys.exit(main())
