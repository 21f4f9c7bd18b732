"""Every reader of files: how a small whole file is made, how it is damaged, and who reads it."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from fuzz.mutations import (
    Mutation,
    damage_bytes,
    damage_json,
    damage_safetensors,
    damage_table,
    damage_toml,
    damage_zip,
)
from PIL import Image
from safetensors.torch import save_file
from tifffile import imwrite
from tokens.token_stubs import StubBackbone, write_images

from cytosae.atlas import open_atlas, open_localisation, save_localisation
from cytosae.atlas.places.unit_search import Localisation, LocalisationConfig
from cytosae.backbones.checkpoints import dinobloom_state
from cytosae.backbones.checkpoints import read_state as read_weights
from cytosae.cells import CellTable, load_image, load_mask, read_cells, unpack_medmnist
from cytosae.cells.annotations import read_attributes, read_expert_annotations
from cytosae.cells.manifest import read_manifest
from cytosae.cells.stain.colour import open_colours
from cytosae.cohort import (
    Approval,
    Validation,
    open_approval,
    open_classification,
    open_cohort,
    open_contrast,
    open_retest,
    open_validation,
)
from cytosae.cohort.classification.classifier import ConceptClassifier, open_classifier, save_classifier
from cytosae.cohort.classification.novelty import familiar
from cytosae.cohort.classification.result import FRAMES, ClassificationResult
from cytosae.cohort.classification.settings import Configuration
from cytosae.common.artifact import hash_file, read_artifact, record_path, write_artifact, write_file_artifact
from cytosae.common.errors import InputError
from cytosae.pipeline import Study
from cytosae.pipeline.study_config import write_config
from cytosae.sae import SparseAutoencoder, TopK, load_sae, save_sae
from cytosae.sae.exchange.saelens import export_saelens
from cytosae.sae.training.state import read_state, write_state
from cytosae.tokens import (
    ExtractConfig,
    TokensInFocus,
    check_store,
    extract,
    open_tokens,
    open_tokens_in_focus,
    save_tokens_in_focus,
)


@dataclass(frozen=True)
class Reader:
    """One kind of file.

    Attributes
    ----------
    name : str
        Of the kind.
    make : callable
        Writes a whole one, and what belongs to it, into an empty folder.
    file : str
        What is damaged, below that folder.
    damage : callable
        How.
    read : callable
        Reads it, given the folder.
    """

    name: str
    make: Callable[[Path], object]
    file: str
    damage: Mutation
    read: Callable[[Path], object]


def vouched(path: Path) -> Path:
    """An artifact whose record has the right checksums for its files, whatever these hold."""
    record, base = record_path(path), path if path.is_dir() else path.parent
    data = json.loads(record.read_text())
    files = {name: base / name for name in data["files"]}
    data["files"] = {name: {"sha256": hash_file(f), "bytes": f.stat().st_size} for name, f in files.items()}
    record.write_text(json.dumps(data))
    return path


def make_artifact(folder: Path) -> None:
    config = {"width": 8, "rate": 0.5, "sparsity": {"type": "TopK", "k": 3}}
    with write_artifact(folder / "sae", "sae", config=config, inputs={"tokens": "abc"}, details={"cells": 3}) as inside:
        (inside / "data.txt").write_text("hello")


def make_cells(folder: Path) -> CellTable:
    write_images(folder / "images", 6)
    cells = read_cells(folder / "images")
    cells.save(folder / "cells")
    return cells


def make_store(folder: Path) -> None:
    config = ExtractConfig(batch_size=4, workers=0, shard_cells=3, dtype="uint8")
    extract(make_cells(folder), StubBackbone(), folder / "tokens", config=config)


def read_store(path: Path) -> None:
    store = open_tokens(path, verify=False)
    check_store(path)
    assert store.read(0, len(store)).shape == (len(store), store.n_tokens, store.width)
    assert len(store.cell_ids) == len(store)


def make_sae() -> SparseAutoencoder:
    return SparseAutoencoder(4, 8, TopK(k=2)).eval()


def read_sae(path: Path) -> None:
    sae = load_sae(path)
    assert sae.encode(torch.zeros(2, sae.d_in)).shape == (2, sae.d_sae)


def make_published(folder: Path) -> None:
    """As the authors' code saves it: an object of a class of theirs, and tensors."""
    module = ModuleType("src.sae_training.config")
    module.ViTSAERunnerConfig = type("ViTSAERunnerConfig", (), {"__module__": module.__name__})  # type: ignore[attr-defined]
    config = module.ViTSAERunnerConfig()
    vars(config).update(d_in=4, expansion_factor=2, l1_coefficient=8e-5, model_name="dinov2_vitb14", device="cpu")
    state = {name: tensor.detach() for name, tensor in make_sae().named_parameters()}
    parents = {name: ModuleType(name) for name in ("src", "src.sae_training")}
    with patch.dict(sys.modules, {**parents, module.__name__: module}):
        torch.save({"cfg": config, "state_dict": state}, folder / "published.pt")


def make_state(folder: Path) -> None:
    values = {"recipe": "abc", "reader": [{"step": 3, "order": "x"}], "smoothed": [0.5]}
    write_state(folder, 3, {"0.W": torch.zeros(2, 3)}, values, keep=1)


def make_weights(folder: Path) -> None:
    state = {"backbone.blocks.0.0.mlp.w12.weight": torch.zeros(2, 3), "backbone.mask_token": torch.ones(1)}
    torch.save({"teacher": state}, folder / "weights.pth")
    save_file(state, folder / "weights.safetensors")


def read_weights_of(path: Path) -> None:
    dinobloom_state(read_weights(path), str(path))


def make_study(folder: Path) -> None:
    write_images(folder / "images", 2)
    write_config(Study.open(folder, [folder / "images"]).config, folder / "study.toml")
    (folder / "times.json").write_text('{"extract cells": 1.5}')


def read_study(folder: Path) -> None:
    study = Study(folder)
    assert len(study.datasets) == len(study.config.datasets)
    assert all(isinstance(seconds, float) for seconds in study.context.times().values())


MANIFEST = """image,label,patient,diagnosis,age,note
a.png,blast,007,AML,45,x
b.png,,P2,APL,NA,"y, z"
c.png,x,P3,,3.5,
"""


def make_manifest(folder: Path) -> None:
    (folder / "manifest.csv").write_text(MANIFEST)
    table = pd.read_csv(io.StringIO(MANIFEST), dtype={"patient": str})
    table.to_parquet(folder / "manifest.parquet")
    table.to_excel(folder / "manifest.xlsx", index=False)


def make_folder(folder: Path) -> None:
    write_images(folder, 4)
    rows = [f"a/{i:04d}.png,a,P1,x,{i}" if i % 2 == 0 else f"b/{i:04d}.png,b,P2,y,{i}" for i in range(4)]
    (folder / "manifest.csv").write_text("\n".join(["image,label,patient,diagnosis,age", *rows, ""]))


def make_annotations(folder: Path) -> None:
    rows = ["ID,mll_annotation,prediction,im_tiffname", "AAA,faggot cell,promyelocyte,1.tif", "AAB,blast,blast,2.tif"]
    (folder / "experts.csv").write_text("\n".join(rows))
    (folder / "attributes.csv").write_text("image,label,cell_size\na/1.jpg,x,big\na/2.jpg,,small\n")


def make_apl(folder: Path) -> None:
    for patient in ("Patient_00", "Patient_01"):
        write_images(folder / patient / "Signed slides", 2)
    rows = ["Patient_ID,Diagnosis,Cohort,Age,Sex", "Patient_00,APL,Discovery,45,male", "Patient_01,AML,Validation,3,"]
    (folder / "master.csv").write_text("\n".join(rows))


def make_medmnist(folder: Path) -> None:
    rng, arrays = np.random.default_rng(0), {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = rng.integers(0, 256, (2, 8, 8, 3), np.uint8)
        arrays[f"{split}_labels"] = np.array([[0], [7]], np.uint8)
    np.savez(folder / "bloodmnist.npz", **arrays)


def read_medmnist(folder: Path) -> None:
    try:
        unpack_medmnist(folder / "bloodmnist.npz", folder / "out")
    finally:
        shutil.rmtree(folder / "out", ignore_errors=True)


def image_readers() -> Iterator[Reader]:
    """The formats, each in a few of its kinds."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8)
    image, exif = Image.fromarray(pixels), Image.Exif()
    exif[0x0112] = 6

    def by_pillow(file: str, made: Image.Image = image, **options: object) -> Callable[[Path], None]:
        return lambda folder: made.save(folder / file, **options)

    def by_tifffile(file: str, array: np.ndarray, **options: object) -> Callable[[Path], None]:
        return lambda folder: imwrite(folder / file, array, **options)  # type: ignore[arg-type]

    deep, composite = pixels.astype(np.uint16) * 257, {"axes": "CYX", "mode": "composite"}
    kinds = {
        "rgb.png": by_pillow("rgb.png"),
        "palette.png": by_pillow("palette.png", image.quantize(16)),
        "alpha.png": by_pillow("alpha.png", image.convert("RGBA")),
        "deep.png": lambda folder: Image.fromarray(deep[..., 0]).save(folder / "deep.png"),
        "plain.jpg": by_pillow("plain.jpg", exif=exif),
        "progressive.jpg": by_pillow("progressive.jpg", progressive=True),
        "cells.bmp": by_pillow("cells.bmp"),
        "cells.gif": by_pillow("cells.gif"),
        "cells.webp": by_pillow("cells.webp"),
        "cells.jp2": by_pillow("cells.jp2"),
        "cells.ppm": by_pillow("cells.ppm"),
        "plain.tif": by_tifffile("plain.tif", pixels, photometric="rgb"),
        "deflate.tif": by_tifffile("deflate.tif", deep, photometric="rgb", compression="zlib", predictor=True),
        "lzw.tif": by_tifffile("lzw.tif", pixels, photometric="rgb", compression="lzw"),
        "jpeg.tif": by_tifffile("jpeg.tif", pixels, photometric="rgb", compression="jpeg"),
        "float.tif": by_tifffile("float.tif", pixels[..., 0].astype(np.float32) / 255, photometric="minisblack"),
        "planes.tif": by_tifffile("planes.tif", pixels.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"),
        "channels.tif": by_tifffile("channels.tif", pixels.transpose(2, 0, 1), imagej=True, metadata=composite),
        "ycbcr.tif": by_tifffile("ycbcr.tif", pixels, photometric="ycbcr", compression="lzw", metadata=None),
        "tiles.tif": by_tifffile("tiles.tif", pixels, photometric="rgb", tile=(16, 16), bigtiff=True),
    }
    for file, make in kinds.items():
        yield Reader(file, make, file, damage_bytes, lambda folder, file=file: read_image(folder / file))


def read_image(path: Path) -> None:
    with suppress(InputError):  # most images are no masks
        assert load_mask(path).ndim == 2
    image = load_image(path)
    assert image.dtype == np.uint8
    assert image.ndim == 3


def make_atlas(folder: Path) -> None:
    small = ad.AnnData(
        X=sp.random_array((5, 7), density=0.5, format="csr", dtype=np.float32, random_state=np.random.default_rng(0)),
        obs=pd.DataFrame({"label": pd.Categorical(list("aabbc"))}, index=[f"c{i}" for i in range(5)]),
        obsm={"X_backbone": np.zeros((5, 3), np.float32)},
        uns={"provenance": {"sae": "x", "tau": 0.5}},
    )
    for kind, file in (("atlas", "atlas.h5ad"), ("cohort", "cohort.h5ad")):
        with write_file_artifact(folder / file, kind) as temporary:
            small.write_h5ad(temporary)
    with write_artifact(folder / "retest", "retest") as inside:
        small.write_h5ad(inside / "concepts.h5ad")


def make_tables(folder: Path) -> None:
    table = pd.DataFrame({"latent": [1, 2], "p": [0.5, np.nan], "name": ["a", None]}).set_index("latent")
    tokens = pd.DataFrame(
        {"found": [True, False], "tokens": [[1, 2], [0, 1, 2]]}, index=pd.Index(["a", "b"], name="cell_id")
    )
    save_tokens_in_focus(TokensInFocus("cell", tokens), folder / "in_focus.parquet")
    for kind, file in (("contrasts", "contrasts.parquet"), ("colours", "colours.parquet")):
        with write_file_artifact(folder / file, kind) as temporary:
            table.to_parquet(temporary)


def make_classification(folder: Path) -> None:
    frame = pd.DataFrame({"model": ["a", "b"], "decision": [0.5, np.nan], "patients": [3, 4]})
    result = ClassificationResult(
        classes=("AML", "APL"),
        patients={"AML": 3, "APL": 4},
        **dict.fromkeys(FRAMES, frame),
        recommended=Configuration("mean"),
        reason="because",
        p_shuffled=np.nan,
        notes=("a note",),
        config={"seed": 3},
    )
    result.save(folder / "classification.json")


def make_validation(folder: Path) -> None:
    frame = pd.DataFrame({"model": ["a", "b"], "auroc": [0.5, np.nan], "shifted": [True, False]})
    found = Validation(
        classes=("AML", "APL"),
        patients={"AML": 3, "APL": 4},
        training={"AML": 5, "APL": 6},
        recommended="a",
        **dict.fromkeys(("rows", "predictions", "curves", "reliability", "shifted"), frame),
        missing={"c": "because"},
        set_aside={},
        notes=("a note",),
        config={"seed": 3},
    )
    found.save(folder / "validation.json")


def make_approval(folder: Path) -> None:
    frame = pd.DataFrame({"model": ["all concepts", "approved concepts"], "auroc": [0.7, np.nan]})
    found = Approval("a", (1, 2), 1, frame, {"difference": 0.1, "low": 0.0, "high": 0.2}, (0.5, 0.6))
    found.save(folder / "approval.json")


def make_classifier(folder: Path) -> None:
    rng = np.random.default_rng(0)
    classifier = ConceptClassifier(
        classes=("AML", "APL"),
        kind="mean",
        latents=np.array([1, 4]),
        coef=rng.normal(size=(1, 2)),
        intercept=np.zeros(1),
        n_latents=8,
        tau=0.5,
        prevalence=np.full(2, 0.5),
        means=np.zeros(2),
        cell_types=("blast",),
        sae="abc",
        backbone="{}",
        familiar=familiar(rng.normal(size=(9, 4)), rng.normal(size=(9, 6)), np.full(9, 5)),
        strength=1.0,
    )
    save_classifier(folder / "classifier", classifier)


def make_localisation(folder: Path) -> None:
    table = pd.DataFrame({"structure": ["nucleus"], "family": ["x"], "iou": [0.5], "low": [np.nan]})
    found = Localisation(table, {"nucleus": 0.9}, table, 4, 4, LocalisationConfig(), {"cells": ["a", "b"]})
    save_localisation(found, folder / "localisation.json")


def of_tokens(file: str, damage: Mutation) -> Reader:
    return Reader(f"tokens: {file}", make_store, f"tokens/{file}", damage, lambda f: read_store(vouched(f / "tokens")))


def of_sae(file: str, damage: Mutation) -> Reader:
    make = lambda f: save_sae(make_sae(), f / "sae", metrics={"l0": 2.0})  # noqa: E731
    return Reader(f"SAE: {file}", make, f"sae/{file}", damage, lambda f: read_sae(vouched(f / "sae")))


def of_saelens(file: str, damage: Mutation) -> Reader:
    make = lambda f: export_saelens(make_sae(), f / "lens")  # noqa: E731
    return Reader(f"SAELens: {file}", make, f"lens/{file}", damage, lambda f: read_sae(f / "lens"))


def of_artifact(make: Callable[[Path], object], file: str, damage: Mutation, read: Callable[[Path], object]) -> Reader:
    """A file of an artifact, damaged behind the back of its checksum."""
    path = Path(file)
    inside = path.parent.name  # of a folder; a file is its own artifact
    return Reader(file, make, file, damage, lambda f: read(vouched(f / (inside or path))))


READERS = [
    Reader("record", make_artifact, "sae/artifact.json", damage_json, lambda f: read_artifact(f / "sae")),
    of_tokens("manifest.json", damage_json),
    of_tokens("cell_ids.txt", damage_bytes),
    of_tokens("shard-00001.safetensors", damage_safetensors),
    of_sae("config.json", damage_json),
    of_sae("model.safetensors", damage_safetensors),
    of_saelens("cfg.json", damage_json),
    of_saelens("sae_weights.safetensors", damage_safetensors),
    Reader("published checkpoint", make_published, "published.pt", damage_zip, lambda f: read_sae(f / "published.pt")),
    Reader("state", make_state, "step-000000003/state.json", damage_json, lambda f: read_state(f / "step-000000003")),
    Reader("weights.pth", make_weights, "weights.pth", damage_zip, lambda f: read_weights_of(f / "weights.pth")),
    Reader(
        "weights",
        make_weights,
        "weights.safetensors",
        damage_safetensors,
        lambda f: read_weights_of(f / "weights.safetensors"),
    ),
    Reader("study.toml", make_study, "study.toml", damage_toml, read_study),
    Reader("times.json", make_study, "times.json", damage_json, read_study),
    Reader("manifest.csv", make_manifest, "manifest.csv", damage_table, lambda f: read_manifest(f / "manifest.csv")),
    Reader(
        "manifest.parquet",
        make_manifest,
        "manifest.parquet",
        damage_bytes,
        lambda f: read_manifest(f / "manifest.parquet"),
    ),
    Reader("manifest.xlsx", make_manifest, "manifest.xlsx", damage_zip, lambda f: read_manifest(f / "manifest.xlsx")),
    Reader("folder with a manifest", make_folder, "manifest.csv", damage_table, read_cells),
    Reader("master.csv", make_apl, "master.csv", damage_table, read_cells),
    Reader(
        "expert labels",
        make_annotations,
        "experts.csv",
        damage_table,
        lambda f: read_expert_annotations(f / "experts.csv"),
    ),
    Reader(
        "attributes", make_annotations, "attributes.csv", damage_table, lambda f: read_attributes(f / "attributes.csv")
    ),
    Reader("MedMNIST", make_medmnist, "bloodmnist.npz", damage_zip, read_medmnist),
    of_artifact(make_cells, "cells/cells.parquet", damage_bytes, CellTable.load),
    of_artifact(make_cells, "cells/skipped.csv", damage_table, CellTable.load),
    of_artifact(make_cells, "cells/duplicates.csv", damage_table, CellTable.load),
    # The HDF5 library can hang on a damaged file, so nothing is opened by it whose checksum does not hold.
    Reader("atlas", make_atlas, "atlas.h5ad", damage_bytes, lambda f: open_atlas(f / "atlas.h5ad")),
    Reader("cohort", make_atlas, "cohort.h5ad", damage_bytes, lambda f: open_cohort(f / "cohort.h5ad")),
    Reader("retest", make_atlas, "retest/concepts.h5ad", damage_bytes, lambda f: open_retest(f / "retest")),
    of_artifact(make_tables, "contrasts.parquet", damage_bytes, open_contrast),
    of_artifact(make_tables, "colours.parquet", damage_bytes, open_colours),
    of_artifact(make_tables, "in_focus.parquet", damage_bytes, open_tokens_in_focus),
    of_artifact(make_classification, "classification.json", damage_json, open_classification),
    of_artifact(make_approval, "approval.json", damage_json, open_approval),
    of_artifact(make_validation, "validation.json", damage_json, open_validation),
    of_artifact(make_classifier, "classifier/classifier.json", damage_json, open_classifier),
    of_artifact(make_classifier, "classifier/classifier.safetensors", damage_safetensors, open_classifier),
    of_artifact(make_localisation, "localisation.json", damage_json, open_localisation),
    *image_readers(),
]
