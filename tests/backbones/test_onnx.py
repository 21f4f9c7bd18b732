"""A backbone as an ONNX file: the same tokens as torch's, at the same block, or a sentence that says what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from cytosae.backbones import Backbone, OnnxBackbone, export_onnx, load_backbone
from cytosae.cells import read_cells
from cytosae.common.errors import InputError, UsageError, WeightsError
from cytosae.tokens import ExtractConfig, extract


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    backbone = load_backbone("tiny", block=1)
    assert isinstance(backbone, Backbone)
    return backbone


@pytest.fixture(scope="module")
def file(tiny: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_onnx(tiny, tmp_path_factory.mktemp("onnx") / "tiny.onnx")


@pytest.fixture(scope="module")
def served(file: Path) -> OnnxBackbone:
    backbone = load_backbone("onnx:tiny", file, block=1)
    assert isinstance(backbone, OnnxBackbone)
    return backbone


def test_tokens_are_those_of_torch_whatever_the_batch(
    tiny: Backbone, served: OnnxBackbone, images: list[np.ndarray]
) -> None:
    batch = served.prepare(images)
    assert torch.equal(batch, tiny.prepare(images))
    expected = tiny(batch)
    torch.testing.assert_close(served(batch), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(served(batch[:1]), expected[:1], rtol=1e-4, atol=1e-4)


def test_it_says_of_itself_what_torch_says(tiny: Backbone, served: OnnxBackbone) -> None:
    for field in ("block", "depth", "width", "side", "n_tokens", "preprocessing", "licence"):
        assert served.describe()[field] == tiny.describe()[field], field
    assert (served.grid, served.name) == (tiny.grid, "onnx:tiny")
    assert served.weights_hash != tiny.weights_hash  # stores of the one are not taken for stores of the other


def test_extraction_takes_it_like_any_other(tiny: Backbone, served: OnnxBackbone, smear: Path, tmp_path: Path) -> None:
    cells, config = read_cells(smear), ExtractConfig(batch_size=4, workers=0)
    stores = [extract(cells, backbone, tmp_path / backbone.name[:4], config=config) for backbone in (tiny, served)]
    one, other = (store.read(0, len(store)) for store in stores)
    torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-2)  # float16 of stored tokens
    assert stores[0].manifest["recipe"] != stores[1].manifest["recipe"]


def test_another_block_than_that_of_the_file_is_refused(file: Path) -> None:
    with pytest.raises(UsageError, match=r"gives the tokens after block 1, not 7; export that block"):
        load_backbone("onnx:tiny", file)


def test_compiling_it_is_refused(served: OnnxBackbone, smear: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="for backbones that torch computes"):
        extract(read_cells(smear), served, tmp_path / "tokens", config=ExtractConfig(compile=True, workers=0))


def test_files_that_are_not_there_damaged_or_foreign_are_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs its file"):
        load_backbone("onnx:tiny")
    with pytest.raises(WeightsError, match="There is no weights file"):
        load_backbone("onnx:tiny", tmp_path / "none.onnx")
    (tmp_path / "cut.onnx").write_bytes(file.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="no ONNX file that can be computed"):
        load_backbone("onnx:tiny", tmp_path / "cut.onnx")
    model = onnx.load(str(file))
    del model.metadata_props[:]
    onnx.save(model, str(tmp_path / "silent.onnx"))
    with pytest.raises(WeightsError, match="does not say which block and preprocessing"):
        load_backbone("onnx:tiny", tmp_path / "silent.onnx")


def test_a_batch_of_another_size_is_refused(served: OnnxBackbone) -> None:
    with pytest.raises(InputError, match="use its prepare"):
        served(torch.zeros(1, 3, 8, 8))
