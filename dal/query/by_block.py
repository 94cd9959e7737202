"""When scores are made batch by batch, so that a pass keeps nothing else."""

from __future__ import annotations

from dal.query.base import ScoreStrategy, Strategy
from dal.query.needs import Needs, Scores

AT_HAND = 2**22
"""Probabilities that are kept, 16 MB: the guesses that are shown with picks are read off them."""


def in_blocks(strategy: Strategy, needs: Needs, numbers: int) -> Needs:
    """Needs of a pass, with the scores in the place of what they are made of where that is much.

    Args:
        strategy: Whose needs they are.
        needs: What the pass would compute.
        numbers: Candidates times classes.
    """
    if numbers <= AT_HAND or needs != strategy.needs or not isinstance(strategy, ScoreStrategy):
        return needs
    return frozenset({Scores(strategy)}) if strategy.fits_blocks else needs
