"""Every path trains and encodes to the same numbers, for every variant."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from elsewhere import ELSEWHERE, elsewhere
from torch import Tensor, nn

from cytosae.common.errors import InputError, TrainingError, UsageError
from cytosae.sae import BatchTopK, JumpRelu, Matryoshka, ReluL1, SparseAutoencoder, Tied, TopK, TrainConfig, Trainer
from cytosae.sae.screening import paths
from cytosae.sae.screening.paths import Screening, keeps_bound, quickest_product

Train = Callable[..., tuple[SparseAutoencoder, list[float]]]


class Batch(NamedTuple):
    tokens: Tensor
    positions: Tensor


D, M, N = 32, 1600, 96
CONFIG = TrainConfig(
    learning_rate=1e-3, warmup_steps=3, steps=12, batch_tokens=N, dead_window=4, decoder_bias="keep", epsilon=1e-5
)
# Adam divides a gradient by its own size: with a tiny epsilon, vanishing gradients would show their rounding only
VARIANTS = {
    "top k": TopK(k=6, aux_k=8),
    "batch top k": BatchTopK(k=6, aux_k=8),
    "jump relu": JumpRelu(l0_coefficient=1e-2, bandwidth=0.2, initial_threshold=3.6),
    "matryoshka": Matryoshka(k=6, aux_k=8, prefixes=(0.1, 0.4, 1.0)),
    "relu l1": ReluL1(l1_coefficient=1e-2),
}


def make(sparsity) -> SparseAutoencoder:
    sae = SparseAutoencoder(D, M, sparsity, initialisation=Tied(), seed=1)
    with torch.no_grad():
        sae.b_dec.copy_(0.1 * torch.randn(D, generator=torch.Generator().manual_seed(2)))
        if isinstance(sparsity, ReluL1):
            sae.b_enc -= 3.6  # as after training: few latents are active
    return sae


def batches(steps: int) -> list[Tensor]:
    g = torch.Generator().manual_seed(3)
    scale = torch.linspace(0.5, 2, D)
    return [scale * torch.randn(N, D, generator=g) for _ in range(steps)]


@pytest.fixture
def train(fit) -> Train:
    """Function (sparsity, path, ...) -> SAE after a whole fit, losses."""

    def run(sparsity, path, steps: int = 12, **changes) -> tuple[SparseAutoencoder, list[float]]:
        sae = make(sparsity)
        logs = fit(sae, replace(CONFIG, path=path, steps=steps, **changes), batches(steps))
        return sae, [log.loss for log in logs]

    return run


@pytest.mark.parametrize("path", ["blocks", "screened"])
@pytest.mark.parametrize("name", VARIANTS)
def test_screened_training_follows_dense_training(name: str, path: str, train: Train) -> None:
    ghosts = name == "relu l1"
    dense, expected = train(VARIANTS[name], "dense", ghost_gradients=ghosts)
    sae, losses = train(VARIANTS[name], path, ghost_gradients=ghosts)
    screen = sae.screening.screen
    assert screen is not None
    assert screen.counters.tokens >= 12 * N
    torch.testing.assert_close(torch.tensor(losses), torch.tensor(expected), rtol=1e-5, atol=1e-6)
    for (key, mine), theirs in zip(sae.state_dict().items(), dense.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("name", VARIANTS)
def test_both_screens_train_to_bitwise_the_same_weights(name: str, train: Train) -> None:
    first, second = (train(VARIANTS[name], path)[0].state_dict() for path in ("blocks", "screened"))
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("path", ["blocks", "screened"])
@pytest.mark.parametrize("name", VARIANTS)
def test_encoding_is_the_same_on_every_path(name: str, path) -> None:
    sae = make(VARIANTS[name])
    (x,) = batches(1)
    expected = sae.encode(x)
    sae.screening = Screening(path)
    torch.testing.assert_close(sae.encode(x), expected)
    torch.testing.assert_close(sae.encode_sparse(x).to_dense(), expected)
    torch.testing.assert_close(sae(x), sae.decode(expected))


class Repeating:
    """Reader of the same few batches over and over."""

    def __init__(self) -> None:
        self.batches, self.i = batches(4), 0

    def __next__(self) -> Batch:
        self.i += 1
        return Batch(self.batches[self.i % 4], torch.zeros(N, dtype=torch.int64))

    def sample(self, n: int, seed: int) -> Batch:
        return Batch(self.batches[0], torch.zeros(N, dtype=torch.int64))

    def state_dict(self) -> dict:
        return {"i": self.i}

    def load_state_dict(self, state: dict) -> None:
        self.i = state["i"]


@pytest.mark.parametrize("path", ["dense", "blocks", "screened"])
@pytest.mark.parametrize("name", ["top k", "matryoshka"])
def test_a_stopped_training_goes_on_bitwise(name: str, path, tmp_path: Path) -> None:
    config = replace(CONFIG, path=path, checkpoint_every=3, steps=8)
    whole = make(VARIANTS[name])
    Trainer(whole, config).fit(Repeating())
    trainer, stopped = Trainer(make(VARIANTS[name]), config, out=tmp_path), 0
    step = trainer.runs[0].step

    def stop_at_five(x: Tensor):
        nonlocal stopped
        stopped += 1
        if stopped == 6:
            raise KeyboardInterrupt
        return step(x)

    trainer.runs[0].step = stop_at_five  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(Repeating())
    again = make(VARIANTS[name])
    assert Trainer(again, config, out=tmp_path).fit(Repeating()).resumed_from == 3
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True))


def test_too_dense_thresholds_go_the_dense_way() -> None:
    sae = make(ReluL1())
    with torch.no_grad():
        sae.b_enc.zero_()
    (x,) = batches(1)
    expected = sae.encode(x)
    sae.screening = Screening("screened")
    assert torch.equal(sae.encode(x), expected)


def test_tokens_that_are_not_finite_are_an_error_that_names_the_batch() -> None:
    sae = make(VARIANTS["top k"])
    (x,) = batches(1)
    x[7, 3] = float("nan")
    sae.screening = Screening("screened")
    with pytest.raises(InputError, match="token 7 of this batch of 96"):
        sae.encode_sparse(x)
    with pytest.raises(TrainingError, match="tokens of step 0"):
        Trainer(sae, replace(CONFIG, path="screened")).step(x)


def test_an_interrupted_step_leaves_ordinary_gradients_behind() -> None:
    sae = make(VARIANTS["top k"])
    trainer = Trainer(sae, replace(CONFIG, path="screened"))
    (x,) = batches(1)
    trainer.step(x)
    with pytest.raises(RuntimeError, match="stopped"):
        trainer.runs[0].module.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("stopped")))
        trainer.step(x)
    sae(x).square().sum().backward()
    assert sae.W_dec.grad is not None
    assert sae.W_enc.grad is not None


def test_clipped_gradients_are_the_same_on_every_path(train: Train) -> None:
    dense, expected = train(VARIANTS["top k"], "dense", gradient_clip=0.01)
    sae, losses = train(VARIANTS["top k"], "screened", gradient_clip=0.01)
    assert losses == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(sae.W_dec, dense.W_dec, rtol=1e-4, atol=1e-5)


def test_small_problems_stay_dense_and_an_unknown_path_is_refused(train: Train) -> None:
    assert train(VARIANTS["top k"], "auto", steps=1)[0].screening.screen is None
    with pytest.raises(UsageError, match="auto, dense, blocks or screened"):
        Screening("quick")  # pyright: ignore[reportArgumentType]


def test_a_copy_of_an_sae_has_a_screen_of_its_own() -> None:
    sae = make(VARIANTS["top k"])
    sae.screening = Screening("screened")
    (x,) = batches(1)
    expected = sae.encode(x)
    other = copy.deepcopy(sae)
    assert other.screening.screen is None
    assert other.screening.path == "screened"
    assert torch.equal(other.encode(x), expected)


def new_rows(sae: SparseAutoencoder) -> Tensor:
    return sae.W_enc.detach().roll(7, dims=1) * torch.linspace(-2, 2, M)


CHANGES = {
    "in place": lambda sae: sae.W_enc.detach().copy_(new_rows(sae)),
    "in place through .data": lambda sae: sae.W_enc.data.copy_(new_rows(sae)),
    "one weight through .data": lambda sae: sae.W_enc.data[3, 5:6].fill_(40.0),
    "through numpy": lambda sae: np.copyto(sae.W_enc.detach().numpy(), new_rows(sae).numpy()),
    "another tensor in .data": lambda sae: setattr(sae.W_enc, "data", new_rows(sae)),
    "another parameter": lambda sae: setattr(sae, "W_enc", nn.Parameter(new_rows(sae))),
    "another state": lambda sae: sae.load_state_dict({**sae.state_dict(), "W_enc": new_rows(sae)}),
    "another state, assigned": lambda sae: sae.load_state_dict(
        {**sae.state_dict(), "W_enc": new_rows(sae)}, assign=True
    ),
}


@pytest.mark.parametrize("path", ["blocks", "screened"])
@pytest.mark.parametrize("change", CHANGES)
def test_weights_changed_in_any_way_are_seen(change: str, path) -> None:
    sae = make(VARIANTS["top k"])
    sae.screening = Screening(path)
    (x,) = batches(1)
    before = sae.encode(x)
    CHANGES[change](sae)
    after = sae.encode(x)
    assert not torch.equal(after, before)
    sae.screening = Screening("dense")
    torch.testing.assert_close(after, sae.encode(x))


def test_a_screen_is_built_anew_where_its_sae_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "_can_screen", lambda _: True)  # plain PyTorch screens elsewhere
    (x,) = batches(1)
    with elsewhere(), torch.no_grad():
        sae = make(VARIANTS["top k"])
        sae.screening = Screening("screened")
        expected, here = sae.encode(x), sae.screening.screen
        for place in (ELSEWHERE, torch.device("cpu")):
            sae.to(place)
            torch.testing.assert_close(sae.encode(x).cpu(), expected)
            assert sae.screening.screen not in (None, here)
        assert sae.encode(x).device.type == "cpu"


@pytest.mark.parametrize("path", ["dense", "blocks", "screened"])
def test_threads_encode_with_one_sae_at_the_same_time(path, monkeypatch: pytest.MonkeyPatch) -> None:
    sae = make(VARIANTS["top k"])
    sae.screening = Screening(path)
    tokens = [batch[: N - 7 * i] for i, batch in enumerate(batches(4))] * 6
    expected = [sae.encode_sparse(x).to_dense() for x in tokens[:4]] * 6
    sae.screening = Screening(path)
    multiply = torch.mm
    monkeypatch.setattr(torch, "mm", lambda *a, **k: (time.sleep(1e-3), multiply(*a, **k))[1])  # let the others in
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda x: sae.encode_sparse(x).to_dense(), tokens))
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(found, expected, strict=True))
    assert float(expected[0].sum()) > 0


def test_the_product_of_this_machine_is_put_to_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product that adds up in bfloat16, or cuts instead of rounding, is found out, and float32 taken instead."""
    multiply = torch.mm

    def lossy(x: Tensor, rows: Tensor, *, out: Tensor | None = None) -> Tensor:
        product = multiply(x[:, :1], rows[:1]) if rows.dtype == torch.bfloat16 else multiply(x, rows)
        return product if out is None else out.copy_(product)

    def cut(x: Tensor, rows: Tensor) -> Tensor:
        return (multiply(x.float(), rows.float()).view(torch.int32) & -65536).view(torch.float32).bfloat16()

    for ask in (keeps_bound, quickest_product):
        ask.cache_clear()
    try:
        for product in (lossy, cut):
            monkeypatch.setattr(torch, "mm", product)
            assert not keeps_bound.__wrapped__("cpu")
        assert quickest_product.__wrapped__() == torch.float32
        monkeypatch.setattr(torch, "mm", lambda x, rows, **_: multiply(x.float(), rows.float()).to(x.dtype))
        assert keeps_bound.__wrapped__("cpu")
    finally:
        for ask in (keeps_bound, quickest_product):
            ask.cache_clear()
