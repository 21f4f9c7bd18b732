"""A finished token store against its own manifest and against the cell table that it was made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cytosae.common.errors import ArtifactError
from cytosae.tokens.store.token_store import TokenStore, open_tokens

if TYPE_CHECKING:
    from cytosae.cells import CellTable


def check_store(path: Path | str, cells: CellTable | None = None) -> list[str]:
    """Say in sentences what is wrong with the token store at ``path``; an empty list where it is whole.

    Every byte is compared with its checksum; shards must follow each other without a gap and have the shapes of the
    manifest; names of cells must be as many as rows, each once, and those of ``cells`` in the same order.
    """
    try:
        store = open_tokens(path, verify=True)
    except ArtifactError as problem:
        return [str(problem)]
    problems = _shards(store)
    try:
        problems += _names(store)
    except ArtifactError as problem:
        return [*problems, str(problem)]
    return problems + (_agreement(store, cells) if cells is not None else [])


def _shards(store: TokenStore) -> list[str]:
    problems, row = [], 0
    for index, entry in enumerate(store.manifest["shards"]):
        try:
            store.open_shard(index)
        except ArtifactError as problem:
            problems.append(str(problem))
        if entry["first_row"] != row:
            problems.append(f"{store.path / entry['file']} begins with row {entry['first_row']}, but {row} is next.")
        row = entry["first_row"] + entry["rows"]
    if row != len(store):
        problems.append(f"The shards of {store.path} hold {row:,} cells, its manifest names {len(store):,}.")
    return problems


def _names(store: TokenStore) -> list[str]:
    twice = len(store.cell_ids) - len(set(store.cell_ids))
    return [f"{store.path} names {twice:,} cells twice."] if twice else []


def _agreement(store: TokenStore, cells: CellTable) -> list[str]:
    wanted, there = list(cells.frame["cell_id"]), store.cell_ids
    missing, extra = set(wanted) - set(there), set(there) - set(wanted)
    if missing or extra:
        return [
            f"{store.path} lacks {len(missing):,} of the {len(wanted):,} cells of the table {cells.name!r} and holds "
            f"{len(extra):,} others; extract the tokens again."
        ]
    return [] if wanted == there else [f"{store.path} holds the cells of {cells.name!r} in another order."]
