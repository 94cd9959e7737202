"""What strategies around one score have in common."""

from __future__ import annotations

from typing import Any

from dal.query.base import PoolView, ScoreStrategy, Strategy
from dal.query.needs import Needs


class OverScore(Strategy):
    """A strategy that makes something else of another's score, whose state and needs it has.

    Args:
        score: Any score.
        needs: What is needed besides.

    Raises:
        TypeError: ``score`` gives no scores.
    """

    def __init__(self, score: ScoreStrategy, needs: Needs = frozenset()) -> None:
        if not isinstance(score, ScoreStrategy):
            raise TypeError(
                f"strategy.score={type(score).__name__} scores no single candidates; choose "
                "another, such as strategy@strategy.score=entropy"
            )
        self.base = score
        self.needs = score.needs | needs
        self.tasks = score.tasks

    def ready(self, view: PoolView) -> bool:
        """Whether the score is."""
        return self.base.ready(view)

    def state_dict(self) -> dict[str, Any]:
        """What the score must remember."""
        return self.base.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Give the score its state back."""
        self.base.load_state_dict(state)
