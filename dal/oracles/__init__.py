"""Who answers queries: simulated from known labels, or people (files, a page, Label Studio)."""

from dal.oracles.abstaining import Abstaining
from dal.oracles.base import Answers, Oracle
from dal.oracles.costly import Costly
from dal.oracles.files import FilesOracle
from dal.oracles.label_studio.oracle import LabelStudioOracle
from dal.oracles.noisy import Noisy
from dal.oracles.page import PageOracle
from dal.oracles.several import Several
from dal.oracles.simulated import SimulatedOracle

__all__ = [
    "Abstaining",
    "Answers",
    "Costly",
    "FilesOracle",
    "LabelStudioOracle",
    "Noisy",
    "Oracle",
    "PageOracle",
    "Several",
    "SimulatedOracle",
]
