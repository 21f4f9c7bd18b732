"""The command line: the only place that prints."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence

from cytosae.cli.interruption import EXIT_CODE, SENTENCE, interruptible
from cytosae.common.cache import is_offline
from cytosae.common.errors import CytosaeError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``cytosae`` with ``arguments`` (default: those of the process) and return its exit code.

    0 done, 1 a failed run, 2 a wrong call, 130 interrupted. An error is one sentence on standard error; with
    ``--debug`` the traceback comes before it.
    """
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in tokens
    tokens = [word for word in tokens if word != "--debug"]
    if is_offline():  # read by the hub's client when it is imported
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        with interruptible():
            return _run(tokens)
    except CytosaeError as problem:
        if debug:
            traceback.print_exc()
        return _fail(str(problem), problem.exit_code)
    except KeyboardInterrupt:
        return _fail(SENTENCE, EXIT_CODE)
    except BrokenPipeError:
        return 0
    except Exception as problem:
        if debug:
            traceback.print_exc()
        return _fail(_unexpected(problem), 1)


def _run(tokens: list[str]) -> int:
    # Imported here, so that an installation that lacks something can still say so in a sentence.
    from cyclopts import CycloptsError

    from cytosae.cli.commands import app

    try:
        result = app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as problem:
        return _fail(f"{_sentence(str(problem))} See: cytosae {_command(tokens)}--help", 2)
    return result if isinstance(result, int) else 0


def _unexpected(problem: Exception) -> str:
    if isinstance(problem, OSError) and problem.errno == errno.ENOSPC:
        return f"The disk is full ({problem.filename or problem}); make space and run the same command again."
    if isinstance(problem, PermissionError):
        return f"{problem.filename} may not be read or written; change its permissions or choose another folder."
    return f"{type(problem).__name__}: {problem} (unexpected; run again with --debug for the traceback)"


def _fail(sentence: str, code: int) -> int:
    sys.stderr.write(f"cytosae: {sentence}\n")
    return code


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text if text.endswith((".", "?")) else text + "."


def _command(tokens: list[str]) -> str:
    words = []
    for token in tokens:
        if token.startswith("-") or len(words) == 2:
            break
        words.append(token)
    return words[0] + " " if words else ""
