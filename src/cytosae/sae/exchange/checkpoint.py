"""SAE artifacts: ``model.safetensors`` and ``config.json``, which needs no torch to read."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import torch
from safetensors.torch import load_file, save_file

from cytosae.common.artifact import write_artifact
from cytosae.common.errors import ArtifactError, CytosaeError, NewerArtifactError, WeightsError
from cytosae.common.records import read_record, write_json
from cytosae.sae.model.autoencoder import SparseAutoencoder
from cytosae.sae.model.choices import Initialisation, Normalisation
from cytosae.sae.variants import AnySparsity

WEIGHTS, CONFIG = "model.safetensors", "config.json"
FORMAT, FORMAT_VERSION = "cytosae.sae", 1


def save_sae(
    sae: SparseAutoencoder,
    path: str | Path,
    *,
    config: Any = None,
    inputs: Mapping[str, str] | None = None,
    metrics: Any = None,
    details: Mapping[str, Any] | None = None,
    files: Mapping[str, str | Path] | None = None,
) -> Path:
    """Write an SAE artifact at ``path``, complete or not at all.

    Parameters
    ----------
    config : object
        How it was made (a `TrainConfig` or any plain value); part of the artifact's recipe.
    inputs : mapping of str to str or None
        Fingerprints of what it was made from.
    metrics : object
        Figures worth reading beside it (a `Metrics`), written to ``config.json``.
    details : mapping of str to object or None
        Plain facts for the artifact's record.
    files : mapping of str to (str or Path) or None
        Further files to keep in it, name -> where they lie now (``metrics.csv``).
    """
    path = Path(path)
    facts = {"fingerprint": sae.fingerprint, **(details or {})}
    with write_artifact(path, "sae", config=config, inputs=inputs, details=facts) as folder:
        write_sae_files(sae, folder, train=config, metrics=metrics)
        for name, source in (files or {}).items():
            shutil.copyfile(source, folder / name)
    return path


def write_sae_files(sae: SparseAutoencoder, folder: Path, *, train: Any = None, metrics: Any = None) -> None:
    """Write ``model.safetensors`` and ``config.json`` into ``folder``."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sae.state_dict().items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": FORMAT})
    description = {"format": FORMAT, "format_version": FORMAT_VERSION, **sae.describe()}
    write_json(folder / CONFIG, {**description, "level": sae.level, "metrics": metrics, "train": train})


def read_sae_files(folder: Path) -> SparseAutoencoder:
    """Read what `write_sae_files` wrote; checks shapes and names, not checksums."""
    file, mend = folder / CONFIG, "make or fetch it again"
    known = read_record(_Format, file, mend)
    if known["format"] != FORMAT or known["format_version"] > FORMAT_VERSION:
        raise NewerArtifactError(
            f"{file} has the format {known['format']!r}, version {known['format_version']}, which this version of "
            "cytosae does not read; update cytosae."
        )
    asked = read_record(_Description, file, mend)
    try:
        weights = load_file(folder / WEIGHTS)
        claimed = (asked["d_in"], asked["d_sae"])
        if "W_enc" not in weights or tuple(weights["W_enc"].shape) != claimed:  # before memory is asked for by it
            raise ValueError(f"no W_enc of {claimed[0]} x {claimed[1]}")
        sae = SparseAutoencoder(
            *claimed, asked["sparsity"], asked["normalisation"], initialisation=asked["initialisation"]
        )
        sae.load_state_dict(weights)
        sae.level = asked.get("level")
    except CytosaeError as problem:
        raise ArtifactError(f"{file} does not describe an SAE ({str(problem).rstrip('.')}); {mend}.") from problem
    except Exception as problem:  # safetensors raises its own exception, torch a RuntimeError with a list
        sentence = " ".join(str(problem).split())
        raise WeightsError(f"{folder / WEIGHTS} does not fit {CONFIG} ({sentence}); {mend}.") from problem
    if not all(bool(torch.isfinite(p).all()) for p in sae.parameters()):
        raise WeightsError(f"{folder / WEIGHTS} holds values that are not finite; make or fetch it again.")
    return sae.eval()


class _Format(TypedDict):
    format: str
    format_version: int


class _Description(_Format):
    d_in: int
    d_sae: int
    sparsity: AnySparsity
    normalisation: Normalisation
    initialisation: Initialisation
    level: NotRequired[dict[str, Any] | None]
