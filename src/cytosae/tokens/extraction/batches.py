"""Cells to batches of prepared images, in worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from cytosae.common.artifact import hash_file
from cytosae.common.errors import CytosaeError, InputError

if TYPE_CHECKING:
    from cytosae.cells import CellTable


def prepared_batches(
    cells: CellTable,
    prepare: Callable[[Sequence[Any]], torch.Tensor],
    batches: Sequence[Sequence[int]],
    *,
    workers: int,
    change: Callable[[Any, Any], Any] | None = None,
) -> Iterator[torch.Tensor]:
    """Decode and prepare cells, batch after batch, ahead of their use.

    Parameters
    ----------
    cells : CellTable
        The table.
    prepare : callable
        Images to float32 [b, 3, S, S], as a backbone's ``prepare``; it runs in the workers.
    batches : sequence of sequence of int
        Rows of the table of each batch.
    workers : int
        Processes, 0 to decode in this one.
    change : callable or None
        (image, mask or None) -> what is prepared instead of the image.

    Yields
    ------
    Tensor, shape (b, 3, S, S), float32
        In pinned memory where a GPU is present.

    Raises
    ------
    InputError
        naming the image that cannot be read or has changed since the table was made.
    """
    if not batches:
        return
    loader = DataLoader(
        _PreparedBatches(cells, prepare, batches, change),
        batch_size=None,
        num_workers=min(workers, len(batches)),
        pin_memory=torch.cuda.is_available(),
    )
    for item in loader:
        if isinstance(item, str):
            raise InputError(item)
        yield item


class _PreparedBatches(Dataset[Any]):
    """Item i is the i-th batch: a tensor, or a sentence that says what is wrong (an exception would lose its form)."""

    def __init__(
        self,
        cells: CellTable,
        prepare: Callable[..., torch.Tensor],
        batches: Sequence[Sequence[int]],
        change: Callable[[Any, Any], Any] | None,
    ) -> None:
        self._cells, self._prepare, self._batches, self._change = cells, prepare, batches, change
        self._cell_ids = list(cells.frame["cell_id"])

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> torch.Tensor | str:
        try:
            return self._prepare([self._image(row) for row in self._batches[index]])
        except CytosaeError as problem:
            return str(problem)

    def _image(self, row: int) -> Any:
        from cytosae.cells import load_image, load_mask

        path = self._cells.image_path(row)
        try:
            if hash_file(path) != self._cell_ids[row]:
                raise InputError(f"{path} has changed since the cell table was made; read the cells again.")
            image = load_image(path)
            if self._change is None:
                return image
            mask = self._cells.mask_path(row)
            return self._change(np.asarray(image), None if mask is None else load_mask(mask))
        except OSError as problem:
            raise InputError(f"{path} can no longer be read ({problem.strerror}); read the cells again.") from problem
