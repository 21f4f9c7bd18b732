"""The store as docs/token_store.md specifies it, read without the package's own reader."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tokens.token_stubs import StubBackbone, expected_tokens

from cytosae.cells import CellTable
from cytosae.tokens import ExtractConfig, TokenStore, extract


def read_with_numpy(path: Path) -> tuple[np.ndarray, list[str]]:
    """All tokens [n, T, D] float32 and the cells' names, by the specification alone."""
    record = json.loads((path / "artifact.json").read_text())
    assert (record["kind"], record["schema"]) == ("tokens", 1)
    manifest = json.loads((path / "manifest.json").read_text())
    assert (manifest["format"], manifest["version"]) == ("cytosae-tokens", 1)
    pieces = []
    row = 0
    for shard in manifest["shards"]:
        content = (path / shard["file"]).read_bytes()
        assert len(content) == shard["bytes"]
        assert hashlib.sha256(content).hexdigest() == shard["sha256"]
        assert shard["first_row"] == row
        tensors = load_file(path / shard["file"])
        tokens = tensors["tokens"].astype(np.float32)
        if manifest["dtype"] == "uint8":
            tokens = tokens * tensors["scale"][..., None] + tensors["offset"][..., None]
        assert tokens.shape == (shard["rows"], manifest["n_tokens"], manifest["width"])
        pieces.append(tokens)
        row += shard["rows"]
    ids = (path / manifest["cell_ids"]).read_text().splitlines()
    assert row == len(ids) == manifest["n_cells"]
    return np.concatenate(pieces), ids


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 2**-11), ("uint8", None)])
def test_conforming_reader_needs_numpy_and_safetensors_only(dtype, tolerance, cells: CellTable, tmp_path: Path) -> None:
    backbone = StubBackbone()
    config = ExtractConfig(dtype=dtype, batch_size=4, workers=0, shard_cells=6)
    extract(cells, backbone, tmp_path / "t", config=config)
    tokens, ids = read_with_numpy(tmp_path / "t")
    expected = expected_tokens(cells, backbone).numpy()
    assert ids == list(cells.frame["cell_id"])
    spread = np.ptp(expected, axis=-1, keepdims=True)
    allowed = np.abs(expected) * tolerance if tolerance else spread / 255 * 0.51
    assert np.all(np.abs(tokens - expected) <= allowed + 1e-6)


def test_files_are_the_specified_ones(store: TokenStore) -> None:
    names = {file.name for file in store.path.iterdir()}
    shards = {f"shard-{i:05d}.safetensors" for i in range(4)}
    assert names == shards | {"manifest.json", "cell_ids.txt", "artifact.json"}
    assert [shard["rows"] for shard in store.manifest["shards"]] == [6, 6, 6, 2]
    backbone = StubBackbone()
    assert store.manifest["backbone"] == backbone.describe()
    assert store.manifest["weights_hash"] == backbone.weights_hash
