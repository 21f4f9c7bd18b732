"""The Triton kernels: against their twins on a GPU or in Triton's interpreter, and compiled for a GPU without one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from cytosae.sae import SparseAutoencoder, TopK, TrainConfig, Trainer
from cytosae.sae.screening import backend as backend_module
from cytosae.sae.screening import paths, plain, update
from cytosae.sae.screening import screen as screen_module
from cytosae.sae.screening.backend import Backend, backend, backend_for
from cytosae.sae.screening.bound import rounded, row_margins
from cytosae.sae.screening.screen import Entries, Screen
from cytosae.sae.training import optimisation as optimisation_module

pytest.importorskip("triton", reason="needs triton, which comes with torch on Linux")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
ON_GPU = torch.cuda.is_available() and not INTERPRETED
DEVICE = "cuda" if ON_GPU else "cpu"
runs = pytest.mark.skipif(
    not (ON_GPU or INTERPRETED),
    reason="needs a CUDA device; test_kernels_agree_in_the_interpreter runs these without",
)
native = pytest.mark.skipif(INTERPRETED, reason="the interpreter does not compile")
DTYPES = (torch.bfloat16, torch.float32)
WIDTHS = (1, 130)


@native
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kernels_agree_in_the_interpreter() -> None:
    """The tests below in a process of their own: the choice is made when triton is imported."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", str(Path(__file__))]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


def problem(n: int = 2, m: int = 300, d: int = 33, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    x, rows = torch.randn(n, d, generator=g), torch.randn(m, d, generator=g) / d**0.5
    rows[m // 2 :: 7] = rows[: len(rows[m // 2 :: 7])]  # ties
    x[1], rows[3] = 0, 0
    return x.to(DEVICE), rows.to(DEVICE), 0.1 * torch.randn(m, generator=g).to(DEVICE)


def places(n: int, m: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(columns, offsets) of some entries; some tokens have none."""
    counts = torch.tensor([3, 0, 1, 5, 0] * n)[:n]
    offsets = torch.zeros(n + 1, dtype=torch.int64)
    offsets[1:] = counts.cumsum(0)
    columns = torch.randint(0, m, (int(counts.sum()),), generator=torch.Generator().manual_seed(seed))
    return columns.to(DEVICE), offsets.to(DEVICE)


def scored(kernels: Any, x: Tensor, rows: Tensor, bias: Tensor, columns: Tensor, offsets: Tensor) -> Tensor:
    columns = columns.to(torch.int32)
    order, token, _ = kernels.by_latent(columns, offsets, len(rows))
    out = x.new_empty(len(columns))
    kernels.scores(x, rows, bias, columns, order, token, out)
    return out


def choosing() -> Backend:
    """The kernels; in the interpreter, which takes 2 ms for a score, only those that choose the candidates."""
    if ON_GPU:
        return backend("triton")
    numba, ours = backend("numba"), backend("triton")
    parts = dict.fromkeys(("by_latent", "scores", "top_per_token"), numba) | dict.fromkeys(("scan", "round_rows"), ours)
    return cast("Backend", SimpleNamespace(**{name: getattr(owner, name) for name, owner in parts.items()}))


def blocks_of(latents: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ON_CPU", "ON_GPU"):
        monkeypatch.setattr(screen_module, name, getattr(screen_module, name)._replace(latents=latents))


def all_scores(kernels: Any, x: Tensor, rows: Tensor, bias: Tensor) -> Tensor:
    n, m = len(x), len(rows)
    offsets = torch.arange(0, n * m + 1, m, device=x.device)
    every = torch.arange(m, dtype=torch.int32, device=x.device).repeat(n)
    return scored(kernels, x, rows, bias, every, offsets).view(n, m)


@runs
@pytest.mark.parametrize("d", WIDTHS)
def test_scores_and_dots_are_those_of_the_twins(d: int) -> None:
    x, rows, bias = problem(n=5, d=d)
    columns, offsets = places(len(x), len(rows))
    found, expected = (scored(kernels, x, rows, bias, columns, offsets) for kernels in (backend("triton"), plain))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    outs = [x.new_empty(len(columns)) for _ in range(2)]
    for kernels, out in zip((backend("triton"), plain), outs, strict=True):
        kernels.dots(x, rows, columns, offsets, out)
    torch.testing.assert_close(*outs, rtol=1e-5, atol=1e-6)


@runs
def test_a_score_has_the_same_bits_whatever_its_neighbours_and_its_place_in_memory() -> None:
    x, rows, bias = problem(n=3, d=77)
    whole = all_scores(backend("triton"), x, rows[:9], bias[:9])
    for i in range(2, len(x)):
        moved = torch.cat([x.new_zeros(1 + i), x[i]])[1 + i :].view(1, -1)  # not aligned
        for j in range(9):
            one = torch.tensor([j], dtype=torch.int32, device=x.device)
            offsets = torch.tensor([0, 1], device=x.device)
            assert torch.equal(scored(backend("triton"), moved, rows, bias, one, offsets)[0], whole[i, j])


@runs
@pytest.mark.parametrize("d", WIDTHS)
def test_rows_are_rounded_as_by_the_twin_and_norms_are_upper_bounds(d: int) -> None:
    g = torch.Generator().manual_seed(0)
    rows = (torch.randn(20, d, generator=g) * torch.logspace(-40, 18, 20)[:, None]).to(DEVICE)
    rows[5], rows[6], rows[7] = 0, 1 + 2.0**-8, 1 + 3 * 2.0**-8  # ties, to even
    out, norm, residual = rows.new_empty(20, d, dtype=torch.bfloat16), rows.new_empty(20), rows.new_empty(20)
    backend("triton").round_rows(rows, out, norm, residual, row_margins(d))
    assert torch.equal(out.view(torch.int16), rounded(rows, torch.bfloat16).view(torch.int16))
    assert bool((norm.double() >= torch.linalg.vector_norm(rows.double(), dim=1)).all())
    assert bool((residual.double() >= torch.linalg.vector_norm(rows.double() - out.double(), dim=1)).all())
    expected = rows.new_empty(20), rows.new_empty(20)
    plain.round_rows(rows, out, *expected, row_margins(d))
    torch.testing.assert_close((norm, residual), expected, rtol=1e-5, atol=0)


@runs
@pytest.mark.filterwarnings("ignore:invalid value encountered")  # numpy's, from the interpreter
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_row_that_is_not_finite_shows_in_its_norm(bad: float) -> None:
    rows = torch.ones(2, 5, device=DEVICE)
    rows[1, 3] = bad
    norm, residual = rows.new_empty(2), rows.new_empty(2)
    backend("triton").round_rows(rows, rows.bfloat16(), norm, residual, row_margins(5))
    assert torch.isfinite(norm).tolist() == [True, False]


@runs
@pytest.mark.parametrize("d", WIDTHS)
def test_unit_rows_are_those_of_the_twin_and_done_twice_change_nothing(d: int) -> None:
    rows = 3 * torch.randn(30, d, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    rows[7] = 0
    expected = rows.clone()
    backend("triton").unit_rows(rows)
    plain.unit_rows(expected)
    torch.testing.assert_close(rows, expected, rtol=1e-6, atol=1e-7)
    once = rows.clone()
    backend("triton").unit_rows(rows)
    assert torch.equal(rows, once)


def stepped(kernels: Any, d: int, *, extra: bool, unit: bool) -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(0)
    counts = torch.tensor([0, 1, 4, 5, 9, 0, 3, 2])
    m, n, nnz = len(counts), 6, int(counts.sum())
    begin = torch.zeros(m + 1, dtype=torch.int64)
    begin[1:] = counts.cumsum(0)
    rows, first, dense = (torch.randn(m, d, generator=g) for _ in range(3))
    rows /= torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    second = torch.rand(m, d, generator=g)
    first[0], second[0] = 0, 0  # a latent that has never fired
    gradients = (begin, torch.randint(0, n, (nnz,), generator=g, dtype=torch.int32), torch.randn(nnz, generator=g))
    gradients = tuple(t.to(DEVICE) for t in (*gradients, torch.randn(n, d, generator=g)))
    rows, first, second, dense = (t.to(DEVICE) for t in (rows, first, second, dense))
    rates = (1e-2, 0.1, 0.999, 0.001, 0.05, 1e-8)
    kernels.update_rows(rows, first, second, gradients, dense if extra else dense[:0], rates, unit)
    return rows, first, second


@runs
@pytest.mark.parametrize("d", WIDTHS)
@pytest.mark.parametrize(("extra", "unit"), [(False, False), (True, False), (True, True)])
def test_rows_step_as_by_the_twin(d: int, extra: bool, unit: bool) -> None:
    found = stepped(backend("triton"), d, extra=extra, unit=unit)
    expected = stepped(plain, d, extra=extra, unit=unit)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    if unit:
        again = found[0].clone()
        backend("triton").unit_rows(again)
        assert torch.equal(again, found[0])
    once_more = stepped(backend("triton"), d, extra=extra, unit=unit)
    assert all(torch.equal(a, b) for a, b in zip(found, once_more, strict=True))


def assert_entries(entries: Entries, scores: Tensor, mask: Tensor) -> None:
    assert torch.equal(entries.offsets.diff(), mask.sum(1))
    assert torch.equal(entries.columns, mask.nonzero()[:, 1])
    assert torch.equal(entries.scores, scores[mask])


def expected_top(scores: Tensor, k: int) -> Tensor:
    chosen = torch.argsort(scores, dim=1, descending=True, stable=True)[:, :k]
    mask = torch.zeros_like(scores, dtype=torch.bool)
    return mask.scatter_(1, chosen, torch.ones_like(chosen, dtype=torch.bool)) & (scores > 0)


def hard(kind: str) -> tuple[Tensor, Tensor, Tensor]:
    x, rows, bias = problem(m=300 if ON_GPU else 150)  # the interpreter takes its time
    m = len(rows)
    match kind:
        case "aligned roundings":
            x = torch.full_like(x, 1 + 2.0**-8 - 2.0**-20) * x.sign()
            rows = torch.full_like(rows, 1 + 2.0**-8 + 2.0**-20) * rows.sign()
        case "norms from tiny to huge":
            x = x * torch.logspace(-18, 12, len(x), device=x.device)[:, None]
            rows = rows * torch.logspace(-12, 12, m, device=x.device)[:, None]
        case "duplicates":
            rows[m // 2 :], bias[m // 2 :] = rows[: m // 2].clone(), bias[: m // 2].clone()
        case "one score":
            rows[:], bias[:] = rows[0].clone(), 0
        case "products that underflow":
            x, rows, bias = x * 1e-20, rows * 1e-20, bias * 0
        case "large bias":
            bias = 500 * bias
        case "all negative":
            bias[:] = -100
    return x.contiguous(), rows.contiguous(), bias


KINDS = (
    "random", "aligned roundings", "norms from tiny to huge", "duplicates", "one score", "products that underflow",
    "large bias", "all negative",
)  # fmt: skip


@runs
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_active_sets_are_exactly_those_of_all_scores(kind: str, dtype: torch.dtype) -> None:
    x, rows, bias = hard(kind)
    kernels = choosing()
    scores = all_scores(kernels, x, rows, bias)
    screen = Screen(dtype, kernels=kernels)
    for k in (1, 16, len(rows) - 1, len(rows)):
        assert_entries(screen.top_per_token(x, rows, bias, k), scores, expected_top(scores, k))
    median = float(scores.flatten().median().clamp_min(0))
    assert_entries(screen.above(x, rows, bias, median), scores, scores > median)
    limits = scores.abs().mean(0)
    assert_entries(screen.above(x, rows, bias, limits), scores, scores > limits)


@runs
@pytest.mark.parametrize("kind", ["tokens", "rows", "storage"])
def test_the_best_latent_is_found_where_only_one_term_of_the_bound_saves_it(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Latent 256, of the second block, has the best score, but 0 and 1 raise the floor above its rounded product."""
    blocks_of(256, monkeypatch)
    half, h = 1 + 2.0**-8 - 2.0**-20, 24  # rounds down
    x, rows, bias = torch.zeros(1, 2 * h + 1), torch.zeros(512, 2 * h + 1), torch.zeros(512)
    if kind == "storage":
        x[0, :2] = torch.tensor([1.0, 2.0**-8 - 2.0**-12])
        rows[256, :2], rows[0, 0] = 1, 0.5
        bias[:256] = 0.5 + 2.0**-9
    else:  # a common part -h makes the scores small, so that only the named roundings matter
        x[:], rows[[0, 256], -1] = 1, -float(h)
        rows[256, :h], rows[0, h : 2 * h] = 1, 1
        rows[0, h] += h * 2.0**-9
        (x if kind == "tokens" else rows[256:])[0, :h] = half
    rows[1], bias[1] = rows[0], bias[0] - 2.0**-12
    tensors = (t.to(DEVICE) for t in (x, rows, bias))
    assert Screen(kernels=choosing()).top_per_token(*tensors, 1).columns.tolist() == [256]


@runs
@pytest.mark.parametrize("capacity", [1, 24, 100])
def test_lists_that_overrun_have_an_exact_way_out(capacity: int) -> None:
    x, rows, bias = problem()
    kernels = choosing()
    scores = all_scores(kernels, x, rows, bias)
    screen = Screen(kernels=kernels, capacity=capacity)
    for k in (1, 40, 200):
        assert_entries(screen.top_per_token(x, rows, bias, k), scores, expected_top(scores, k))
    assert_entries(screen.above(x, rows, bias, 0.0), scores, scores > 0)
    assert screen.counters.overruns > 0


@runs
def test_several_blocks_raise_the_floor_and_leave_few_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks_of(512, monkeypatch)
    x, rows, bias = problem(n=2, m=1200, d=64)  # three blocks, the last one of another size
    kernels = choosing()
    screen = Screen(kernels=kernels)
    found = screen.top_per_token(x, rows, bias, 8)
    assert screen.counters.overruns == 0
    assert screen.counters.candidates < 2 * 8 * 5
    scores = all_scores(kernels, x, rows, bias)
    assert_entries(found, scores, expected_top(scores, 8))


@runs
def test_all_kernels_together_choose_exactly() -> None:
    x, rows, bias = problem(n=2, m=270)
    scores = all_scores(backend("triton"), x, rows, bias)
    screen = Screen(kernels=backend("triton"))
    assert_entries(screen.top_per_token(x, rows, bias, 5), scores, expected_top(scores, 5))


@runs
def test_training_by_these_kernels_follows_dense_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(path: paths.Path) -> tuple[SparseAutoencoder, list[float]]:
        sae = SparseAutoencoder(20, 48, TopK(k=3, aux_k=0), seed=1).to(DEVICE)
        config = TrainConfig(path=path, batch_tokens=6, decoder_bias="keep", warmup_steps=2, epsilon=1e-5)
        trainer, g = Trainer(sae, config), torch.Generator().manual_seed(0)
        return sae, [trainer.step(torch.randn(6, 20, generator=g).to(DEVICE)).loss for _ in range(2)]

    _, expected = train("dense")
    for module in (paths, update):
        monkeypatch.setattr(module, "backend_for", lambda _: backend("triton"))
    monkeypatch.setattr(optimisation_module, "has_kernels", lambda _: True)
    sae, losses = train("screened")
    assert sae.screening.screen is not None
    assert sae.screening.screen.kernels is backend("triton")
    assert losses == pytest.approx(expected, rel=1e-4)


@native
def test_plain_twins_serve_where_triton_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cytosae.sae.screening.triton_kernels", None)  # as if it could not be imported
    monkeypatch.delattr("cytosae.sae.screening.triton_kernels", raising=False)
    caches = (backend_module.backend, backend_module.triton_works)
    for cached in caches:
        cached.cache_clear()
    try:
        assert not backend_module.triton_works()
        assert backend_for(torch.device("cuda")) is plain
        assert not backend_module.has_kernels(torch.device("cuda"))
        assert backend_for(torch.device("cpu")) is backend("numba")
    finally:
        for cached in caches:
            cached.cache_clear()


F32, BF16, INT16, INT32, INT64 = "*fp32", "*bf16", "*i16", "*i32", "*i64"
SIZES: dict[str, Any] = {"D": 768, "SIZE": 1024}
KERNELS: dict[str, tuple[str, list[str], dict[str, Any]]] = {
    "scores": ("_pairs", [F32, F32, F32, INT32, INT64, INT32, F32], {**SIZES, "SCORES": True}),
    "dots": ("_pairs", [F32, F32, F32, INT64, INT64, INT32, F32], {**SIZES, "SCORES": False}),
    "round_rows": ("_round_rows", [F32, INT16, F32, F32, *["fp32"] * 3], SIZES),
    "unit_rows": ("_unit_rows", [F32], SIZES),
    **{
        f"update_rows, {name}": (
            "_update_rows",
            [F32, F32, F32, INT64, INT32, F32, F32, F32, *["fp32"] * 6],
            {**SIZES, "EXTRA": extra, "UNIT": unit},
        )
        for name, extra, unit in (("encoder", False, False), ("decoder", False, True), ("dense part", True, True))
    },
    **{
        f"scan, {stored}, {'top k' if raises else 'threshold'}": (
            "_scan",
            [stored, *["i32"] * 4, *[F32] * 9, "fp32", "i32", INT32, F32, F32, "i32", INT32, F32, INT32],
            {"CELL": 256, "STEPS": 24, "SPARE": 8, "RAISES": raises},
        )
        for stored in (BF16, F32)
        for raises in (True, False)
    },
}


@native
@pytest.mark.parametrize("name", KERNELS)
def test_kernels_compile_for_an_h100(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Down to machine code, without a GPU; no float is added atomically, nothing is rounded to tf32."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from cytosae.sae.screening import triton_kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel, types, constants = KERNELS[name]
    function = getattr(triton_kernels, kernel)
    variables = iter(types)
    signature = {n: "constexpr" if n in constants else next(variables) for n in function.arg_names}
    options = {"num_warps": 4, "enable_fp_fusion": False} if kernel.endswith("rows") else {"num_warps": 1}
    source = ASTSource(function, signature, constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    assert len(compiled.asm["cubin"]) > 1000
    assert not any(word in compiled.asm["ptx"] for word in ("atom.", "red.global", "tf32", ".approx", ".ftz"))
