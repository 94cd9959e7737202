"""A run from its settings to its end: the round loop, its parts, its summary, its replay."""
