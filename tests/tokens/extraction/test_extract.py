from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
from collections import namedtuple
from pathlib import Path

import filelock
import numpy as np
import pytest
import torch
from PIL import Image
from tokens.token_stubs import StubBackbone, content, expected_tokens, write_images

from cytosae.backbones import load_backbone
from cytosae.cells import CellTable, load_image, read_cells
from cytosae.cells.stain.normalisation import reinhard
from cytosae.common.artifact import hash_file, read_artifact, recipe_of
from cytosae.common.errors import ArtifactError, InputError, NewerArtifactError, UsageError
from cytosae.tokens import ExtractConfig, TokenStore, estimate, estimated_bytes, extract, open_tokens, recipe_for
from cytosae.tokens.extraction import work
from cytosae.tokens.extraction.extract import Forward


def test_worker_processes_give_the_same_bytes(cells: CellTable, store: TokenStore, small, tmp_path: Path) -> None:
    config = dataclasses.replace(small, workers=2)
    other = extract(cells, StubBackbone(), tmp_path / "t", config=config)
    assert content(other.path) == content(store.path)


def test_a_finished_store_is_opened_not_made_again(cells: CellTable, small, tmp_path: Path) -> None:
    backbone = StubBackbone()
    extract(cells, backbone, tmp_path / "t", config=small)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "t").glob("shard-*")}
    backbone.seen.clear()
    extract(cells, backbone, tmp_path / "t", config=small)
    assert backbone.seen == []
    assert before == {file: file.stat().st_mtime_ns for file in (tmp_path / "t").glob("shard-*")}


def test_the_record_says_what_was_asked_last(cells: CellTable, small, tmp_path: Path) -> None:
    extract(cells, StubBackbone(), tmp_path / "t", config=small)
    other = dataclasses.replace(small, workers=1)
    backbone = StubBackbone()
    extract(cells, backbone, tmp_path / "t", config=other, inputs={"cells": "x"})
    assert backbone.seen == []
    assert read_artifact(tmp_path / "t", "tokens").recipe == recipe_of("tokens", other, {"cells": "x"})


def test_batches_do_not_straddle_shards(cells: CellTable, small, tmp_path: Path) -> None:
    backbone = StubBackbone()
    extract(cells, backbone, tmp_path / "t", config=small)
    assert backbone.seen == [4, 2, 4, 2, 4, 2, 2]


def test_a_changed_image_costs_its_own_cell_only(tmp_path: Path, small) -> None:
    write_images(tmp_path / "images", 20)
    backbone = StubBackbone()
    extract(read_cells(tmp_path / "images"), backbone, tmp_path / "t", config=small)
    Image.new("RGB", (20, 20), (200, 10, 90)).save(tmp_path / "images" / "a" / "0004.png")
    cells = read_cells(tmp_path / "images")
    backbone.seen.clear()
    store = extract(cells, backbone, tmp_path / "t", config=small)
    assert backbone.seen == [1]
    assert torch.equal(store.read(0, 20), expected_tokens(cells, backbone).half().float())
    assert open_tokens(store.path).cell_ids == list(cells.frame["cell_id"])


def test_other_shard_sizes_copy_all_tokens(cells: CellTable, small, tmp_path: Path) -> None:
    backbone = StubBackbone()
    first = extract(cells, backbone, tmp_path / "t", config=small).read(0, 20)
    backbone.seen.clear()
    second = extract(cells, backbone, tmp_path / "t", config=dataclasses.replace(small, shard_cells=7))
    assert backbone.seen == []
    assert [shard["rows"] for shard in second.manifest["shards"]] == [7, 7, 6]
    assert torch.equal(second.read(0, 20), first)


def test_other_weights_compute_everything_again(cells: CellTable, small, tmp_path: Path) -> None:
    extract(cells, StubBackbone(0), tmp_path / "t", config=small)
    backbone = StubBackbone(1)
    store = extract(cells, backbone, tmp_path / "t", config=small)
    assert sum(backbone.seen) == 20
    assert torch.equal(store.read(0, 20), expected_tokens(cells, backbone).half().float())


def test_a_damaged_store_is_mended_where_it_is_damaged(cells: CellTable, store: TokenStore, small, tmp_path) -> None:
    shutil.copytree(store.path, tmp_path / "t")
    shard = tmp_path / "t" / "shard-00001.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x7f")
    backbone = StubBackbone()
    mended = extract(cells, backbone, tmp_path / "t", config=small)
    assert backbone.seen == [4, 2]
    assert content(mended.path) == content(store.path)


def test_rows_are_not_taken_from_a_store_that_may_name_them_wrong(cells: CellTable, store: TokenStore, small, tmp_path):
    shutil.copytree(store.path, tmp_path / "t")
    file = tmp_path / "t" / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["shards"][0]["first_row"], manifest["shards"][1]["first_row"] = 6, 0
    file.write_text(json.dumps(manifest))
    assert content(extract(cells, StubBackbone(), tmp_path / "t", config=small).path) == content(store.path)


@pytest.mark.parametrize(("file", "field"), [("artifact.json", "schema"), ("manifest.json", "version")])
def test_a_store_of_a_newer_version_is_not_replaced(cells: CellTable, store: TokenStore, small, tmp_path, file, field):
    shutil.copytree(store.path, tmp_path / "t")
    path = tmp_path / "t" / file
    path.write_text(path.read_text().replace(f'"{field}": 1', f'"{field}": 9'))
    if file == "manifest.json":
        record = tmp_path / "t" / "artifact.json"
        data = json.loads(record.read_text())
        data["files"][file]["sha256"] = hash_file(path)
        record.write_text(json.dumps(data))
    before = content(tmp_path / "t")
    with pytest.raises(NewerArtifactError, match="update cytosae"):
        extract(cells, StubBackbone(), tmp_path / "t", config=small)
    assert content(tmp_path / "t") == before


@pytest.mark.parametrize("file", ["artifact.json", "manifest.json"])
@pytest.mark.parametrize("text", ["", "[]", '{"kind": 3}'])
def test_a_store_whose_records_are_damaged_is_made_again(cells, store: TokenStore, small, tmp_path, file, text) -> None:
    shutil.copytree(store.path, tmp_path / "t")
    (tmp_path / "t" / file).write_text(text)
    assert content(extract(cells, StubBackbone(), tmp_path / "t", config=small).path) == content(store.path)


def test_a_directory_of_something_else_is_left_alone(cells: CellTable, small, tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "thesis.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="is no token store"):
        extract(cells, StubBackbone(), tmp_path / "t", config=small)
    assert (tmp_path / "t" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_changed_since_the_table_is_named(tmp_path: Path, small, workers: int) -> None:
    write_images(tmp_path / "images", 9)
    cells = read_cells(tmp_path / "images")
    changed = tmp_path / "images" / "b" / "0007.png"
    Image.new("RGB", (20, 20)).save(changed)
    with pytest.raises(InputError, match="0007.png has changed since the cell table was made"):
        extract(cells, StubBackbone(), tmp_path / "t", config=dataclasses.replace(small, workers=workers))
    changed.unlink()
    with pytest.raises(InputError, match="0007.png can no longer be read"):
        extract(cells, StubBackbone(), tmp_path / "t", config=dataclasses.replace(small, workers=workers))
    assert not (tmp_path / "t").exists()


def test_tokens_too_large_for_float16_name_the_image(cells: CellTable, small, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tokens of .*\.png reach .* too large for float16 .* bfloat16"):
        extract(cells, StubBackbone(gain=1e6), tmp_path / "t", config=small)
    wide = dataclasses.replace(small, dtype="bfloat16")
    assert extract(cells, StubBackbone(gain=1e6), tmp_path / "t", config=wide).read(0, 20).isfinite().all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "uint8"])
def test_tokens_that_are_not_finite_name_the_image(cells: CellTable, small, tmp_path: Path, dtype: str) -> None:
    with pytest.raises(InputError, match=r"tokens of .*\.png are not finite"):
        extract(cells, StubBackbone(gain=np.nan), tmp_path / "t", config=dataclasses.replace(small, dtype=dtype))


def test_the_estimate_is_what_the_tokens_take(store: TokenStore, small) -> None:
    assert estimated_bytes(20, StubBackbone(), small) == 20 * 17 * 8 * 2
    headers = store.manifest["shards"][0]["bytes"] - 6 * 17 * 8 * 2
    assert 0 < headers < 300


@pytest.mark.parametrize(
    ("dtype", "words"),
    [
        ("float16", "2,503 cells x 17 x 8 x 2 bytes = 1 MB"),
        ("uint8", "2,503 cells x 17 x 8 x 1 byte + 8 bytes a token"),
    ],
)
def test_the_estimate_reads_as_a_sum(small, dtype: str, words: str) -> None:
    assert estimate(2503, StubBackbone(), dataclasses.replace(small, dtype=dtype)).startswith(words)


def test_tokens_of_mll23_with_dinobloom_b_take_what_the_documentation_says() -> None:
    backbone = StubBackbone()
    backbone.n_tokens, backbone.width = 257, 768
    assert estimate(41_906, backbone) == "41,906 cells x 257 x 768 x 2 bytes = 16.5 GB"


@pytest.mark.parametrize("workers", [0, 1])
def test_stain_normalisation_is_a_recipe_of_its_own(
    cells: CellTable, store: TokenStore, small, tmp_path: Path, workers: int
) -> None:
    backbone = StubBackbone()
    config = dataclasses.replace(small, stain="reinhard", workers=workers)
    assert recipe_for(backbone, small).fingerprint == store.manifest["recipe"]
    assert recipe_for(backbone, config).fingerprint != store.manifest["recipe"]
    shutil.copytree(store.path, tmp_path / "t")
    made = extract(cells, backbone, tmp_path / "t", config=config)
    if workers == 0:
        assert sum(backbone.seen) == 20
    assert made.manifest["backbone"] == {**backbone.describe(), "stain": "reinhard"}
    images = [reinhard(load_image(cells.image_path(row))) for row in range(20)]
    assert torch.equal(made.read(0, 20), backbone(backbone.prepare(images)).half().float())


def test_no_cells_is_refused(cells: CellTable, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no cells"):
        extract(cells.subset([]), StubBackbone(), tmp_path / "t")


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(UsageError, match="batch_size is 0"):
        ExtractConfig(batch_size=0)


def test_a_second_process_is_refused_with_the_name_of_the_lock(cells, small, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(work, "LOCK_SECONDS", 0.05)
    # Another open file description is, to the kernel, as good as another process.
    with filelock.FileLock(tmp_path / ".t.lock"), pytest.raises(ArtifactError, match=r"Another process .*\.t\.lock"):
        extract(cells, StubBackbone(), tmp_path / "t", config=small)
    extract(cells, StubBackbone(), tmp_path / "t", config=small)


def test_too_little_space_is_said_before_work_begins(cells: CellTable, small, tmp_path: Path, monkeypatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 1000))
    backbone = StubBackbone()
    with pytest.raises(ArtifactError, match=r"needs .* GB more for 20 cells x 17 tokens x 8 in float16"):
        extract(cells, backbone, tmp_path / "t", config=small)
    assert backbone.seen == []


def test_disk_full_is_clear_and_resumable(cells: CellTable, store: TokenStore, small, tmp_path: Path, monkeypatch):
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.name != "posix"
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)],
            capture_output=True,
            check=False,
        ).returncode
    ):
        pytest.skip("a small tmpfs cannot be mounted here (it takes root)")
    try:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(40_000))
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1 << 40, 0, 1 << 40))  # the estimate was fooled
        with pytest.raises(
            ArtifactError, match=r"could not be written \(No space left on device\); .*what is finished is kept"
        ):
            extract(cells, StubBackbone(), disk / "t", config=small)
        assert not (disk / "t").exists()
        assert not [file for file in disk.rglob("*.partial") if file.is_file()]  # nothing torn is left
        kept = list(disk.rglob("shard-*.safetensors"))
        assert kept
        ballast.unlink()
        backbone = StubBackbone()
        finished = extract(cells, backbone, disk / "t", config=small)
        assert sum(backbone.seen) < 20
        assert content(finished.path) == content(store.path)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_bfloat16_forward_is_close_to_float32(cells: CellTable, store: TokenStore, small, tmp_path: Path) -> None:
    low = extract(cells, StubBackbone(), tmp_path / "t", config=dataclasses.replace(small, precision="bfloat16"))
    assert torch.allclose(low.read(0, 20), store.read(0, 20), rtol=2**-7, atol=2**-5)
    assert json.loads((low.path / "manifest.json").read_text())["precision"] == "bfloat16"


def test_bfloat16_forward_of_a_transformer_stays_within_the_stated_tolerance() -> None:
    config = ExtractConfig(precision="bfloat16")
    backbone = load_backbone("tiny")
    batch = torch.randn(2, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    plain, low = backbone(batch), Forward(backbone, config, torch.device("cpu"))(batch)
    # docs/token_store.md: a relative error of 2% at most, over all tokens
    assert 0 < (low - plain).norm() / plain.norm() < 0.02
