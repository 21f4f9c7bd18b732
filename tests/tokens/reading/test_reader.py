from __future__ import annotations

import itertools
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokens.token_stubs import StubBackbone

from cytosae.cells import CellTable
from cytosae.common.errors import InputError, UsageError
from cytosae.tokens import ReaderConfig, TokenReader, TokenStore, extract, open_tokens
from cytosae.tokens.extraction.work import Recipe, Work, plan_shards
from cytosae.tokens.reading import reader as reader_module
from cytosae.tokens.store.encoding import allocate
from cytosae.tokens.store.shuffle import Order, extents


def numbered_store(path: Path, n: int, n_tokens: int = 17, *, shard_cells: int = 16, first: int = 0) -> TokenStore:
    """Token (cell c, position p) is [c // 1000, c % 1000, p]."""
    recipe = Recipe({"name": "numbered"}, "0" * 64, n_tokens, 3, 4, "float16", "float32")
    ids = [f"{first + cell:064x}" for cell in range(n)]
    work = Work(path, recipe, plan_shards(ids, shard_cells, recipe))
    work.tidy()
    for shard in work.shards:
        cells = first + torch.arange(shard.start, shard.start + len(shard.cell_ids)).view(-1, 1).expand(-1, n_tokens)
        positions = torch.arange(n_tokens).expand_as(cells)
        work.write(shard, {"tokens": torch.stack([cells // 1000, cells % 1000, positions], -1).half()})
    work.publish(path.name, shard_cells, config={}, inputs={})
    return open_tokens(path)


def names(batch) -> list[tuple[int, int]]:
    """(cell, position) of each token of a batch from numbered stores."""
    thousands, units, positions = batch.tokens.long().T
    assert torch.equal(positions, batch.positions)
    return list(zip((thousands * 1000 + units).tolist(), positions.tolist(), strict=True))


def take(reader: TokenReader, batches: int) -> list[tuple[int, int]]:
    return [name for _ in range(batches) for name in names(next(reader))]


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    return numbered_store(tmp_path_factory.mktemp("numbered") / "a", 150)


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    return numbered_store(tmp_path_factory.mktemp("numbered") / "b", 61, first=150, shard_cells=10)


IN_MEMORY = ReaderConfig(batch_tokens=50)
IN_POOLS = ReaderConfig(batch_tokens=50, memory_bytes=0, buffer_tokens=300, run_tokens=8)


@pytest.mark.parametrize("config", [IN_MEMORY, IN_POOLS])
def test_tokens_come_with_their_positions_and_values(store: TokenStore, config: ReaderConfig) -> None:
    reader = TokenReader([store], config)
    everything = {tuple(row) for row in store.read(0, len(store)).flatten(0, 1).tolist()}
    batch = next(reader)
    assert (batch.tokens.dtype, batch.tokens.shape, batch.positions.dtype) == (torch.float32, (50, 8), torch.int64)
    assert {tuple(row) for row in batch.tokens.tolist()} <= everything


@pytest.mark.parametrize("config", [IN_MEMORY, IN_POOLS])
@pytest.mark.parametrize("which", ["all", "patches", "cls"])
def test_an_epoch_gives_each_chosen_token_once(numbered, more, config, which) -> None:
    reader = TokenReader([numbered, more], replace(config, which=which, batch_tokens=17))
    positions = {"all": range(17), "patches": range(1, 17), "cls": range(1)}[which]
    n = reader.tokens_per_epoch
    assert n == 211 * len(positions)
    seen = take(reader, 3 * n // 17 + 1)
    for epoch in range(3):
        assert sorted(seen[epoch * n : (epoch + 1) * n]) == [(c, p) for c in range(211) for p in positions]
    assert seen[:n] != seen[n : 2 * n]


@settings(max_examples=150, deadline=None)
@given(
    total=st.integers(1, 3000),
    run=st.integers(1, 40),
    pool=st.integers(40, 700),
    ranks=st.integers(1, 5),
    seed=st.integers(0, 2**31),
    epoch=st.integers(0, 3),
)
def test_ranks_share_an_epoch_without_overlap_or_gap(total, run, pool, ranks, seed, epoch) -> None:
    seen = []
    for rank in range(ranks):
        order = Order(total=total, run=run, pool=pool, seed=seed, rank=rank, ranks=ranks)
        runs = order.epoch_runs(epoch)
        own = []
        for index in range(order.pools):
            tokens = order.pool_tokens(runs, index)
            assert len(tokens) == order.pool_start(index + 1) - order.pool_start(index)
            assert len(tokens) <= order.largest_pool <= max(pool, run) + order.tail
            assert np.all(np.diff(tokens) > 0)
            own += tokens.tolist()
        assert len(own) == order.rank_tokens
        seen += own
    assert sorted(seen) == list(range(total))


@given(st.integers(1, 500), st.integers(1, 9), st.integers(9, 60), st.integers(0, 5000))
def test_any_token_is_found_in_its_pool(total: int, run: int, pool: int, token: int) -> None:
    order = Order(total=total, run=run, pool=pool, seed=0, rank=0, ranks=1)
    epoch, index, place = order.find(token)
    assert epoch * total + order.pool_start(index) + place == token
    assert 0 <= place < order.pool_start(index + 1) - order.pool_start(index)


@given(st.sets(st.integers(0, 60)))
def test_extents_cover_exactly_the_numbers(numbers: set[int]) -> None:
    ascending = np.array(sorted(numbers), dtype=np.int64)
    pieces = extents(ascending)
    assert [n for start, stop in pieces for n in range(start, stop)] == sorted(numbers)
    assert all(a[1] < b[0] for a, b in itertools.pairwise(pieces))


@pytest.mark.parametrize("config", [IN_MEMORY, IN_POOLS])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(step=st.integers(0, 130))
def test_reading_resumes_bitwise_at_any_step(numbered: TokenStore, config: ReaderConfig, step: int) -> None:
    whole = TokenReader([numbered], config)
    for _ in range(step):
        next(whole)
    state = json.loads(json.dumps(whole.state_dict()))
    resumed = TokenReader([numbered], config)
    resumed.load_state_dict(state)
    for _ in range(9):
        ours, theirs = next(whole), next(resumed)
        assert torch.equal(ours.tokens, theirs.tokens)
        assert torch.equal(ours.positions, theirs.positions)


def test_batches_are_the_tokens_in_the_order_of_the_seed(numbered: TokenStore, more: TokenStore) -> None:
    tokens = torch.cat([store.read(0, len(store)).flatten(0, 1) for store in (numbered, more)])
    order = Order(total=len(tokens), run=8, pool=300, seed=0, rank=1, ranks=2)
    expected = []
    for epoch in range(3):
        runs = order.epoch_runs(epoch)
        for index in range(order.pools):
            pool = order.pool_tokens(runs, index)
            expected.append(pool[order.pool_order(epoch, index, len(pool))])
    reader = TokenReader([numbered, more], IN_POOLS, rank=1, ranks=2)
    batches = [next(reader) for _ in range(3 * order.rank_tokens // 50)]  # all kept: none may change afterwards
    chosen = torch.from_numpy(np.concatenate(expected))[: 50 * len(batches)]
    assert torch.equal(torch.cat([batch.tokens for batch in batches]), tokens[chosen])
    assert torch.equal(torch.cat([batch.positions for batch in batches]), chosen % 17)


def test_the_order_of_a_seed_is_the_same_in_every_version(numbered: TokenStore) -> None:
    assert take(TokenReader([numbered], IN_POOLS), 1)[:6] == [(22, 9), (39, 16), (95, 16), (132, 7), (20, 13), (91, 15)]
    assert take(TokenReader([numbered], IN_MEMORY), 1)[:6] == [(44, 1), (11, 6), (4, 0), (120, 2), (32, 13), (140, 16)]


@pytest.mark.parametrize("dtype", ["float16", "uint8"])
def test_two_pools_are_in_memory(cells: CellTable, small, tmp_path: Path, monkeypatch, dtype: str) -> None:
    store = extract(cells, StubBackbone(), tmp_path / "t", config=replace(small, dtype=dtype))
    rooms = []
    monkeypatch.setattr(reader_module, "allocate", lambda *asked: rooms.append(allocate(*asked)) or rooms[-1])
    reader = TokenReader([store], ReaderConfig(batch_tokens=20, memory_bytes=0, buffer_tokens=60, run_tokens=4))
    epochs = [torch.cat([next(reader).tokens for _ in range(17)]) for _ in range(3)]
    assert [len(room["tokens"]) for room in rooms] == [60, 60]
    expected = store.read(0, 20).flatten(0, 1).sort(0).values
    assert all(torch.equal(epoch.sort(0).values, expected) for epoch in epochs)


def test_a_step_is_found_without_reading_what_came_before(numbered: TokenStore, monkeypatch) -> None:
    reader = TokenReader([numbered], IN_POOLS)
    reader.load_state_dict({**reader.state_dict(), "step": 40})
    read = []
    original = TokenReader._load
    monkeypatch.setattr(
        TokenReader, "_load", lambda self, tokens, into: read.append(len(tokens)) or original(self, tokens, into)
    )
    next(reader)
    assert sum(read) <= 3 * IN_POOLS.buffer_tokens  # its pools, and one ahead


def test_another_seed_is_another_order_and_the_same_seed_the_same(numbered: TokenStore) -> None:
    first = take(TokenReader([numbered], IN_POOLS), 5)
    assert first == take(TokenReader([numbered], IN_POOLS), 5)
    assert first != take(TokenReader([numbered], replace(IN_POOLS, seed=1)), 5)


@pytest.mark.parametrize("config", [IN_MEMORY, IN_POOLS])
def test_ranks_read_disjoint_tokens(numbered: TokenStore, config: ReaderConfig) -> None:
    readers = [TokenReader([numbered], config, rank=rank, ranks=3) for rank in range(3)]
    per_rank = 16  # whole batches of an epoch
    seen = [take(reader, per_rank) for reader in readers]
    assert len(set().union(*map(set, seen))) == 3 * per_rank * 50


def test_one_state_serves_all_ranks(numbered: TokenStore) -> None:
    readers = [TokenReader([numbered], IN_POOLS, rank=rank, ranks=2) for rank in range(2)]
    next(readers[0])
    readers[1].load_state_dict(readers[0].state_dict())
    with pytest.raises(InputError, match="read other tokens or in another order"):
        TokenReader([numbered], IN_POOLS).load_state_dict(readers[0].state_dict())


def same_image_others(reader: TokenReader, batches: int) -> float:
    """Mean number of other tokens of a batch that come from the same image as a given one."""
    pairs = 0
    for _ in range(batches):
        counts = Counter(cell for cell, _ in names(next(reader)))
        pairs += sum(count * (count - 1) for count in counts.values())
    return pairs / (batches * reader.batch_tokens)


def expected_others(b: int, T: int, N: int, M: int, R: int) -> float:
    """The property that docs/token_store.md states."""
    return (b - 1) * ((R - 1) + (T - R) * (M - R) / (N - R)) / (M - 1)


@pytest.mark.slow
def test_shuffle_in_memory_is_as_good_as_a_random_order(tmp_path: Path) -> None:
    store = numbered_store(tmp_path / "s", 300, 257, shard_cells=64)
    reader = TokenReader([store], ReaderConfig(batch_tokens=1024))
    expected = 1023 * 256 / (300 * 257 - 1)
    assert same_image_others(reader, 75) == pytest.approx(expected, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("run", [16, 64])
def test_shuffle_in_pools_has_the_stated_quality(tmp_path: Path, run: int) -> None:
    store = numbered_store(tmp_path / "s", 300, 257, shard_cells=64)
    config = ReaderConfig(batch_tokens=1024, memory_bytes=0, buffer_tokens=19_200, run_tokens=run, which="patches")
    n = 300 * 256
    measured = same_image_others(TokenReader([store], config), n // 1024)
    assert measured == pytest.approx(expected_others(1024, 256, n, n / 4, run), rel=0.08)


def test_neighbours_of_one_image_never_follow_each_other_for_long(tmp_path: Path) -> None:
    store = numbered_store(tmp_path / "s", 60, 257)
    reader = TokenReader([store], ReaderConfig(batch_tokens=256, memory_bytes=0, buffer_tokens=4096))
    cells = [cell for cell, _ in take(reader, 60)]
    longest = max(len(list(group)) for _, group in itertools.groupby(cells))
    assert longest < 8


def test_sample_is_uniform_without_repeats_and_the_same_for_all_ranks(numbered: TokenStore) -> None:
    for config in (IN_MEMORY, IN_POOLS):
        sample = names(TokenReader([numbered], config).sample(700, seed=3))
        assert len(set(sample)) == 700
        assert sample == names(TokenReader([numbered], config, rank=1, ranks=2).sample(700, seed=3))
        assert sample != names(TokenReader([numbered], config).sample(700, seed=4))
        assert np.mean([cell for cell, _ in sample]) == pytest.approx(74.5, abs=6)
    assert len(TokenReader([numbered], IN_POOLS).sample(10**6, seed=0).tokens) == 150 * 17


@pytest.mark.parametrize("memory", [0, 1 << 30])
def test_stores_of_different_types_are_read_together(cells: CellTable, small, tmp_path: Path, memory: int) -> None:
    stores = [
        extract(cells, StubBackbone(), tmp_path / dtype, config=replace(small, dtype=dtype))
        for dtype in ("float16", "uint8", "bfloat16")
    ]
    reader = TokenReader(stores, ReaderConfig(batch_tokens=1020, memory_bytes=memory, buffer_tokens=1020))
    seen = reader.sample(1020, 0).tokens.sort(0).values
    expected = torch.cat([store.read(0, 20).flatten(0, 1) for store in stores]).sort(0).values
    assert torch.equal(seen, expected)


def test_eight_bit_stores_are_read_as_stored(cells: CellTable, small, tmp_path: Path) -> None:
    store = extract(cells, StubBackbone(), tmp_path / "t", config=replace(small, dtype="uint8"))
    for memory in (0, 1 << 30):
        reader = TokenReader([store], ReaderConfig(batch_tokens=340, memory_bytes=memory, buffer_tokens=340))
        assert torch.equal(next(reader).tokens.sort(0).values, store.read(0, 20).flatten(0, 1).sort(0).values)


def test_stores_of_different_backbones_are_refused(cells: CellTable, store, small, tmp_path: Path) -> None:
    other = extract(cells, StubBackbone(1), tmp_path / "t", config=small)
    with pytest.raises(InputError, match="differ in weights hash"):
        TokenReader([store, other])


def test_wrong_calls_are_refused(store: TokenStore) -> None:
    with pytest.raises(InputError, match="No token stores"):
        TokenReader([])
    with pytest.raises(UsageError, match="buffer_tokens is 10"):
        ReaderConfig(batch_tokens=20, buffer_tokens=10)
    with pytest.raises(UsageError, match="reader.which is 'some'"):
        TokenReader([store], ReaderConfig(which="some"))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="too few tokens"):
        TokenReader([store], ReaderConfig(which="cls"), rank=29, ranks=30)
