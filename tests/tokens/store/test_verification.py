from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cytosae.cells import CellTable
from cytosae.common.artifact import hash_file
from cytosae.tokens import TokenStore, check_store


@pytest.fixture
def copy(store: TokenStore, tmp_path: Path) -> Path:
    shutil.copytree(store.path, tmp_path / "copy")
    return tmp_path / "copy"


def rewrite(store: Path, name: str, text: str) -> None:
    """Replace a file of a store and its checksum, as someone would who wants to fool a comparison of checksums."""
    (store / name).write_text(text)
    record = json.loads((store / "artifact.json").read_text())
    record["files"][name] = {"sha256": hash_file(store / name), "bytes": (store / name).stat().st_size}
    (store / "artifact.json").write_text(json.dumps(record))


def test_a_whole_store_has_no_problem(store: TokenStore, cells: CellTable) -> None:
    assert check_store(store.path, cells) == []
    assert check_store(store.path) == []


def test_a_flipped_bit_is_found(copy: Path, cells: CellTable) -> None:
    shard = copy / "shard-00002.safetensors"
    content = bytearray(shard.read_bytes())
    content[-5] ^= 1
    shard.write_bytes(content)
    (problem,) = check_store(copy, cells)
    assert "shard-00002.safetensors differs from its recorded checksum" in problem


def test_no_store_is_a_sentence(tmp_path: Path, cells: CellTable) -> None:
    (problem,) = check_store(tmp_path, cells)
    assert "no finished cytosae artifact" in problem


def test_other_cells_and_another_order_are_found(store: TokenStore, cells: CellTable) -> None:
    (problem,) = check_store(store.path, cells.subset(range(18)))
    assert "lacks 0 of the 18 cells of the table 'cells' and holds 2 others; extract the tokens again" in problem
    (problem,) = check_store(store.path, cells.subset(range(19, -1, -1)))
    assert "in another order" in problem


def test_a_manifest_that_disagrees_with_the_shards_is_found(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["n_cells"] = 21
    manifest["shards"][1]["first_row"] = 7
    manifest["shards"][3]["rows"] = 3
    rewrite(copy, "manifest.json", json.dumps(manifest))
    problems = " ".join(check_store(copy))
    assert "shard-00001.safetensors begins with row 7, but 6 is next" in problems
    assert "shard-00003.safetensors holds 2 cells x 17 x 8, not (3, 17, 8)" in problems
    assert "names 20 cells for 21 rows" in problems


def test_a_cell_named_twice_is_found(copy: Path, store: TokenStore) -> None:
    rewrite(copy, "cell_ids.txt", "".join(f"{cell}\n" for cell in [*store.cell_ids[:-1], store.cell_ids[0]]))
    assert any("names 1 cells twice" in problem for problem in check_store(copy))
