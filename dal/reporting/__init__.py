"""Reports over many runs: reading them, comparing them, tables and figures.

Nothing here imports torch, so a report over hundreds of runs is there in seconds.
"""
