"""Atlases of parts, merged, are the atlas of the whole."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from atlas.stub_chain import StubCells, StubStore, make_chain

from cytosae.atlas import build_atlas, merge_atlases, open_atlas, save_atlas, share_atlas
from cytosae.cli import main
from cytosae.common.errors import InputError, UsageError

COUNTS = ("cells_active", "activation_frequency", "token_frequency", "max_activation", "max_token_activation")
MEANS = ("mean_activation", "label_entropy", "class_selectivity", "position_dependence", "central_share")


def part(chain, rows, folder, *, name="stub", tau=0.5):
    """The atlas of some cells as a file."""
    sae, store, cells = chain
    own = StubStore(store.tokens[rows], [store.cell_ids[i] for i in rows])
    table = StubCells(cells.frame.iloc[rows].reset_index(drop=True), name)
    return save_atlas(build_atlas(sae, own, table, tau=tau), folder / f"{name}-{rows[0]}.h5ad")


def assert_equal(merged, whole):
    """The same but for the order of cells."""
    ours = merged[whole.obs_names]
    np.testing.assert_array_equal(ours.X.toarray(), whole.X.toarray())
    np.testing.assert_array_equal(ours.layers["tokens_above"].toarray(), whole.layers["tokens_above"].toarray())
    np.testing.assert_array_equal(ours.obsm["X_backbone"], whole.obsm["X_backbone"])
    np.testing.assert_array_equal(merged.varm["tokens_active"], whole.varm["tokens_active"])
    np.testing.assert_allclose(merged.varm["class_mean"], whole.varm["class_mean"], rtol=1e-6)
    for name in COUNTS:
        np.testing.assert_array_equal(merged.var[name], whole.var[name], err_msg=name)
    for name in MEANS:
        np.testing.assert_allclose(merged.var[name], whole.var[name], rtol=1e-12, err_msg=name)
    assert merged.var["top_class"].astype(str).tolist() == whole.var["top_class"].astype(str).tolist()
    cells = [np.append(one.uns["reference_cells"]["cell_ids"], "") for one in (merged, whole)]
    rows = [ids[one.uns["reference_cells"]["rows"]] for ids, one in zip(cells, (merged, whole), strict=True)]
    np.testing.assert_array_equal(*rows)
    np.testing.assert_array_equal(*(one.uns["reference_cells"]["values"] for one in (merged, whole)))
    assert ours.obs["label"].astype(str).tolist() == whole.obs["label"].astype(str).tolist()


@pytest.mark.parametrize("cuts", [(9,), (1, 22), (5, 11, 16)])
@pytest.mark.parametrize("turned", [False, True])
def test_any_split_in_any_order_merges_to_the_atlas_of_all_cells(tmp_path, cuts, turned):
    chain = make_chain()
    whole = build_atlas(*chain, tau=0.5)
    edges = [0, *cuts, len(chain[1])]
    parts = [part(chain, list(range(a, b)), tmp_path) for a, b in pairwise(edges)]
    merged = merge_atlases(parts[::-1] if turned else parts, tmp_path / "all.h5ad")
    assert_equal(open_atlas(merged), whole)


def test_what_leaves_a_site_names_no_image_no_file_and_no_person(tmp_path):
    chain = make_chain()
    frame = chain[2].frame
    frame["patient"] = pd.array([f"Schmidt-{i % 3}" for i in range(len(frame))], dtype="string")
    frame["mask"] = frame["image"]
    sent = share_atlas(part(chain, list(range(23)), tmp_path, name="secret"), tmp_path / "sent.h5ad", site="north")
    assert sorted(tmp_path.glob("sent*")) == [sent, tmp_path / "sent.h5ad.artifact.json"]
    for file in tmp_path.glob("sent*"):
        content = file.read_bytes()
        for words in (b"Schmidt", b".png", b"secret", str(tmp_path).encode()):
            assert words not in content
    atlas = open_atlas(sent)
    assert set(atlas.obs) == {"label", "patient", "diagnosis", "width", "height"}
    groups = pd.Series(atlas.obs["patient"].astype(str).to_numpy()).groupby([i % 3 for i in range(23)]).nunique()
    assert groups.tolist() == [1, 1, 1]
    assert atlas.obs["patient"].nunique() == 3


def test_patients_of_two_sites_are_different_people(tmp_path):
    chain = make_chain()
    chain[2].frame["patient"] = pd.array(["p1"] * 23, dtype="string")
    parts = [part(chain, list(range(10)), tmp_path, name="a"), part(chain, list(range(10, 23)), tmp_path, name="b")]
    atlas = open_atlas(merge_atlases(parts, tmp_path / "all.h5ad"))
    assert set(atlas.obs["patient"]) == {"a:p1", "b:p1"}
    assert atlas.obs["site"].tolist() == ["a"] * 10 + ["b"] * 13
    assert atlas.uns["provenance"]["dataset"] == "a+b"
    assert "image" not in atlas.obs


def test_atlases_that_do_not_fit_together_are_refused(tmp_path):
    chain = make_chain()
    one, two = part(chain, list(range(10)), tmp_path), part(chain, list(range(9, 23)), tmp_path)
    with pytest.raises(UsageError, match="1 cells .* in another atlas"):
        merge_atlases([one, two], tmp_path / "all.h5ad")
    other = part(chain, list(range(10, 23)), tmp_path, tau=0.7)
    with pytest.raises(UsageError, match="another tau"):
        merge_atlases([one, other], tmp_path / "all.h5ad")
    old = open_atlas(part(chain, list(range(10, 23)), tmp_path))
    del old.varm["tokens_active"]
    with pytest.raises(InputError, match="make the atlas again"):
        merge_atlases([one, save_atlas(old, tmp_path / "old.h5ad")], tmp_path / "all.h5ad")
    with pytest.raises(UsageError, match="two atlases"):
        merge_atlases([one], tmp_path / "all.h5ad")
    assert not (tmp_path / "all.h5ad").exists()


def test_the_commands_share_and_merge(tmp_path, capsys):
    chain = make_chain()
    paths = [part(chain, list(range(10)), tmp_path, name="a"), part(chain, list(range(10, 23)), tmp_path, name="b")]
    sent = []
    for site, path in zip(("north", "south"), paths, strict=True):
        sent.append(str(tmp_path / f"{site}.h5ad"))
        assert main(["atlas", "share", str(path), "--site", site, "--out", sent[-1]]) == 0
    assert main(["atlas", "merge", *sent, "--out", str(tmp_path / "all.h5ad")]) == 0
    assert "23 cells" in capsys.readouterr().out
    assert open_atlas(tmp_path / "all.h5ad").uns["provenance"]["dataset"] == "north+south"
