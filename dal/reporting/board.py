"""Mean curves for TensorBoard, written without torch."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dal.reporting.compare import Group
from dal.reporting.figures import mean_curve


def write_board(groups: Sequence[Group], folder: Path) -> None:
    """Write the mean of each strategy and the ends of its interval, over labels.

    Args:
        groups: The runs.
        folder: TensorBoard's folder of the report; what an earlier report left there is replaced.

    Raises:
        OSError: A file cannot be written.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    shutil.rmtree(folder, ignore_errors=True)
    for group in groups:
        for strategy in group.curves:
            parts = (group.data, group.model, group.protocol, strategy)
            name = "-".join(part for part in parts if part)
            writer = EventFileWriter(str(folder / re.sub(r"[^\w.=-]+", "_", name)))
            labels, mean, half = mean_curve(group, strategy)
            curves = {"mean": mean, "low": mean - half, "high": mean + half}
            for place, step in enumerate(labels):
                values = [
                    Summary.Value(tag=f"{group.metric}/{tag}", simple_value=float(curve[place]))
                    for tag, curve in curves.items()
                    if np.isfinite(curve[place])
                ]
                event = Event(step=int(step), summary=Summary(value=values), wall_time=float(step))
                writer.add_event(event)
            writer.close()
