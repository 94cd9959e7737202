"""Who answers queries: simulated from known labels, or people through files or a page."""

from dal.oracles.base import Answers, Oracle
from dal.oracles.files import FilesOracle
from dal.oracles.page import PageOracle
from dal.oracles.simulated import SimulatedOracle

__all__ = ["Answers", "FilesOracle", "Oracle", "PageOracle", "SimulatedOracle"]
