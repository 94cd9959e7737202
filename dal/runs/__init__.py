"""A run from its settings to its end: the round loop, its parts, its summary, its replay."""

from dal.runs.choosing import PoolSetting
from dal.runs.streaming import StreamSetting
from dal.runs.synthesizing import SynthesisSetting

__all__ = ["PoolSetting", "StreamSetting", "SynthesisSetting"]
