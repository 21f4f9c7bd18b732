"""Every layer works where its models lie, whatever device its tokens and images come from.

The other device is the one of `elsewhere`: with it as a GPU, and as an Apple device that has no float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from elsewhere import ELSEWHERE, Distant, MixedDevicesError, elsewhere
from torch import Tensor

from cytosae.atlas import build_atlas, concept_maps, localisation, reference_maps
from cytosae.atlas.explaining.image_explanation import explain_cell
from cytosae.backbones import Backbone, load_backbone
from cytosae.cells import CellTable, read_cells
from cytosae.common import devices
from cytosae.common.errors import UsageError
from cytosae.sae import (
    BatchTopK,
    FromData,
    JumpRelu,
    Matryoshka,
    MeanNorm,
    NoNormalisation,
    PositionMean,
    ReluL1,
    SparseAutoencoder,
    TopK,
    TrainConfig,
    Trainer,
    Whitening,
    choose_tau,
    evaluate,
    geometric_median,
)
from cytosae.tokens import ExtractConfig, ReaderConfig, TokenReader, TokenStore, TokenStream, extract

D, M = 192, 96
VARIANTS = {
    "top k": TopK(k=6, aux_k=8),
    "batch top k": BatchTopK(k=6, aux_k=8),
    "jump relu": JumpRelu(l0_coefficient=1e-2, bandwidth=0.2),
    "matryoshka": Matryoshka(k=6, aux_k=8, prefixes=(0.25, 1.0)),
    "relu l1": ReluL1(l1_coefficient=1e-2),
}
NORMALISATIONS = (NoNormalisation(), MeanNorm(), PositionMean(), Whitening())
QUICK = ExtractConfig(batch_size=4, workers=0)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["a GPU", "an Apple device"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    if request.param == "a GPU":
        with elsewhere():
            yield ELSEWHERE
        return
    monkeypatch.setattr(devices, "WITHOUT_DOUBLE", {*devices.WITHOUT_DOUBLE, ELSEWHERE.type})
    with elsewhere(lacks=(torch.float64,)):
        yield ELSEWHERE


@pytest.fixture(scope="module")
def cells(smear: Path) -> CellTable:
    return read_cells(smear)


@pytest.fixture(scope="module")
def store(cells: CellTable, tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    return extract(cells, load_backbone("tiny"), tmp_path_factory.mktemp("tokens") / "smear", config=QUICK)


@pytest.fixture(scope="module")
def images(store: TokenStore) -> Tensor:
    return store.read(0, 6)


def make(sparsity, images: Tensor, normalisation=None) -> SparseAutoencoder:
    """An SAE on the CPU with a fitted normalisation and a threshold, if it has them."""
    sae = SparseAutoencoder(D, M, sparsity, normalisation or PositionMean(), seed=1)
    sae.normaliser.fit(images.flatten(0, 1), torch.arange(images.shape[1]).repeat(len(images)))
    return sae


def twins(name: str, images: Tensor, normalisation=None) -> tuple[SparseAutoencoder, SparseAutoencoder]:
    """The same SAE here and elsewhere."""
    here, there = (make(VARIANTS[name], images, normalisation) for _ in range(2))
    return here, there.to(ELSEWHERE)


def assert_same(found: Tensor, expected: Tensor) -> None:
    assert isinstance(found, Distant)
    torch.testing.assert_close(found.cpu(), expected)


def test_tensors_of_two_places_do_not_mix() -> None:
    with elsewhere(lacks=(torch.float64,)):
        there = torch.ones(3, device=ELSEWHERE)
        with pytest.raises(MixedDevicesError):
            there + torch.ones(3)
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        with pytest.raises(TypeError, match="float64"):
            there.double()
        assert float((there * 2).sum()) == 6


@pytest.mark.parametrize("name", VARIANTS)
def test_tokens_from_anywhere_are_encoded_and_decoded(name: str, images: Tensor, device) -> None:
    here, there = twins(name, images)
    flat, positions = images.flatten(0, 1), torch.arange(images.shape[1]).repeat(len(images))
    expected = here.encode(images)
    for tokens in (images, images.to(device)):
        assert_same(there.encode(tokens), expected)
        assert_same(there(tokens), here(images))
    assert_same(there.decode(expected), here.decode(expected))
    sparse = there.encode_sparse(flat, positions).cpu()
    torch.testing.assert_close(sparse.to_dense(), expected.flatten(0, 1))
    assert there.encode_sparse(flat[:0], positions[:0]).shape == (0, M)


@pytest.mark.parametrize("normalisation", NORMALISATIONS, ids=lambda n: type(n).__name__)
def test_normalisations_are_fitted_on_tokens_from_anywhere(normalisation, images: Tensor, device) -> None:
    here, there = twins("top k", images, normalisation)
    there.normaliser.fit(images.flatten(0, 1), torch.arange(images.shape[1]).repeat(len(images)))
    assert_same(there(images), here(images))


@pytest.mark.parametrize("name", VARIANTS)
def test_training_elsewhere_follows_training_here(name: str, images: Tensor, device) -> None:
    here, there = twins(name, images)
    config = TrainConfig(dead_window=2, ghost_gradients=name == "relu l1", gradient_clip=1.0, warmup_steps=2)
    logs = []
    for sae in (here, there):
        with torch.no_grad():
            sae.b_enc[::4] = -50.0  # dead from the start, to be revived
        trainer = Trainer(sae, config)
        logs.append([trainer.step(images) for _ in range(6)])
    for expected, found in zip(*logs, strict=True):
        assert vars(found) == pytest.approx(vars(expected), rel=1e-4, abs=1e-6)
    assert logs[0][-1].dead > 0
    assert name == "jump relu" or logs[0][-1].ghost > 0
    assert all(isinstance(parameter.data, Distant) for parameter in there.parameters())


@pytest.mark.parametrize("start", ["geometric_median", "mean"])
def test_a_whole_fit_elsewhere_follows_the_one_here(start, store: TokenStore, device, tmp_path: Path) -> None:
    found = []
    for place in ("cpu", device):
        sae = SparseAutoencoder(D, M, TopK(k=6, aux_k=8), Whitening(), initialisation=FromData(), seed=2).to(place)
        config = TrainConfig(steps=6, batch_tokens=512, sample_tokens=2048, decoder_bias=start, checkpoint_every=4)
        reader = ReaderConfig(batch_tokens=512, buffer_tokens=2048)
        out = tmp_path / str(place)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Trainer, "_note", interrupt)
            Trainer(sae, config, out=out).fit(TokenReader([store], reader))
        result = Trainer(sae, config, out=out).fit(TokenReader([store], reader))
        assert result.resumed_from == 4
        found.append((sae, result.logs[0]))
    (here, expected), (there, log) = found
    assert vars(log) == pytest.approx(vars(expected), rel=1e-3, abs=1e-5)
    torch.testing.assert_close(there.W_dec.detach().cpu(), here.W_dec.detach(), atol=1e-3, rtol=1e-3)


def interrupt(trainer: Trainer, logs: object) -> str:
    if trainer.steps == 5:
        raise KeyboardInterrupt
    return ""


def test_two_saes_on_two_devices_are_refused(device) -> None:
    here, there = SparseAutoencoder(4, 8), SparseAutoencoder(4, 8).to(device)
    with pytest.raises(UsageError, match="all SAEs on one device, not on cpu and meta"):
        Trainer([here, there])


@pytest.mark.parametrize("name", VARIANTS)
def test_figures_and_tau_are_those_of_the_processor(name: str, store: TokenStore, images: Tensor, device) -> None:
    here, there = twins(name, images)
    expected, found = (vars(evaluate(sae, store, 2000)) for sae in (here, there))
    assert found == pytest.approx(expected, rel=1e-5)
    batches = [TokenReader([store], ReaderConfig(memory_bytes=0)).sample(500, 0)]
    assert choose_tau(there, batches) == pytest.approx(choose_tau(here, batches), rel=1e-5)


def test_the_geometric_median_is_that_of_the_processor(images: Tensor, device) -> None:
    assert_same(geometric_median(images.to(device)), geometric_median(images))


@pytest.mark.parametrize("name", ["top k", "relu l1"])
def test_the_atlas_is_that_of_the_processor(name: str, store: TokenStore, cells: CellTable, images, device) -> None:
    here, there = twins(name, images)
    expected, found = (build_atlas(sae, store, cells, batch_cells=16) for sae in (here, there))
    np.testing.assert_array_equal(found.X.indices, expected.X.indices)
    np.testing.assert_allclose(found.X.data, expected.X.data, atol=1e-5)
    np.testing.assert_array_equal(found.layers["tokens_above"].toarray(), expected.layers["tokens_above"].toarray())
    explanations = [explain_cell(images[0], sae, expected, concepts=4, similar=3) for sae in (here, there)]
    np.testing.assert_allclose(explanations[1].maps, explanations[0].maps, atol=1e-4)
    for maps in (
        lambda sae: concept_maps(images, [3, 40], sae=sae),
        lambda sae: np.stack(list(reference_maps(store, [(0, 3), (5, 40)], sae=sae).values())),
    ):
        np.testing.assert_allclose(maps(there), maps(here), atol=1e-4)


def test_localisation_is_that_of_the_processor(store: TokenStore, cells: CellTable, images: Tensor, device) -> None:
    here, there = twins("top k", images)
    expected, found = (localisation(sae, [(store, cells)]).table for sae in (here, there))
    columns = ["structure", "family", "unit"]
    assert found[columns].equals(expected[columns])
    np.testing.assert_allclose(found["iou"], expected["iou"], atol=1e-3)


@pytest.fixture
def there(device) -> Backbone:
    return load_backbone("tiny").to(device)


def test_the_backbone_moves_its_batch_and_its_tokens(there: Backbone, cells: CellTable, images: Tensor) -> None:
    from cytosae.cells import load_image

    here = load_backbone("tiny")
    batch = here.prepare([load_image(cells.image_path(i)) for i in range(6)])
    torch.testing.assert_close(there(batch).cpu(), here(batch), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(there.finish(images).cpu(), here.finish(images), atol=1e-4, rtol=1e-4)


def test_extraction_elsewhere_stores_the_same_tokens(there: Backbone, cells, store, tmp_path: Path) -> None:
    found = extract(cells, there, tmp_path / "smear", config=QUICK)
    torch.testing.assert_close(found.read(0, len(found)), store.read(0, len(store)), atol=2e-2, rtol=1e-2)
    batch = next(TokenStream(cells, there, ReaderConfig(batch_tokens=64, buffer_tokens=256), extraction=QUICK))
    assert batch.tokens.device.type == "cpu"
    assert torch.isfinite(batch.tokens).all()
