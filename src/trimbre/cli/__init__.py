"""The `trimbre` command: thin verbs over the functions of the package."""

import os
import sys
from collections.abc import Sequence

from cyclopts import CycloptsError

from trimbre.cli import corpus, verbs  # noqa: F401  their commands join the app
from trimbre.cli.console import BAD_INPUT, DONE, INTERRUPTED, app, tell
from trimbre.errors import UserError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and leave with its exit code: bad input is one sentence on stderr, never a traceback."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code."""
    try:
        quiet_libraries()
        result = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        return result if isinstance(result, int) else DONE
    except UserError as error:
        return _fail(str(error))
    except CycloptsError as error:
        return _fail(f"{' '.join(str(error).split())} (see trimbre {_verb(arguments)}--help)")
    except FileNotFoundError as error:
        return _fail(f"no such file: {error.filename}")
    except OSError as error:
        return _fail(f"{error.strerror or error}: {error.filename or 'while reading or writing'}")
    except KeyboardInterrupt:
        kept = " --resume" if arguments and arguments[0] in ("prune", "train") else ""
        tell("stopped" + (f"; go on with: trimbre {' '.join([*arguments, kept.strip()])}" if kept else ""))
        return INTERRUPTED


def quiet_libraries() -> None:
    """Keep the libraries' own remarks off the terminal; set before they are imported."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    if not sys.warnoptions:
        import warnings

        warnings.simplefilter("ignore")


def _verb(arguments: Sequence[str]) -> str:
    known = [word for word in arguments[:2] if not word.startswith("-")]
    return f"{known[0]} " if known and known[0] in app else ""


def _fail(sentence: str) -> int:
    tell(sentence)
    return BAD_INPUT
