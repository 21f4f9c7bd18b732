"""Screening finds exactly the entries that computing every float32 score finds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cytosae.common.errors import InputError, UsageError
from cytosae.sae.screening import screen as screen_module
from cytosae.sae.screening.backend import backend
from cytosae.sae.screening.bound import SLACK, STORED, latent_terms, margins, token_terms
from cytosae.sae.screening.screen import Screen

DTYPES = (torch.bfloat16, torch.float32)


def all_scores(x: Tensor, rows: Tensor, bias: Tensor) -> Tensor:
    """(N, m) scores by the kernel that computes candidates' scores, here for every latent."""
    n, m = len(x), len(rows)
    columns = torch.arange(m, dtype=torch.int32).repeat(n)
    offsets = torch.arange(0, n * m + 1, m)
    order, token, _ = backend().by_latent(columns, offsets, m)
    out = torch.empty(n * m)
    backend().scores(x, rows, bias, columns, order, token, out)
    return out.view(n, m)


def expected_top(scores: Tensor, k: int) -> Tensor:
    """(N, m) bool: the k largest positive scores of each row, ties to the lower index."""
    mask = torch.zeros_like(scores, dtype=torch.bool)
    chosen = torch.argsort(scores, dim=1, descending=True, stable=True)[:, :k]
    return mask.scatter_(1, chosen, torch.ones_like(chosen, dtype=torch.bool)) & (scores > 0)


def assert_entries(entries, scores: Tensor, mask: Tensor) -> None:
    """The entries are exactly the marked scores, bit for bit, in order."""
    assert torch.equal(entries.offsets.diff(), mask.sum(1))
    assert torch.equal(entries.columns, mask.nonzero()[:, 1])
    assert torch.equal(entries.scores, scores[mask])


def random_problem(seed: int, n: int = 24, m: int = 700, d: int = 48) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    x, rows = torch.randn(n, d, generator=g), torch.randn(m, d, generator=g) / d**0.5
    return x, rows, 0.1 * torch.randn(m, generator=g)


def adversarial(kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, rows and bias that are hard for a rounded product."""
    x, rows, bias = random_problem(7)
    g = torch.Generator().manual_seed(8)
    half = 1 + 2.0**-8  # halfway between two bfloat16 numbers
    match kind:
        case "aligned roundings":  # every factor rounds the same way by nearly half a unit
            x = torch.full_like(x, half - 2.0**-20) * x.sign()
            rows = torch.full_like(rows, half + 2.0**-20) * torch.where(
                torch.rand(rows.shape, generator=g) < 0.5, 1, -1
            )
            rows[:350] = rows[:350].abs() * x[0].sign()
        case "norms from tiny to huge":
            x = x * torch.logspace(-18, 12, len(x))[:, None]
            rows = rows * torch.logspace(-12, 12, len(rows))[:, None]
        case "beyond bfloat16 products":
            x[3] *= 1e25
            x[5] = 0
            rows *= 1e8
        case "zeros":
            x[::2] = 0
            rows[::3] = 0
            bias[::5] = 0
        case "duplicates":
            rows[350:] = rows[:350]
            bias[350:] = bias[:350]
        case "subnormals":
            x = x * 1e-38
            rows[::2] *= 1e-3
            bias[:] = 0
        case "products that underflow":
            x, rows, bias = x * 1e-20, rows * 1e-20, bias * 0
        case "cancellation":
            x[:, 1::2] = -x[:, ::2] * (1 + 2.0**-12)
            rows[:, 1::2] = rows[:, ::2]
        case "large bias":
            bias = 50 * torch.randn(len(rows), generator=g)
        case "all negative":
            bias[:] = -100
    return x.contiguous(), rows.contiguous(), bias


def tight(kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """Cases that reach a term of the bound: latent 0 has the best score, but latent 256 the best rounded product."""
    half, h = 1 + 2.0**-8 - 2.0**-20, 24  # just below halfway between two bfloat16 numbers: rounds down
    x, rows, bias = torch.zeros(1, 2 * h + 1), torch.zeros(512, 2 * h + 1), torch.zeros(512)
    if kind == "storage":
        x[0, :2] = torch.tensor([1.0, 2.0**-8 - 2.0**-12])
        rows[0, :2], rows[256, 0] = 1, 0.5
        bias[256:] = 0.5 + 2.0**-9
        return x, rows, bias
    # a common part -h makes the scores small, so that only the named roundings matter; the true ones: 0.094 and 0.047
    x[:], rows[[0, 256], -1] = 1, -float(h)
    rows[0, :h], rows[256, h : 2 * h] = 1, 1
    rows[256, h] += h * 2.0**-9
    (x if kind == "tokens" else rows)[0, :h] = half
    return x, rows, bias


@pytest.mark.parametrize(("kind", "term"), [("tokens", "far"), ("rows", "residual"), ("storage", "rounding")])
def test_each_term_of_the_bound_is_needed(kind: str, term: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, rows, bias = tight(kind)
    assert all_scores(x, rows, bias).argmax() == 0
    assert Screen().top_per_token(x, rows, bias, 1).columns.tolist() == [0]
    if term == "far":
        near_only = token_terms(x, torch.bfloat16, backend().round_rows, x.bfloat16())
        monkeypatch.setattr(screen_module, "token_terms", lambda *_: near_only._replace(far=torch.zeros(1)))
    elif term == "residual":
        exact = torch.zeros(len(rows))
        monkeypatch.setattr(screen_module, "latent_terms", lambda *a: latent_terms(*a)._replace(residual=exact))
    else:
        monkeypatch.setitem(STORED, torch.bfloat16, SLACK)
    assert Screen().top_per_token(x, rows, bias, 1).columns.tolist() == [256]


KINDS = (
    "aligned roundings", "norms from tiny to huge", "beyond bfloat16 products", "zeros", "duplicates", "subnormals",
    "products that underflow", "cancellation", "large bias", "all negative",
)  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_hard_inputs_keep_their_exact_active_sets(kind: str, dtype: torch.dtype) -> None:
    x, rows, bias = adversarial(kind)
    scores = all_scores(x, rows, bias)
    for k in (1, 16, 699, 700):
        assert_entries(Screen(dtype).top_per_token(x, rows, bias, k), scores, expected_top(scores, k))
    median = float(scores.flatten().median().clamp_min(0))
    assert_entries(Screen(dtype).above(x, rows, bias, median), scores, scores > median)
    limits = scores.abs().mean(0)
    assert_entries(Screen(dtype).above(x, rows, bias, limits), scores, scores > limits)
    expected = expected_top(scores.view(1, -1), 16 * len(x)).view_as(scores)
    assert_entries(Screen(dtype).top_of_batch(x, rows, bias, 16), scores, expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_every_score_lies_within_its_bound(kind: str, dtype: torch.dtype) -> None:
    x, rows, _ = adversarial(kind)
    tokens = token_terms(x, dtype, backend().round_rows, torch.empty_like(x, dtype=dtype))
    terms = latent_terms(rows, dtype, backend().round_rows, torch.empty_like(rows, dtype=dtype))
    usable = tokens.near * terms.norm.max() < 2.0**100
    t = torch.mm(tokens.rounded, terms.rounded.T).double()[usable]
    exact = (x.double() @ rows.double().T)[usable]
    near, far = tokens.near.double()[usable], tokens.far.double()[usable]
    error = torch.outer(near, terms.residual.double()) + torch.outer(far, terms.norm.double())
    error += STORED[dtype] * t.abs() + margins(x.shape[1]).absolute
    assert bool(((exact - t).abs() <= error).all())


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    n=st.integers(1, 9),
    m=st.integers(1, 600),
    d=st.integers(1, 40),
    k=st.integers(1, 40),
    scale=st.integers(-30, 20),
    spread=st.integers(0, 12),
    levels=st.sampled_from([0, 2, 5]),
    capacity=st.sampled_from([None, 1, 40]),
    dtype=st.sampled_from(DTYPES),
)
def test_top_k_is_that_of_all_float32_scores(seed, n, m, d, k, scale, spread, levels, capacity, dtype) -> None:
    x, rows, bias = random_problem(seed, n, m, d)
    if levels:  # few different values: many equal scores
        x, rows, bias = (torch.round(levels * t) / levels for t in (x, rows, bias))
    rows *= 2.0 ** (spread * torch.rand(m, 1, generator=torch.Generator().manual_seed(seed)) - spread)
    x = x * 2.0**scale
    scores = all_scores(x, rows, bias)
    screen = Screen(dtype, capacity=capacity)
    assert_entries(screen.top_per_token(x, rows, bias, min(k, m)), scores, expected_top(scores, min(k, m)))
    assert_entries(screen.above(x, rows, bias, 0.0), scores, scores > 0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_overrun_lists_have_an_exact_way_out_and_are_counted(dtype: torch.dtype) -> None:
    x, rows, bias = random_problem(1, n=50)
    scores = all_scores(x, rows, bias)
    screen = Screen(dtype, capacity=24)
    assert_entries(screen.above(x, rows, bias, 0.3), scores, scores > 0.3)
    assert 0 < screen.counters.overruns <= 50
    assert screen.counters.tokens == 50


def test_only_few_latents_are_candidates_of_random_tokens() -> None:
    x, rows, bias = random_problem(2, n=64, m=4096, d=256)
    screen = Screen()
    screen.top_per_token(x, rows, bias, 16)
    assert screen.counters.overruns == 0
    assert screen.counters.candidates < 64 * 16 * 4


def test_a_changed_encoder_is_seen() -> None:
    x, rows, bias = random_problem(3)
    screen = Screen()
    screen.top_per_token(x, rows, bias, 8)
    rows.mul_(torch.linspace(-2, 2, len(rows))[:, None])
    scores = all_scores(x, rows, bias)
    assert_entries(screen.top_per_token(x, rows, bias, 8), scores, expected_top(scores, 8))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_token_that_is_not_finite_is_named(bad: float) -> None:
    x, rows, bias = random_problem(4)
    x[5, 3] = bad
    with pytest.raises(InputError, match="token 5 of this batch of 24"):
        Screen().top_per_token(x, rows, bias, 8)


def test_scores_that_overflow_are_an_error() -> None:
    x, rows, bias = random_problem(5)
    x[2] = 1e38
    with pytest.raises(InputError, match="overflow"):
        Screen().above(x, rows.abs() * 1e5, bias, 0.0)


def test_no_tokens_have_no_entries() -> None:
    _, rows, bias = random_problem(6)
    entries = Screen().top_per_token(torch.empty(0, 48), rows, bias, 8)
    assert entries.offsets.tolist() == [0]
    assert len(entries.columns) == 0


@pytest.mark.parametrize("threads", [1, 2])
def test_entries_do_not_depend_on_threads(threads: int) -> None:
    x, rows, bias = random_problem(9, n=100)
    before = torch.get_num_threads()
    expected = Screen().top_per_token(x, rows, bias, 8)
    try:
        torch.set_num_threads(threads)
        found = Screen().top_per_token(x, rows, bias, 8)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_products_of_lowered_precision_are_refused() -> None:
    x, rows, bias = random_problem(10)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with pytest.raises(UsageError, match="highest"):
            Screen(torch.float32).above(x, rows, bias, 0.0)
    finally:
        torch.set_float32_matmul_precision(before)
