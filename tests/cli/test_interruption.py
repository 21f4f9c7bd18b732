from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import pytest

from cytosae.cli import main
from cytosae.cli.interruption import interruptible
from cytosae.pipeline import Study

INTERRUPTED = "cytosae: Interrupted; the same command goes on where this one stopped.\n"
DRIVER = """
import os, signal, sys
def hook(event, arguments):
    if event == "import" and arguments[0] == sys.argv[1]:
        os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(hook)
from cytosae.cli import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("module", ["cyclopts", "cytosae.cli.commands", "cytosae.pipeline", "torch", "timm"])
def test_ctrl_c_during_an_import_ends_in_one_line(module: str, smear: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", DRIVER, module, "run", str(smear), "--study", str(tmp_path / "study")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, INTERRUPTED)


def test_ctrl_c_at_work_ends_in_one_line(monkeypatch, capsys, study_of_smear: Path) -> None:
    def work(study: Study) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)

    monkeypatch.setattr(Study, "run", work)
    before = signal.getsignal(signal.SIGINT)
    assert main(["run", "--study", str(study_of_smear)]) == 130
    assert capsys.readouterr().err == INTERRUPTED
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_in_a_callback_is_not_lost() -> None:
    class Thing: ...

    thing = Thing()
    reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt), interruptible():
        del thing  # what a callback raises, Python drops
        time.sleep(60)
        pytest.fail("the sleep was not interrupted")
    assert reference() is None
