"""What the values of a mask mean: a table of what is unambiguous, one sentence for everything else."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytosae.cells.decoding.pixels import Bytes, Samples
from cytosae.common.errors import InputError

CYTOPLASM, NUCLEUS, CELL = 1, 2, 3
"""Values of a mask that has been read, beside 0 for the background; CELL is a cell whose parts are not told apart."""
MEANINGS: dict[frozenset[int], tuple[dict[int, int], str | None]] = {
    frozenset({1, 2}): ({1: CYTOPLASM, 2: NUCLEUS}, None),
    frozenset({1}): ({1: CYTOPLASM}, None),
    frozenset({2}): ({2: NUCLEUS}, None),
    frozenset({127, 255}): ({127: CYTOPLASM, 255: NUCLEUS}, "mask of 0, 127, 255 taken as 0, 1, 2"),
    frozenset({128, 255}): ({128: CYTOPLASM, 255: NUCLEUS}, "mask of 0, 128, 255 taken as 0, 1, 2"),
}
"""Values beside 0 -> what each means, and what to say; any other single value is the whole cell."""
WHOLE = "mask of two values taken as the whole cell"


def read_mask(samples: Samples) -> Bytes:
    """Classes of a mask.

    Parameters
    ----------
    samples : Samples
        What the file holds.

    Returns
    -------
    Bytes
        Ndarray of uint8, shape (H, W) 0 (background, other cells), CYTOPLASM, NUCLEUS, CELL. list of str What was made
        of it, where that is worth saying.

    Raises
    ------
    InputError
        The values may mean several things, or nothing.
    """
    values, flags = _values(samples)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise InputError(f"a mask of values from {low} to {high}; 0 to 65535 is supported")
    held = [int(value) for value in np.flatnonzero(np.bincount(values.ravel())) if value]
    if not held:
        raise InputError("a mask that is 0 everywhere")
    if flags or (len(held) == 1 and frozenset(held) not in MEANINGS):
        return np.where(values > 0, np.uint8(CELL), np.uint8(0)), [WHOLE]
    if frozenset(held) not in MEANINGS:
        raise InputError(
            f"a mask of {len(held)} values beside 0 ({', '.join(map(str, held[:4]))}{', ...' if len(held) > 4 else ''})"
            ", where 1 and 2 (cytoplasm, nucleus), 127 or 128 and 255, or any single one (the cell) are understood"
        )
    meaning, note = MEANINGS[frozenset(held)]
    classes = np.zeros(65536 if high > 255 else 256, np.uint8)
    for value, means in meaning.items():
        classes[value] = means
    return classes[values], [] if note is None else [note]


def _values(samples: Samples) -> tuple[NDArray[Any], bool]:
    """One whole number a pixel, as stored (MINISWHITE is about display), and whether there can be two values only."""
    values = samples.values[..., None] if samples.values.ndim == 2 else samples.values
    if samples.model == "PALETTE" and samples.palette is not None:
        return _palette_values(values[..., 0].astype(np.intp), samples.palette[:, :3])
    if samples.alpha is not None:
        values = np.delete(values, samples.alpha, axis=2)
    if values.shape[2] > 1:
        return _one_colour(values) if (values != values[..., :1]).any() else (_whole(values[..., 0]), False)
    return _whole(values[..., 0]), values.dtype == np.bool_


def _palette_values(index: NDArray[np.intp], colours: NDArray[np.uint8]) -> tuple[NDArray[Any], bool]:
    """The greys of a palette of greys; of a coloured one the indices."""
    used = colours[np.unique(index)]
    grey = bool((used == used[:, :1]).all())
    return (colours[index, 0] if grey else index), False


def _one_colour(values: NDArray[Any]) -> tuple[NDArray[Any], bool]:
    """Whether a pixel has the one colour that there is beside black."""
    seen = values.any(axis=2)
    if (values[seen] != values[seen][0]).any():
        raise InputError("a mask must be grey, have a palette or hold one colour on black, but it has several colours")
    return np.asarray(seen, np.intp), True


def _whole(values: NDArray[Any]) -> NDArray[np.intp]:
    whole = values.astype(np.intp) if np.isfinite(values).all() else None
    if whole is None or (whole != values).any():
        raise InputError("a mask must hold whole numbers")
    return whole
