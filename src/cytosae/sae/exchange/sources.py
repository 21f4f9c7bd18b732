"""An SAE from wherever it lies: own artifacts, the published checkpoint, SAELens, the hub."""

from __future__ import annotations

from pathlib import Path

from cytosae.common.artifact import read_artifact, record_path
from cytosae.common.errors import InputError
from cytosae.sae.exchange import saelens
from cytosae.sae.exchange.checkpoint import read_sae_files
from cytosae.sae.exchange.hub import pull_sae
from cytosae.sae.exchange.published import load_published
from cytosae.sae.model.autoencoder import SparseAutoencoder


def load_sae(path: str | Path) -> SparseAutoencoder:
    """Load an SAE, in evaluation mode, on the CPU.

    Parameters
    ----------
    path : str or Path
        An SAE artifact (folder), a published checkpoint (``*.pt``), a SAELens folder, or a name on the Hugging Face hub
        (``hf://organisation/name``, or ``organisation/name`` where no such folder exists; ``@revision`` may follow).

    Raises
    ------
    InputError, ArtifactError, WeightsError
        in one sentence, where nothing is there, or what is there is no SAE, damaged, too new or unsafe.
    """
    text, folder = str(path), Path(path)
    if text.startswith("hf://") or (not folder.exists() and _is_hub_name(text)):
        repo_id, _, revision = text.removeprefix("hf://").partition("@")
        return read_sae_files(pull_sae(repo_id, revision=revision or None))
    if not folder.exists():
        raise InputError(f"{path} does not exist; give an SAE artifact, a published .pt file or a name on the hub.")
    if folder.is_file():
        if folder.suffix in (".pt", ".pth"):
            return load_published(folder)
        raise InputError(f"{path} is no SAE; give the folder of an SAE artifact or a published .pt file.")
    if not record_path(folder).exists() and (folder / saelens.CONFIG).exists():
        return saelens.import_saelens(folder)
    read_artifact(folder, "sae")
    return read_sae_files(folder)


def _is_hub_name(text: str) -> bool:
    parts = text.split("/")
    return len(parts) == 2 and all(part and not part.startswith(".") for part in parts) and not text.endswith(".pt")
