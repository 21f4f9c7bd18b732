from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tokens.token_stubs import StubBackbone, expected_tokens

from cytosae.cells import CellTable
from cytosae.common.errors import InputError
from cytosae.tokens import ReaderConfig, TokenStore, TokenStream

CONFIG = ReaderConfig(batch_tokens=34, buffer_tokens=85)  # pools of five images


def as_rows(tokens: torch.Tensor) -> list[tuple[float, ...]]:
    return sorted(tuple(row) for row in tokens.tolist())


def test_an_epoch_gives_the_stores_tokens_once(cells: CellTable, store: TokenStore, small) -> None:
    stream = TokenStream(cells, StubBackbone(), CONFIG, extraction=small)
    assert stream.tokens_per_epoch == 340
    for _ in range(2):
        epoch = torch.cat([next(stream).tokens for _ in range(10)])
        assert as_rows(epoch) == as_rows(store.read(0, 20).flatten(0, 1))


def test_positions_and_selection(cells: CellTable, small) -> None:
    stream = TokenStream(cells, StubBackbone(), replace(CONFIG, which="patches", batch_tokens=80), extraction=small)
    batch = next(stream)
    known = {
        tuple(row): p
        for image in expected_tokens(cells, StubBackbone()).half().float().tolist()
        for p, row in enumerate(image)
    }
    assert [known[tuple(row)] for row in batch.tokens.tolist()] == batch.positions.tolist()
    assert min(batch.positions) == 1


def test_it_resumes_bitwise(cells: CellTable, small) -> None:
    stream = TokenStream(cells, StubBackbone(), CONFIG, extraction=small)
    for _ in range(13):
        next(stream)
    other = TokenStream(cells, StubBackbone(), CONFIG, extraction=small)
    other.load_state_dict(stream.state_dict())
    assert torch.equal(next(stream).tokens, next(other).tokens)
    with pytest.raises(InputError, match="read other tokens"):
        TokenStream(cells, StubBackbone(1), CONFIG, extraction=small).load_state_dict(stream.state_dict())


def test_ranks_share_the_cells(cells: CellTable, store: TokenStore, small) -> None:
    streams = [TokenStream(cells, StubBackbone(), CONFIG, extraction=small, rank=r, ranks=2) for r in range(2)]
    epoch = torch.cat([next(stream).tokens for stream in streams for _ in range(5)])
    assert as_rows(epoch) == as_rows(store.read(0, 20).flatten(0, 1))


def test_sample(cells: CellTable, small) -> None:
    stream = TokenStream(cells, StubBackbone(), CONFIG, extraction=small)
    sample = stream.sample(100, seed=1)
    assert sample.tokens.shape == (100, 8)
    assert torch.equal(sample.tokens, stream.sample(100, seed=1).tokens)
    assert len(stream.sample(1000, seed=1).tokens) == 340
