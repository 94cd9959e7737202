"""The labeling page: people answer in a browser, and each answer is on the disk at once."""

from dal.oracles.page.oracle import PageOracle

__all__ = ["PageOracle"]
