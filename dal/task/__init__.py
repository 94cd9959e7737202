"""What is learned: one class of several a sample, or any of several labels."""

from dal.task.base import Task
from dal.task.kinds import task_named, task_of
from dal.task.multiclass import Multiclass
from dal.task.multilabel import Multilabel

__all__ = ["Multiclass", "Multilabel", "Task", "task_named", "task_of"]
