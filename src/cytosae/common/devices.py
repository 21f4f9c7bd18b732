"""What can be asked of the devices of this machine; apart from `runtime`, which imports Fabric."""

from __future__ import annotations

import torch

from cytosae.common.errors import UsageError


def require_device(device: str) -> None:
    """Refuse "cuda" where no CUDA device is usable."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("device is 'cuda' but no CUDA device is usable here; use 'auto' or 'cpu'.")
