"""Ctrl-C: one line and exit code 130, from the first moment on."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SENTENCE = "Interrupted; the same command goes on where this one stopped."
EXIT_CODE = 130


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C raise `KeyboardInterrupt` inside the block, and nowhere be lost."""
    if threading.current_thread() is not threading.main_thread():  # signals are not its business
        yield
        return
    handler, hook = signal.signal(signal.SIGINT, _interrupt), sys.unraisablehook
    sys.unraisablehook = _insist
    try:
        yield
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGINT, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    # While modules are imported nothing is half done, and some of them swallow whatever is raised.
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os.write(2, f"cytosae: {SENTENCE}\n".encode())
            os._exit(EXIT_CODE)
        frame = frame.f_back
    raise KeyboardInterrupt


def _insist(unraisable: Any) -> None:
    """Interrupt again where Python would drop it: it came in the middle of a callback."""
    if unraisable.exc_type is KeyboardInterrupt:
        threading.Timer(0.01, _interrupt_main_thread).start()  # raised here, it would be dropped as well
    else:
        sys.__unraisablehook__(unraisable)


def _interrupt_main_thread() -> None:
    if hasattr(signal, "pthread_kill"):  # wakes the thread even where it waits for the system
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()
