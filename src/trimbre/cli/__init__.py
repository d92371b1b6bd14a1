"""The `trimbre` command: thin verbs over the functions of the package."""

import os
import shlex
import sys
from collections.abc import Sequence

from cyclopts import CoercionError, CycloptsError, UnusedCliTokensError

from trimbre.cli import (  # noqa: F401  importing a command adds it to the app
    bench,
    compare,
    convert,
    corpus,
    evaluate,
    export,
    graph,
    inspection,
    prune,
    train,
    transcribe,
)
from trimbre.cli.console import BAD_INPUT, DONE, INTERRUPTED, NOT_READ, app, tell
from trimbre.cli.options import as_typed
from trimbre.errors import OptionError, UserError, first_sentence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and leave with its exit code: bad input is one sentence on stderr, never a traceback."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code."""
    try:
        prepare_libraries()
        result = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        return result if isinstance(result, int) else DONE
    except OptionError as error:
        return _fail(as_typed(error))
    except UserError as error:
        return _fail(str(error))
    except UnusedCliTokensError as error:
        return _fail(f"unexpected: {' '.join(error.unused_tokens or ())}{_see_help(error)}")
    except CoercionError as error:
        return _fail(_misread(error))
    except CycloptsError as error:
        return _fail(f"{first_sentence(str(error))}{_see_help(error)}")
    except FileNotFoundError as error:
        return _fail(f"no such file: {error.filename}")
    except BrokenPipeError:  # as of `trimbre eval ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter would try again at its end
        return NOT_READ
    except OSError as error:
        return _fail(f"{error.strerror or error}: {error.filename or 'while reading or writing'}")
    except KeyboardInterrupt:
        tell(f"stopped{_how_to_resume(arguments)}")
        return INTERRUPTED


def prepare_libraries() -> None:
    """Set the environment before libraries are imported: no messages of theirs, no threads that spin."""
    # Threads that spin while they wait take the cores from whatever else runs, such as workers that load audio.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TQDM_DISABLE", "1")  # progress is shown by `trimbre.progress`
    if not sys.warnoptions:
        import warnings

        warnings.simplefilter("ignore")


def _misread(error: CoercionError) -> str:
    """A word that is no number, or no value of another type, as it was typed."""
    given = f"{error.token.keyword} {error.token.value}" if error.token and error.token.keyword else ""
    wanted = {int: "a whole number", float: "a number"}.get(error.target_type)  # type: ignore[arg-type]
    return (
        f"{given}: give {wanted}" if given and wanted else f"{str(error).strip().removesuffix('.')}{_see_help(error)}"
    )


def _see_help(error: CycloptsError) -> str:
    return f" (see {' '.join(['trimbre', *(error.command_chain or ()), '--help'])})"


def _how_to_resume(arguments: Sequence[str]) -> str:
    """The command that resumes a stopped run, for the verbs that keep state."""
    if not arguments or arguments[0] not in ("prune", "train") or "--dry-run" in arguments:
        return ""
    again = [*arguments] if "--resume" in arguments else [*arguments, "--resume"]
    return f"; go on with: {shlex.join(['trimbre', *again])}"


def _fail(sentence: str) -> int:
    tell(sentence)
    return BAD_INPUT
