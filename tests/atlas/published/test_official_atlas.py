"""The authors' statistics of the published SAE as an atlas, and the pictures that belong to them."""

from __future__ import annotations

import csv
import pickle
import shutil

import numpy as np
import pytest
import torch

from cytosae.atlas import cells_place, import_official, open_atlas, open_cells, reference_table, usefulness
from cytosae.atlas.published.official_statistics import read_official_statistics
from cytosae.atlas.published.published_order import acevedo_order, class_of
from cytosae.cli import main
from cytosae.common.errors import InputError

VALUES = [[3.0, 1.0], [2.0, 0.0], [0.0, 0.0]]
ROWS = [[4.0, 0.0], [2.0, 1.0], [0.0, 1.0]]
LABELS = [[1, 0], [0, 1], [0, 0]]


@pytest.fixture
def folder(tmp_path):
    """Three latents on seven images of two classes: one on two images, one on one, one dead."""
    out = tmp_path / "small"
    out.mkdir()
    torch.save(torch.tensor(VALUES), out / "max_activating_image_values.pt")
    torch.save(torch.tensor(ROWS), out / "max_activating_image_indices.pt")
    torch.save(torch.tensor(LABELS), out / "max_activating_image_label_indices.pt")
    torch.save(torch.tensor([2 / 7, 1 / 7, 0]), out / "sae_sparsity.pt")
    torch.save(torch.tensor([2.0, 2.0, torch.nan]), out / "sae_mean_acts.pt")
    (out / "classnames.txt").write_text("lympocyte\nmonocyte\n")
    return out


def test_statistics_fill_the_slots_of_any_atlas(folder):
    atlas = import_official(folder).atlas
    assert atlas.shape == (7, 3)  # the share of 2/7 says how many images there were
    assert atlas.var["cells_active"].tolist() == [2, 1, 0]
    np.testing.assert_allclose(atlas.var["activation_frequency"], [2 / 7, 1 / 7, 0])
    np.testing.assert_array_equal(atlas.var["mean_activation"], [2, 2, np.nan])
    expected = [-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)), 0, np.nan]
    np.testing.assert_allclose(atlas.var["label_entropy"], expected)
    assert atlas.var["top_class"].astype(object).tolist() == ["monocyte", "lymphocyte", np.nan]
    assert atlas.X.toarray()[[4, 0, 2], [0, 0, 1]].tolist() == [3, 1, 2]
    assert atlas.X.nnz == 3
    table = reference_table(atlas, 0)
    assert table["row"].tolist() == [4, 0]
    assert table["label"].tolist() == ["monocyte", "lymphocyte"]
    assert (usefulness(atlas)["usefulness"] > 0).tolist() == [True, True, False]


def test_published_entropies_that_do_not_fit_are_refused(folder):
    torch.save(torch.tensor([0.56233514, 0.0, -1.0]), folder / "top_entropy.pt")
    assert import_official(folder).entropy_error < 1e-6
    torch.save(torch.tensor([0.6, 0.0, -1.0]), folder / "top_entropy.pt")
    with pytest.raises(InputError, match="top_entropy"):
        import_official(folder)


def test_a_file_that_would_run_something_is_refused_and_runs_nothing(folder, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"x": Evil()}, folder / "sae_sparsity.pt", pickle_module=pickle)
    with pytest.raises(InputError, match=r"sae_sparsity\.pt"):
        import_official(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["sae_mean_acts.pt", "classnames.txt"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(InputError, match=name):
        import_official(folder)


def test_images_of_another_data_set_than_acevedo_are_refused(folder):
    with pytest.raises(InputError, match="Acevedo"):
        import_official(folder, images=[folder])


def test_the_published_entropies_come_out_for_every_latent(shared_reference):
    for name, cells, alive in (("mll23", 41_621, 49_152), ("acevedo", 17_092, 48_949)):
        found = read_official_statistics(shared_reference / "official_feature_data" / name)
        assert found.cells == cells
        assert (found.cells_active > 0).sum() == alive
        assert found.entropy_error < 1e-5


def test_the_order_of_acevedo_is_that_of_the_published_statistics(shared_reference):
    with (shared_reference / "acevedo_order.csv").open() as file:
        known = [(row["file"], row["class"]) for row in csv.DictReader(file)]
    assert [(name, class_of(name)) for name in acevedo_order()] == known


def test_parts_of_a_download_give_reference_cells_and_the_rest_is_named(
    shared_reference, shared_data, tmp_path, capsys
):
    whole = shared_data / "acevedo" / "PBC_dataset_normal_DIB" / "eosinophil"
    parts = [tmp_path / "one" / "eosinophil", tmp_path / "two" / "images" / "eosinophil"]
    for part in parts:
        part.mkdir(parents=True)
    chosen = sorted(whole.glob("*.jpg"))[:5]
    for i, file in enumerate(chosen):
        shutil.copy(file, parts[i % 2])
    shutil.copy(chosen[0], parts[1] / "EO_1.jpg")  # no published image has this name
    manifest = parts[1].parent.parent / "manifest.csv"
    renamed = parts[1] / "renamed.jpg"
    (parts[1] / chosen[1].name).rename(renamed)
    files = {**{file.name: file.name for file in parts[1].glob("EO*")}, renamed.name: chosen[1].name}
    lines = [f"images/eosinophil/{file},eosinophil,{original}" for file, original in files.items()]
    manifest.write_text("\n".join(["image,label,original", *lines]))
    out = tmp_path / "atlas.h5ad"
    folders = [str(part) for part in (tmp_path / "one", tmp_path / "two")]
    statistics = str(shared_reference / "official_feature_data" / "acevedo")
    assert main(["atlas", "import-official", statistics, "--out", str(out), "--images", *folders]) == 0
    said = capsys.readouterr().out
    assert "5 images found, 17,087 absent" in said
    assert "1 images have no name" in said
    atlas, cells = open_atlas(out), open_cells(out, "acevedo")
    assert len(cells.skipped) == 17_087
    assert cells_place(out).is_dir()
    order = list(acevedo_order())
    for file in chosen:
        row = order.index(file.name)
        cell = cells.frame.set_index("file").loc[file.name]
        assert atlas.obs_names[row] == cell["cell_id"]
        assert (cells.root / cell["image"]).read_bytes() == file.read_bytes()
    page = tmp_path / "page.html"
    assert main(["report", "--atlas", str(out), "--out", str(page), "--report.concepts", "2"]) == 0
    assert "latent" in page.read_text()
