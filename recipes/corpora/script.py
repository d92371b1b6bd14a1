"""What the scripts in this folder share: their command line, a limit to failures, and an exit code."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from trimbre.data.corpus import Corpus
from trimbre.errors import OptionError, UserError
from trimbre.progress import progress

Made = TypeVar("Made")

FAILING = 0.01
"""Share of the utterances that may fail; beyond it something is wrong with what makes them."""


def parser(about: str | None) -> argparse.ArgumentParser:
    """A parser with the options of every script, described by its docstring."""
    first, _, more = (about or "").partition("\n")
    made = argparse.ArgumentParser(description=first, epilog=more, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--out", type=Path, required=True, help="folder to write to")
    made.add_argument("--json", action="store_true", help="print one JSON object")
    return made


def checked(stage: str, results: Iterable[tuple[str, Made | str]], total: int) -> Iterator[Made | str]:
    """Pass on what was made (or, as a string, why it was not), and end where too much of it failed.

    `write_corpus` leaves nothing behind when its input raises, so no corpus is written that lacks an engine.

    Args:
        stage: what is done, for the display of progress.
        results: each with the name of what made it: an engine, a package.
        total: how many will come.

    Raises:
        UserError: more than 1 % of `total` failed, or all that one maker was to make.
    """
    asked: Counter[str] = Counter()
    failures: dict[str, list[str]] = {}
    with progress(stage, total) as show:
        for done, (maker, result) in enumerate(results, start=1):
            asked[maker] += 1
            if isinstance(result, str):
                failures.setdefault(maker, []).append(result)
                if sum(map(len, failures.values())) > FAILING * total:
                    worst = max(failures, key=lambda name: len(failures[name]) / asked[name])
                    raise _failed(worst, failures[worst], asked[worst])
            yield result
            show(done)
    for maker, reasons in failures.items():
        if len(reasons) == asked[maker]:
            raise _failed(maker, reasons, asked[maker])


def _failed(maker: str, reasons: list[str], asked: int) -> UserError:
    share = f"{len(reasons)} of the first {asked} utterances of {maker} failed ({len(reasons) / asked:.1%})"
    return UserError(f"{share}, which is more than {FAILING:.0%}, so nothing was written; the first: {reasons[0]}")


def report(make: Callable[[], Corpus], *, as_json: bool) -> int:
    """Make a corpus, say what it holds, and return the exit code: 2 with one sentence where it could not be made."""
    script = sys.argv[0].rpartition("/")[2]
    try:
        made = make()
    except UserError as error:
        said = f"--{error.name} {error.value}: {error.advice}" if isinstance(error, OptionError) else str(error)
        print(f"{script}: {' '.join(said.split())}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{script}: {error.strerror or error}: {error.filename or 'while reading or writing'}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{script}: stopped; nothing was written", file=sys.stderr)
        return 130
    if as_json:
        print(json.dumps(made.to_json(), ensure_ascii=False))
        return 0
    print(f"{made.out}: from {made.source}, licence: {made.licence}")
    for name, count in made.utterances.items():
        print(f"  {name}: {count:,} utterances, {made.hours[name]:.2f} h")
    if made.skipped:
        print(f"  {len(made.skipped)} could not be used, such as: {made.skipped[0]} (all in corpus.json)")
    return 0
