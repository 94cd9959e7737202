"""What a run leaves behind for its reader: TensorBoard files and figures."""

from dal.recording.figures import (
    class_histogram,
    confusion_matrix,
    image_grid,
    learning_curve,
    prediction_history,
)
from dal.recording.tensorboard import TensorBoard
from dal.recording.throttle import Throttle

__all__ = [
    "TensorBoard",
    "Throttle",
    "class_histogram",
    "confusion_matrix",
    "image_grid",
    "learning_curve",
    "prediction_history",
]
