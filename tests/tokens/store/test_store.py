from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from tokens.token_stubs import StubBackbone, expected_tokens

from cytosae.cells import CellTable
from cytosae.common.artifact import hash_file
from cytosae.common.errors import ArtifactError, NewerArtifactError
from cytosae.tokens import ExtractConfig, TokenStore, extract, open_tokens
from cytosae.tokens.store.encoding import EightBit, decode_serially, decoded, encoding_of, gather


@pytest.fixture
def copy(store: TokenStore, tmp_path: Path) -> Path:
    shutil.copytree(store.path, tmp_path / "copy")
    return tmp_path / "copy"


def test_round_trip_is_the_backbones_output_in_float16(store: TokenStore, cells: CellTable) -> None:
    expected = expected_tokens(cells, StubBackbone()).half().float()
    assert torch.equal(store.read(0, len(cells)), expected)
    assert (len(store), store.n_tokens, store.width, store.grid) == (20, 17, 8, (4, 4))
    assert store.cell_ids == list(cells.frame["cell_id"])


def test_bfloat16_round_trip(cells: CellTable, tmp_path: Path) -> None:
    config = ExtractConfig(dtype="bfloat16", batch_size=4, workers=0, shard_cells=6)
    store = extract(cells, StubBackbone(), tmp_path / "t", config=config)
    assert torch.equal(store.read(0, 20), expected_tokens(cells, StubBackbone()).bfloat16().float())


def test_eight_bits_hold_a_constant_token_exactly() -> None:
    tokens = torch.full((2, 3, 5), -1.25)
    assert torch.equal(decoded(EightBit(), EightBit().encode(tokens)), tokens)


@pytest.mark.parametrize("width", [3, 4, 5, 8])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "uint8"])
def test_gathered_rows_are_those_of_plain_indexing(dtype: str, width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    planes = encoding_of(dtype).encode(torch.randn(20, width, generator=generator))
    rows = torch.randint(0, 20, (31,), generator=generator)
    taken = gather(planes, rows)
    assert planes.keys() == taken.keys()
    assert all(torch.equal(taken[name], plane[rows]) for name, plane in planes.items())


@pytest.mark.parametrize(("n", "width"), [(1, 8), (100, 768), (5, 40_000), (0, 8)])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "uint8"])
def test_decoding_in_pieces_is_decoding(dtype: str, n: int, width: int) -> None:
    encoding = encoding_of(dtype)
    planes = encoding.encode(torch.randn(n, width, generator=torch.Generator().manual_seed(0)))
    out = torch.empty(n, width)
    decode_serially(encoding, planes, out)
    assert torch.equal(out, decoded(encoding, planes))


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (0, 1), (5, 7), (3, 20), (19, 20), (6, 12)])
def test_any_stretch_of_rows_across_shards(store: TokenStore, start: int, stop: int) -> None:
    assert torch.equal(store.read(start, stop), store.read(0, 20)[start:stop])


def test_a_file_system_that_reads_in_small_pieces_gives_the_same(store: TokenStore, monkeypatch) -> None:
    whole, preadv = store.read(0, 20), os.preadv
    monkeypatch.setattr(os, "preadv", lambda file, rooms, at: preadv(file, [rooms[0][:100]], at))
    assert torch.equal(store.read(0, 20), whole)


def test_a_shard_that_ends_too_early_is_named(copy: Path) -> None:
    store = open_tokens(copy)
    os.truncate(copy / "shard-00001.safetensors", 1000)
    with pytest.raises(ArtifactError, match=r"shard-00001\.safetensors cannot be read \(it ends too early"):
        store.read(0, 20)


def test_batches_come_in_order(store: TokenStore) -> None:
    starts, parts = zip(*store.batches(7), strict=True)
    assert starts == (0, 7, 14)
    assert torch.equal(torch.cat(parts), store.read(0, 20))


def test_rows_outside_are_refused(store: TokenStore) -> None:
    with pytest.raises(IndexError):
        store.read(0, 21)


def test_a_flipped_bit_is_refused_by_name(copy: Path) -> None:
    shard = copy / "shard-00002.safetensors"
    content = bytearray(shard.read_bytes())
    content[-5] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ArtifactError, match="shard-00002.safetensors differs from its recorded checksum"):
        open_tokens(copy)
    assert len(open_tokens(copy, verify=False)) == 20


def test_a_missing_shard_is_refused_without_verification_too(copy: Path) -> None:
    (copy / "shard-00001.safetensors").unlink()
    with pytest.raises(ArtifactError, match="shard-00001.safetensors is missing"):
        open_tokens(copy, verify=False)


def test_another_kind_and_a_newer_schema_are_refused(copy: Path) -> None:
    record = json.loads((copy / "artifact.json").read_text())
    (copy / "artifact.json").write_text(json.dumps(record | {"kind": "sae"}))
    with pytest.raises(ArtifactError, match="holds 'sae', where 'tokens' is needed"):
        open_tokens(copy)
    (copy / "artifact.json").write_text(json.dumps(record | {"schema": 99}))
    with pytest.raises(ArtifactError, match="newer than this version reads"):
        open_tokens(copy)


def test_a_newer_version_of_the_format_is_refused(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    rewrite(copy, version=2, **dict.fromkeys(set(manifest) - {"format", "version"}, ...))
    with pytest.raises(NewerArtifactError, match=r"version 2 of the token format, newer .* \(1\); update cytosae"):
        open_tokens(copy)


def rewrite(store: Path, **changes: object) -> None:
    """Change a manifest, and its entry in the record as well."""
    file = store / "manifest.json"
    manifest = {key: value for key, value in (json.loads(file.read_text()) | changes).items() if value is not ...}
    file.write_text(json.dumps(manifest))
    record = json.loads((store / "artifact.json").read_text())
    record["files"]["manifest.json"] = {"sha256": hash_file(file), "bytes": file.stat().st_size}
    (store / "artifact.json").write_text(json.dumps(record))


NEEDED = ("dataset", "n_cells", "n_tokens", "width", "side", "dtype", "backbone", "recipe", "shard_cells", "shards")
WRONG = [(name, value) for name in NEEDED for value in (..., None, 1.5, [None])]


@pytest.mark.parametrize(("name", "wrong"), WRONG)
def test_a_manifest_is_checked_whole(copy: Path, name: str, wrong: object) -> None:
    rewrite(copy, **{name: wrong})
    with pytest.raises(
        ArtifactError, match=rf"manifest\.json cannot be read \(manifest.*{name}.*\); extract the tokens"
    ):
        open_tokens(copy)


@pytest.mark.parametrize(
    "changes",
    [
        {"n_tokens": 10**30},
        {"width": 10**9},
        {"n_cells": 10**7},
        {"n_tokens": 0},
        {"side": -1},
        {"side": [4, 0]},
        {"side": []},
        {"side": [4, 4, 1]},
        {"shard_cells": 7},
    ],
)
def test_a_manifest_of_impossible_sizes_is_refused_before_memory_is_asked_for(copy: Path, changes: dict) -> None:
    rewrite(copy, **changes)
    with pytest.raises(ArtifactError, match=r"manifest\.json does not describe the [\d,]+ bytes of the store"):
        open_tokens(copy)


@pytest.mark.parametrize(("changes", "held"), [({"width": 7}, "holds 6 cells x 17 x 8"), ({"dtype": "uint8"}, "uint8")])
def test_shards_that_are_not_what_the_manifest_says_are_refused(copy: Path, changes: dict, held: str) -> None:
    rewrite(copy, **changes)
    with pytest.raises(ArtifactError, match=held):
        open_tokens(copy).read(0, 1)


@pytest.mark.parametrize("names", ["", "a\nb\n", "\xff"])
def test_names_of_cells_that_are_damaged_are_refused(copy: Path, names: str) -> None:
    store = open_tokens(copy)
    (copy / "cell_ids.txt").write_text(names, encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"cell_ids\.txt .*; extract the tokens again\."):
        store.cell_ids  # noqa: B018


def test_a_manifest_with_fields_of_a_newer_version_is_read(copy: Path) -> None:
    rewrite(copy, colour="blue")
    assert len(open_tokens(copy)) == 20


def test_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no finished cytosae artifact"):
        open_tokens(tmp_path)
