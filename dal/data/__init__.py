"""Data sets, and how a run divides them.

Every data function returns a `Dataset`; `make_source` divides it into a `Source`, and
`initial_labels` draws the samples that are labeled before the first query.
"""

from dal.data.cifar10 import cifar10
from dal.data.dataset import Dataset
from dal.data.digits import digits
from dal.data.foreign import Ood
from dal.data.goemotions import goemotions
from dal.data.hard_pools import Imbalanced, Noisy, Repeated
from dal.data.idx import fashion_mnist, mnist
from dal.data.images.folder import image_folder
from dal.data.initial import initial_labels
from dal.data.initial_by_strategy import initial_by_strategy
from dal.data.npz import npz
from dal.data.own_table import table
from dal.data.prepare import Prepare
from dal.data.source import UNKNOWN, Source, Split, is_known
from dal.data.splits import make_source
from dal.data.svhn import svhn
from dal.data.synthetic import (
    make_classification,
    make_multilabel_classification,
    moons,
    two_gaussians,
)
from dal.data.tabular import breast_cancer, clean1, digits_tabular, iris, new_thyroid, wine
from dal.data.texts.bag_of_words import BagOfWords
from dal.data.texts.encoding import encoder_of_model
from dal.data.texts.files import text
from dal.data.texts.ngrams import NGrams
from dal.data.texts.word_ids import WordIds

__all__ = [
    "UNKNOWN",
    "BagOfWords",
    "Dataset",
    "Imbalanced",
    "NGrams",
    "Noisy",
    "Ood",
    "Prepare",
    "Repeated",
    "Source",
    "Split",
    "WordIds",
    "breast_cancer",
    "cifar10",
    "clean1",
    "digits",
    "digits_tabular",
    "encoder_of_model",
    "fashion_mnist",
    "goemotions",
    "image_folder",
    "initial_by_strategy",
    "initial_labels",
    "iris",
    "is_known",
    "make_classification",
    "make_multilabel_classification",
    "make_source",
    "mnist",
    "moons",
    "new_thyroid",
    "npz",
    "svhn",
    "table",
    "text",
    "two_gaussians",
    "wine",
]
