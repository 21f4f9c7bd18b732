from __future__ import annotations

import subprocess
import sys

ONE_THREAD = """
import torch
from cytosae.sae.screening.backend import backend

torch.set_num_threads(1)
backend("numba").unit_rows(torch.eye(4))
assert torch.get_num_threads() == 1, torch.get_num_threads()
"""


def test_the_kernels_leave_the_number_of_threads_as_it_was_asked_for() -> None:
    subprocess.run([sys.executable, "-c", ONE_THREAD], check=True)
