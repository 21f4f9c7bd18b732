"""The backbones that cytosae knows by name, with the origin, licence and checksum of their weights beside each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

_DINOBLOOM_LICENCE = "Apache-2.0"


@dataclass(frozen=True)
class BackboneEntry:
    """One backbone.

    What its weights must give for one image (`known_answer`) is said of the bundled ones alone: no known answer of
    DinoBloom is published, whose files are known by their checksum, their keys and shapes.

    Parameters
    ----------
    name : str
        As given to `load_backbone`.
    width, depth : int
        Numbers a token, transformer blocks.
    timm_model : str
        The architecture in timm.
    origin : str
        Where the weights are published, for people.
    files : tuple of str
        The names under which they are published.
    licence : str
        Of the weights.
    sha256 : mapping of str to str
        Checksum of a published file by its name, where known.
    reference : str
        The publication.
    record : str
        Address of the Zenodo record of the files, in Zenodo's interface; "" where they come with cytosae.
    hub : str
        The same weights in timm's format on the hub, as ``timm:hf-hub:<hub>``; "" where there are none.
    former : mapping of str to str
        Checksum of weights that an earlier version bundled, and the name of their file.
    """

    name: str
    width: int
    depth: int
    timm_model: str
    origin: str
    files: tuple[str, ...]
    licence: str
    reference: str
    sha256: Mapping[str, str] = field(default_factory=dict)
    record: str = ""
    hub: str = ""
    former: Mapping[str, str] = field(default_factory=dict)


def _dinobloom(letter: str, width: int, depth: int, timm_model: str, sha256: str | None = None) -> BackboneEntry:
    published = f"DinoBloom-{letter.upper()}.pth"
    return BackboneEntry(
        name=f"dinobloom-{letter}",
        width=width,
        depth=depth,
        timm_model=timm_model,
        origin="Zenodo record 10908163; Hugging Face MarrLab/DinoBloom",
        files=(published, f"pytorch_model_{letter}.bin"),
        licence=_DINOBLOOM_LICENCE,
        reference="Koch et al., DinoBloom: A Foundation Model for Generalizable Cell Embeddings in Hematology, 2024",
        sha256={published: sha256} if sha256 else {},
        record="https://zenodo.org/api/records/10908163",
        hub=f"1aurent/{timm_model.removesuffix('_dinov2')}_224.dinobloom",
    )


REGISTRY: Mapping[str, BackboneEntry] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            BackboneEntry(
                name="tiny",
                width=192,
                depth=8,
                timm_model="Eva",
                origin="shipped with cytosae (scripts/train_tiny.py)",
                files=("tiny.safetensors",),
                licence="Apache-2.0",
                reference="docs/model_card_tiny.md",
                former={
                    "7b9f3fd1cb8bf875133134eaf57e05de2edffc0bfbe1938a782e806ce9bc617c": "tiny-2026a.safetensors",
                },
            ),
            _dinobloom(
                "s",
                384,
                12,
                "vit_small_patch14_dinov2",
                "c2f7990b003e89bcece80e379fb8fe0ba2ec392ce19b286e8a294abd99568e44",
            ),
            _dinobloom("b", 768, 12, "vit_base_patch14_dinov2"),
            _dinobloom("l", 1024, 24, "vit_large_patch14_dinov2"),
            _dinobloom("g", 1536, 40, "vit_giant_patch14_dinov2"),
        )
    }
)
