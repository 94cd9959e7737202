"""Frozen features: a data set of images becomes one of feature vectors, once.

An `Embedding` turns a `Dataset` into another before it is divided; everything after it (head,
strategies, resume) works on the vectors as on any table of numbers.
"""

from dal.features.arrays import Arrays
from dal.features.base import Embedding, Raw
from dal.features.network import NetworkEmbedding, Torchvision
from dal.features.of_run import RunEmbedding
from dal.features.self_supervised.embedding import SelfSupervised
from dal.models.backbone import Preprocess

__all__ = [
    "Arrays",
    "Embedding",
    "NetworkEmbedding",
    "Preprocess",
    "Raw",
    "RunEmbedding",
    "SelfSupervised",
    "Torchvision",
]
