"""Which tokens count: found in images, kept, and drawn by training."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cytosae.cells import load_mask, read_cells
from cytosae.cells.focus.patch_grid import patch_areas
from cytosae.common.errors import ArtifactError, InputError
from cytosae.tokens import (
    FocusedStore,
    ReaderConfig,
    TokenReader,
    TokensInFocus,
    find_tokens_in_focus,
    open_tokens_in_focus,
    save_tokens_in_focus,
)
from cytosae.tokens.focus.tokens_in_focus import image_in_focus, in_focus
from cytosae.tokens.store.subset import SelectedCells

TOKENS = 17


@pytest.fixture
def chosen(store) -> TokensInFocus:
    """Some random tokens of each cell; all of the fourth, as where no cell was found."""
    rng = np.random.default_rng(0)
    tokens = [np.sort(rng.choice(np.arange(1, TOKENS), 1 + row % 5, replace=False)) for row in range(len(store))]
    tokens[3] = np.arange(TOKENS)
    found = np.arange(len(store)) != 3
    index = pd.Index(store.cell_ids, name="cell_id")
    return TokensInFocus(
        "cell", pd.DataFrame({"found": found, "tokens": pd.Series(tokens, dtype=object)}).set_index(index)
    )


def drawn(reader: TokenReader, n: int) -> set[tuple[float, ...]]:
    return {
        (int(p), *row.tolist())
        for batch in (next(reader) for _ in range(n))
        for p, row in zip(batch.positions, batch.tokens, strict=True)
    }


def test_patches_count_where_half_of_them_is_what_is_looked_for():
    shares = np.array([[0.5, 0.3, 0.0, 0.0], [0.0, 0.3, 0.49, 0.0], [0.5, 0.4, 0.51, 1.0]])
    assert in_focus(shares, "cell")[0].tolist() == [False, True, True, False, False]
    assert in_focus(shares, "nucleus")[0].tolist() == [False, True, False, False, False]
    assert in_focus(shares, "all")[0].all()


def test_something_small_keeps_its_best_patch_and_nothing_keeps_all():
    small = np.array([[0.1, 0.2], [0.0, 0.0], [0.9, 0.8]])
    assert in_focus(small, "cell")[0].tolist() == [False, False, True]
    counted, found = in_focus(np.array([[0.0, 0.0], [0.3, 0.0], [0.7, 1.0]]), "nucleus")
    assert counted.all()
    assert not found


def test_the_masks_of_a_user_say_where_the_cell_is(smear):
    cells = read_cells(smear).subset(np.arange(5))
    found = find_tokens_in_focus(cells, "nucleus", (8, 8))
    for row, cell in enumerate(cells.frame["cell_id"]):
        share = patch_areas(load_mask(cells.mask_path(row)), 2, (8, 8)).ravel()
        assert found.table.at[cell, "tokens"].tolist() == (1 + np.flatnonzero(share >= min(0.5, share.max()))).tolist()
    assert found.not_found == []


def test_an_image_without_a_cell_keeps_all_tokens():
    assert image_in_focus(np.full((40, 40, 3), 230, np.uint8), "cell", (4, 4)).all()


def test_what_is_kept_comes_back_and_damage_is_noticed(chosen, tmp_path, store):
    path = save_tokens_in_focus(chosen, tmp_path / "focus.parquet")
    again = open_tokens_in_focus(path)
    assert again.focus == "cell"
    assert again.not_found == [store.cell_ids[3]]
    assert np.array_equal(again.counted(store.cell_ids, TOKENS), chosen.counted(store.cell_ids, TOKENS))
    with pytest.raises(InputError, match="abc"):
        again.counted(["abc"], TOKENS)
    with pytest.raises(InputError, match="a cell has 4"):
        again.counted(store.cell_ids, 4)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ArtifactError, match=r"focus\.parquet"):
        open_tokens_in_focus(path)


@pytest.mark.parametrize("memory", [1 << 30, 0], ids=["in memory", "from disk"])
def test_training_draws_every_token_in_focus_once_an_epoch_and_no_other(store, chosen, memory):
    focused = FocusedStore(store, chosen)
    counted = chosen.counted(store.cell_ids, TOKENS)
    total = int(counted.sum())
    config = ReaderConfig(batch_tokens=1, memory_bytes=memory, buffer_tokens=16, run_tokens=4)
    reader = TokenReader([focused], config)
    assert reader.tokens_per_epoch == total
    rows, positions = np.nonzero(counted)
    tokens = store.read(0, len(store)).numpy()
    expected = {(int(p), *tokens[r, p].tolist()) for r, p in zip(rows, positions, strict=True)}
    assert drawn(reader, total) == expected
    sample = reader.sample(total, 0)
    assert {(int(p), *row.tolist()) for p, row in zip(sample.positions, sample.tokens, strict=True)} == expected


def test_stores_with_and_without_a_focus_are_read_as_one(store, chosen):
    few = SelectedCells(FocusedStore(store, chosen), [1, 3, 6])
    reader = TokenReader(
        [few, store, few], ReaderConfig(batch_tokens=1, memory_bytes=0, buffer_tokens=64, run_tokens=3)
    )
    counted = chosen.counted(store.cell_ids, TOKENS)
    assert reader.tokens_per_epoch == 2 * counted[[1, 3, 6]].sum() + counted.size
    tokens = store.read(0, len(store)).numpy()
    everything = {(p, *tokens[r, p].tolist()) for r in range(len(store)) for p in range(TOKENS)}
    assert drawn(reader, reader.tokens_per_epoch) == everything


def test_a_focus_on_everything_reads_as_the_store_itself(store):
    every = TokensInFocus(
        "cell",
        pd.DataFrame({"found": True, "tokens": [np.arange(TOKENS)] * len(store)}, index=pd.Index(store.cell_ids)),
    )
    for config in (ReaderConfig(batch_tokens=7), ReaderConfig(batch_tokens=7, memory_bytes=0, buffer_tokens=40)):
        one, other = TokenReader([store], config), TokenReader([FocusedStore(store, every)], config)
        for _ in range(60):
            a, b = next(one), next(other)
            assert a.tokens.equal(b.tokens)
            assert a.positions.equal(b.positions)


def test_an_interrupted_training_refuses_another_focus(store, chosen):
    config = ReaderConfig(batch_tokens=4)
    reader, other = TokenReader([store], config), TokenReader([FocusedStore(store, chosen)], config)
    with pytest.raises(InputError, match="other tokens"):
        other.load_state_dict(reader.state_dict())
