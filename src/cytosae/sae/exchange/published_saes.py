"""The SAEs that others have published and cytosae knows by name: source, licence, and what they must be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from cytosae.common.artifact import read_artifact
from cytosae.common.cache import cache_folder
from cytosae.common.download import Downloaded, download
from cytosae.common.errors import UsageError, WeightsError
from cytosae.common.remote_files import RemoteFile
from cytosae.common.responses import Patience
from cytosae.sae.exchange.published import import_published, read_published


@dataclass(frozen=True)
class PublishedSae:
    """One published SAE.

    Attributes
    ----------
    name : str
        As given to `cytosae model fetch`.
    title, reference : str
        What it is, and its publication.
    file : RemoteFile
        Its checkpoint.
    origin, licence : str
        Its page, and its terms.
    backbone : str
        Whose tokens it is for.
    d_in, d_sae : int
        Width of a token, and number of latents.
    """

    name: str
    title: str
    file: RemoteFile
    origin: str
    licence: str
    reference: str
    backbone: str
    d_in: int
    d_sae: int


_PAGE = "https://nefeli.helmholtz-munich.de/records/fdn7v-4vt65"
_CYTOSAE = "final_sparse_autoencoder_dinov2_vitb14_-2_resid_49152.pt"

SAES: Mapping[str, PublishedSae] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            PublishedSae(
                name="cytosae",
                title="the SAE of the paper, ReLU + L1 on DinoBloom-B's tokens of MLL23",
                # as the authors' README links it (github.com/dynamical-inference/cytosae); no checksum is published
                file=RemoteFile(_CYTOSAE, f"{_PAGE}/files/{_CYTOSAE}?download=1"),
                origin=_PAGE,
                licence="see its page",
                reference="Dasdelen et al., CytoSAE: Interpretable Cell Embeddings for Hematology, arXiv 2507.12464",
                backbone="dinobloom-b",
                d_in=768,
                d_sae=49_152,
            ),
        )
    }
)


def published_sae(name: str) -> PublishedSae:
    """The published SAE of that name; `UsageError` where there is none."""
    if name not in SAES:
        raise UsageError(
            f"There is no published SAE {name!r}; take one of {', '.join(SAES)}, or owner/name on the hub."
        )
    return SAES[name]


def fetched_folder(entry: PublishedSae) -> Path:
    """Where `cytosae model fetch` puts it unless it is told otherwise."""
    return cache_folder() / "saes" / entry.name


def find_published(entry: PublishedSae) -> Path | None:
    """The published SAE in the cache, converted or as it was published; None without."""
    places = (fetched_folder(entry), cache_folder() / "weights" / entry.file.name)
    return next((place for place in places if place.exists()), None)


def fetch_published(
    entry: PublishedSae, out: Path, *, file: RemoteFile | None = None, patience: Patience | None = None
) -> Downloaded:
    """Fetch a published SAE, check that it is the one meant, and convert it to an artifact at ``out``.

    Parameters
    ----------
    entry : PublishedSae
        Which.
    out : Path
        Folder of the artifact; one that is there already is verified and kept.
    file : RemoteFile or None
        The file of the entry, where its size was asked for before.
    patience : Patience or None
        With the server.

    Returns
    -------
    Downloaded
        The published file, in the cache.

    Raises
    ------
    DownloadError
        where it cannot be fetched.
    WeightsError
        where it is another model than the one meant, or unsafe to read; nothing is written to ``out`` then.
    """
    got = download(file or entry.file, cache_folder() / "weights", patience=patience)
    if out.exists():
        read_artifact(out, "sae")
        return got
    _, weights = read_published(got.path)
    found = tuple(weights["W_enc"].shape) if "W_enc" in weights else None
    if found != (entry.d_in, entry.d_sae):
        raise WeightsError(
            f"{got.path} holds an encoder of shape {found} instead of {(entry.d_in, entry.d_sae)}, so it is not "
            f"{entry.name}; see {entry.origin}."
        )
    import_published(got.path, out, backbone=entry.backbone)
    return got
