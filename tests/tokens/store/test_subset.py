from __future__ import annotations

import numpy as np
import pytest
import torch

from cytosae.common.errors import InputError
from cytosae.tokens import ReaderConfig, TokenReader
from cytosae.tokens.store.subset import SelectedCells

ROWS = [1, 2, 5, 6, 7, 13, 19]


def test_selected_cells_are_those_of_the_store_in_order(store):
    chosen = SelectedCells(store, ROWS[::-1])
    assert len(chosen) == len(ROWS)
    assert chosen.cell_ids == [store.cell_ids[row] for row in ROWS]
    whole = store.read(0, len(store))
    assert torch.equal(chosen.read(0, len(ROWS)), whole[ROWS])
    assert torch.equal(chosen.read(2, 6), whole[ROWS[2:6]])


@pytest.mark.parametrize("memory", [0, 1 << 30])
def test_a_reader_gives_the_tokens_of_selected_cells_and_no_others(store, memory):
    chosen = SelectedCells(store, ROWS)
    config = ReaderConfig(batch_tokens=len(ROWS) * store.n_tokens, memory_bytes=memory)
    (tokens, positions) = next(TokenReader([chosen], config))
    expected = store.read(0, len(store))[ROWS].reshape(-1, store.width)
    assert torch.equal(torch.sort(tokens[:, 0]).values, torch.sort(expected[:, 0]).values)
    assert np.bincount(positions.numpy()).tolist() == [len(ROWS)] * store.n_tokens


def test_other_cells_are_another_fingerprint(store):
    assert SelectedCells(store, ROWS).fingerprint != SelectedCells(store, ROWS[1:]).fingerprint


@pytest.mark.parametrize("rows", [[], [-1], [20]])
def test_rows_that_are_not_there_are_refused(store, rows):
    with pytest.raises(InputError, match="has 20 cells"):
        SelectedCells(store, rows)
