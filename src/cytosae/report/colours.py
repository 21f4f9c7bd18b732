"""Colours that plots and maps share."""

COLORMAP = "viridis"
"""Perceptually uniform, readable with any colour vision, and far from the purple and pink of the stains."""

FOR, AGAINST = "#d9730d", "#14679e"
"""Speaks for and against; apart in any colour vision, and neither is a colour of the stains."""
