"""Colors and markers of all figures; imports nothing.

The colors are those of M. Okabe and K. Ito, *Color universal design* (2008), which remain distinct
to color-blind readers; lines also differ by their markers, so that they can be told apart on paper.
"""

BLUE = "#0072B2"
COLORS = (BLUE, "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colors without yellow, which is too faint for a line on white."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#B0B0B0"
DPI = 120
