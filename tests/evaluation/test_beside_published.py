"""benchmarks/published.py: what it says of latents whose reference cells are known."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "published.py"
if not SCRIPT.is_file():
    pytest.skip("the benchmarks are not installed with the package", allow_module_level=True)


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("published", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["published"] = module
    spec.loader.exec_module(module)
    return module


beside = load()
SHAPES = {f"{i}.jpg": "round" if i < 50 else "irregular" for i in range(100)}


def references(files: list[list[str]], frequency: list[float]) -> object:
    names = np.array(files)
    return beside.References(names, (names != "").astype(float), np.array(frequency))


def test_agreement_is_one_for_cells_of_one_value_and_zero_by_chance() -> None:
    rng = np.random.default_rng(0)
    alike = [f"{i}.jpg" for i in range(10)]
    drawn = [[f"{i}.jpg" for i in rng.permutation(100)[:10]] for _ in range(2000)]
    few = ["1.jpg", "2.jpg", "3.jpg", *[""] * 7]
    found = beside.agreement(references([alike, few, *drawn], [0.1] * 2002), SHAPES)
    assert found[0] == 1
    assert np.isnan(found[1]), "three annotated cells are too few"
    assert abs(found[2:].mean()) < 0.03


def test_models_are_compared_in_bins_that_all_of_them_have() -> None:
    # the second model's latents are better only because they are rarer
    rare, often = np.full(100, 0.0005), np.full(100, 0.2)
    frequency = {"a": np.concatenate([rare[:50], often]), "b": np.concatenate([rare, often[:30]])}
    measure = {name: np.where(f < 0.01, 0.9, 0.1) for name, f in frequency.items()}
    found = beside.at_equal_frequency(measure, frequency, "a")
    assert found["a"] == pytest.approx(found["b"])
    assert found["a"][0] == pytest.approx((50 * 0.9 + 100 * 0.1) / 150)
    assert measure["b"].mean() > measure["a"].mean() + 0.2
    apart = {"a": often, "b": rare}
    assert np.isnan(beside.at_equal_frequency({"a": often, "b": rare}, apart, "a")["a"][0])


def test_published_statistics_name_their_files(tmp_path: Path) -> None:
    order = pd.DataFrame({"shuffled_index": [0, 1, 2], "class": ["x", "y", "y"], "file": ["c.jpg", "a.jpg", "b.jpg"]})
    torch.save(torch.tensor([[2.0, 0.0], [1.0, 0.0]]), tmp_path / "max_activating_image_indices.pt")
    torch.save(torch.tensor([[0.5, 0.5], [0.2, 0.0]]), tmp_path / "max_activating_image_values.pt")
    torch.save(torch.tensor([0.5, 0.1]), tmp_path / "sae_sparsity.pt")
    model = beside.published(tmp_path, order)
    assert model.files.tolist() == [["b.jpg", "c.jpg"], ["a.jpg", ""]]
    entropy = beside.type_entropy(model, dict(zip(order["file"], order["class"], strict=True)))
    np.testing.assert_allclose(entropy, [np.log(2), 0])
