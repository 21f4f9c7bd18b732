"""This process among those that work together: known from the environment before any of them has met the others."""

from __future__ import annotations

import atexit
import os


def is_first() -> bool:
    """Whether this process is the first of its ranks, which alone speaks to people.

    torchrun numbers all ranks, Slurm its tasks, and Fabric, which starts the processes of several devices by itself,
    the machines and the processes on each.
    """
    for number in ("RANK", "SLURM_PROCID"):
        if number in os.environ:
            return os.environ[number] == "0"
    return os.environ.get("LOCAL_RANK", "0") == os.environ.get("NODE_RANK", "0") == "0"


def leave_at_exit() -> None:
    """Take this process out of the ranks' process group when it ends, if it has joined one."""
    atexit.unregister(_leave)
    atexit.register(_leave)


def _leave() -> None:
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
