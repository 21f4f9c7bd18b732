"""Colours that plots and maps share; matplotlib, which has the scales, is loaded when the first map is coloured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

COLORMAP = "viridis"
"""Perceptually uniform, readable with any colour vision, and far from the purple and pink of the stains."""

FOR, AGAINST = "#d9730d", "#14679e"
"""Speaks for and against; apart in any colour vision, and neither is a colour of the stains."""


def on_scale(share: NDArray[np.floating], name: str = COLORMAP) -> NDArray[np.float64]:
    """(..., 4) RGBA in [0, 1] of shares in [0, 1] on a colour scale."""
    import matplotlib as mpl

    return np.asarray(mpl.colormaps[name](share))
