"""The published CytoSAE checkpoint: read safely, loaded as a `SparseAutoencoder`, converted to an artifact."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cytosae.common.artifact import hash_file
from cytosae.sae.exchange.checkpoint import save_sae
from cytosae.sae.exchange.torch_archive import read_torch_archive, refuse
from cytosae.sae.model.autoencoder import SparseAutoencoder
from cytosae.sae.variants import ReluL1

CONFIG_CLASS = ("src.sae_training.config", "ViTSAERunnerConfig")
WEIGHTS = ("W_enc", "b_enc", "W_dec", "b_dec")
BACKBONE_WIDTHS = {"s": 384, "b": 768, "l": 1024, "g": 1536}


def read_published(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a published checkpoint ``{"cfg": ..., "state_dict": ...}``.

    Parameters
    ----------
    path : str or Path
        The ``.pt`` file, in the zip format that torch writes since version 1.6.

    Returns
    -------
    tuple (dict of str to object, dict of str to Tensor)
        The cfg as a plain mapping (devices and dtypes as strings), and the tensors by name (as stored: float32 in the
        published file; W_enc [d, m], b_enc [m], W_dec [m, d], b_dec [d]).

    Raises
    ------
    WeightsError
        in one sentence with the offending name, for anything beyond what such a file needs. Nothing was executed.
    """
    return read_torch_archive(Path(path), CONFIG_CLASS)


def load_published(path: str | Path) -> SparseAutoencoder:
    """Load a published checkpoint as a `SparseAutoencoder` with `ReluL1` and the file's own l1 coefficient (float32).

    Raises
    ------
    WeightsError
        for an unsafe file (see `read_published`), missing or mis-shaped weights, or values that are not finite.
    """
    return _build(Path(path), *read_published(path))


def import_published(path: str | Path, out: str | Path, *, backbone: str | None = None) -> Path:
    """Convert a published checkpoint into an SAE artifact (safetensors) at ``out``, and return ``out``.

    Parameters
    ----------
    path : str or Path
        The published ``.pt`` file; its SHA-256 is kept as the input ``published``, its cfg in the details.
    backbone : str or None
        Name of the backbone that the tokens come from; by default what the cfg tells (``dinobloom-b``, ...).
    """
    path, out = Path(path), Path(out)
    config, weights = read_published(path)
    sae = _build(path, config, weights)
    details = {
        "source": path.name,
        "source_sha256": hash_file(path),
        "backbone": backbone or backbone_of(config, sae.d_in),
        "block": config.get("block_layer"),
        "published_config": config,
    }
    save_sae(sae, out, inputs={"published": details["source_sha256"]}, details=details)
    return out


def backbone_of(config: Mapping[str, Any], d_in: int) -> str | None:
    """Name of the backbone that a published cfg means, or None where it cannot be told.

    The authors' code names the architecture (``dinov2_vitb14``) and puts DinoBloom's weights into it; a width that
    does not fit the architecture is no such backbone.
    """
    match = re.fullmatch(r"(?:dinov2_vit([sblg])14|dinobloom[-_]([sblg]))", str(config.get("model_name")).lower())
    size = match and (match[1] or match[2])
    return f"dinobloom-{size}" if size and BACKBONE_WIDTHS[size] == d_in else None


def _build(path: Path, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> SparseAutoencoder:
    missing = [name for name in WEIGHTS if name not in weights]
    if missing or config.get("gated_sae"):
        refuse(path, f"lacks {missing[0]!r}" if missing else "holds a gated SAE, which is not the published model")
    if weights["W_enc"].ndim != 2:
        refuse(path, f"has a W_enc of shape {tuple(weights['W_enc'].shape)}")
    d, m = weights["W_enc"].shape
    for name, shape in zip(WEIGHTS, [(d, m), (m,), (m, d), (d,)], strict=True):
        if tuple(weights[name].shape) != shape:
            refuse(path, f"has a {name} of shape {tuple(weights[name].shape)} where {shape} is needed")
        if not torch.isfinite(weights[name]).all():
            refuse(path, f"has values in {name} that are not finite")
    coefficient = config.get("l1_coefficient", 0.0)
    if not isinstance(coefficient, (int, float)) or not math.isfinite(coefficient) or coefficient < 0:
        refuse(path, f"has the l1_coefficient {coefficient!r}")
    sae = SparseAutoencoder(d, m, sparsity=ReluL1(l1_coefficient=float(coefficient)))
    sae.load_state_dict({name: weights[name].float() for name in WEIGHTS}, strict=False)
    return sae.eval()
