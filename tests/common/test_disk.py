from __future__ import annotations

import errno

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from small_disk import small_disk

from cytosae.atlas.stored.storage import write_h5ad
from cytosae.common.disk import disk_errors
from cytosae.common.errors import ArtifactError, InputError

NUMBERS = np.random.default_rng(0).random((200, 200))
WRITERS = {
    "bytes": lambda path: path.write_bytes(NUMBERS.tobytes()),
    "safetensors": lambda path: save_file({"a": torch.from_numpy(NUMBERS)}, path),
    "parquet": lambda path: pd.DataFrame(NUMBERS).to_parquet(path),
    "h5ad": lambda path: write_h5ad(ad.AnnData(NUMBERS), path, path),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_every_library_tells_of_a_disk_that_takes_no_more_in_one_sentence(tmp_path, writer):
    sentence = r"could not be written \(File too large\); make space .*: what is finished is kept\.$"
    path = tmp_path / f"a.{writer}"
    with pytest.raises(ArtifactError, match=sentence), disk_errors(tmp_path), small_disk():
        WRITERS[writer](path)
    WRITERS[writer](path)
    assert path.stat().st_size > 10_000


def test_what_is_no_matter_of_the_disk_passes(tmp_path):
    with pytest.raises(FileNotFoundError), disk_errors(tmp_path):
        (tmp_path / "absent").read_bytes()
    mine = InputError("mine.")
    with pytest.raises(InputError) as caught, disk_errors(tmp_path):
        raise mine
    assert caught.value is mine
    with pytest.raises(ArtifactError, match="Input/output error"), disk_errors(tmp_path, None):
        raise OSError(errno.EIO, "x")
    with pytest.raises(ArtifactError, match="no number"), disk_errors(tmp_path, None):
        raise OSError("no\nnumber")


def test_an_h5ad_is_what_anndata_writes(tmp_path):
    data = ad.AnnData(
        NUMBERS[:4, :3].astype(np.float32),
        obs=pd.DataFrame({"label": ["a", "b", "a", None], "n": [1, 2, 3, 4]}, index=list("wxyz")),
        obsm={"X_backbone": NUMBERS[:4, :2]},
        layers={"tokens_above": NUMBERS[:4, :3]},
        uns={"provenance": {"tau": 0.5, "names": np.array(["a", "b"], dtype=object)}},
    )
    data.copy().write_h5ad(tmp_path / "theirs.h5ad", compression="lzf")
    write_h5ad(data, tmp_path / "mine.h5ad", tmp_path / "mine.h5ad")
    mine, theirs = ad.read_h5ad(tmp_path / "mine.h5ad"), ad.read_h5ad(tmp_path / "theirs.h5ad")
    pd.testing.assert_frame_equal(mine.obs, theirs.obs)
    np.testing.assert_array_equal(mine.X, theirs.X)
    np.testing.assert_array_equal(mine.obsm["X_backbone"], theirs.obsm["X_backbone"])
    np.testing.assert_array_equal(mine.layers["tokens_above"], theirs.layers["tokens_above"])
    assert mine.uns["provenance"]["tau"] == theirs.uns["provenance"]["tau"]
    assert list(mine.uns["provenance"]["names"]) == ["a", "b"]
