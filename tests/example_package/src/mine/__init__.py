"""A package of one's own that dal trains with: a model, a data set, a strategy and an oracle."""

from mine.data import rings
from mine.model import Bumps
from mine.oracle import Hasty
from mine.strategy import Gini

__all__ = ["Bumps", "Gini", "Hasty", "rings"]
