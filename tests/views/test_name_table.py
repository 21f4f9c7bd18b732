"""The table of names: attributes that were planted, families that are used alike, the agreement of people beside."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from atlas.stub_chain import StubSae, make_chain
from PIL import Image

from cytosae.atlas import build_atlas, cells_place, save_atlas
from cytosae.cells import read_cells
from cytosae.cli import main
from cytosae.reviews.vocabulary import term_of_value, vocabulary
from cytosae.views.concepts.name_table import table_of_names
from cytosae.views.parts.opened_dataset import OpenedAtlas


@pytest.fixture(scope="module")
def atlas() -> OpenedAtlas:
    """Latents 0 to 2 are used alike, on cells with vacuoles; 3 by itself; 4 never; names are those of latents."""
    rng = np.random.default_rng(0)
    n = 200
    vacuole = np.where(rng.random(n) < 0.4, "yes", "no").astype(object)
    values = rng.random((n, 5)) * [0.1, 0.1, 0.1, 1, 0]
    values[:, :3] += ((vacuole == "yes") * rng.random(n))[:, None]
    obs = pd.DataFrame({"label": np.where(np.arange(n) % 2, "monocyte", "lymphocyte"), "cytoplasm_vacuole": vacuole})
    obs.index = pd.Index([f"c{i}" for i in range(n)])
    var = pd.DataFrame({"cells_active": [n] * 4 + [0], "central_share": 0.5, "lives_in": ["cytoplasm"] * 5})
    var.index = var.index.astype(str)
    made = ad.AnnData(X=sp.csr_matrix(values), obs=obs, var=var)
    rows = np.argsort(-values, axis=0)[:10].T
    made.uns["reference_cells"] = {"rows": rows, "values": np.take_along_axis(values.T, rows, 1)}
    cells: Any = SimpleNamespace(name="made")
    found = OpenedAtlas(made, cells, accepted={3: "a speck"})
    found.__dict__["var"] = pd.DataFrame(made.var).reset_index(drop=True)  # usefulness is not asked for
    return found


def test_each_concept_has_its_attribute_and_its_family(atlas):
    ceiling = pd.DataFrame({"attribute": ["cytoplasm_vacuole"], "value": ["yes"], "auc": [0.9]})
    table = table_of_names(atlas, ceiling)
    assert table.index.tolist() == [0, 1, 2, 3]
    assert table["words"].tolist()[:3] == ["vacuoles"] * 3
    assert table.loc[[0, 1, 2], "people"].eq(0.9).all()
    assert pd.isna(table.loc[3, "value"])
    assert table["family_size"].tolist() == [3, 3, 3, 1]
    assert table["family"].nunique() == 2
    assert table.loc[0, "family_name"].startswith("Cytoplasm of ")
    assert (table["draft"].tolist(), table.loc[3, "name"]) == ([True] * 3 + [False], "a speck")


def test_every_value_means_one_term_of_the_vocabulary():
    values = [value for term in vocabulary().values() for value in term.seen_as]
    assert len(values) == len(set(values)) > 15
    term = term_of_value("granule_colour", "red")
    assert term is not None
    assert term.key == "eosinophilic_granules"
    assert term_of_value("granule_colour", "green") is None


def test_the_command_joins_two_annotators_by_file_name(tmp_path, capsys):
    rng = np.random.default_rng(0)
    (tmp_path / "smear").mkdir()
    for i in range(30):
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(tmp_path / "smear" / f"{i}.png")
    said = pd.DataFrame({"image": [f"{i}.png" for i in range(30)], "label": "monocyte"})
    said.to_csv(tmp_path / "smear" / "manifest.csv", index=False)
    cells = read_cells(tmp_path / "smear")
    _, store, _ = make_chain(30)
    store.cell_ids = cells.frame["cell_id"].tolist()
    atlas = tmp_path / "smear.h5ad"
    save_atlas(build_atlas(StubSae(), store, cells), atlas)
    cells.save(cells_place(atlas))
    said["cytoplasm_vacuole"] = np.where(np.arange(30) % 2, "no", "yes")
    for name in ("first", "second"):
        said.to_csv(tmp_path / f"{name}.csv", index=False)
    call = ["atlas", "names", str(atlas), "--out", str(tmp_path / "names.csv"), "--json"]
    tables = ["--attributes", str(tmp_path / "first.csv"), "--second", str(tmp_path / "second.csv")]
    assert main([*call, *tables]) == 0
    found, table = json.loads(capsys.readouterr().out), pd.read_csv(tmp_path / "names.csv", index_col="latent")
    assert found["concepts"] == len(table) > 10
    assert {"name", "people", "family_name"} <= set(table)
    page = (tmp_path / "names.html").read_text()
    assert found["page"].endswith("names.html")
    assert "Concept by concept" in page
    assert table["name"].iloc[0] in page
    assert main([*call, "--second", str(tmp_path / "second.csv")]) == 2
    assert "give --attributes" in capsys.readouterr().err
