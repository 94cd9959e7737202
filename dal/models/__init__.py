"""Models; each gives logits and its last hidden features in one forward."""

from dal.models.base import MakeModel, Output, forward
from dal.models.bayesian_cnn import BayesianCNN
from dal.models.embedding_bag import EmbeddingBag
from dal.models.label_propagation import LabelPropagation
from dal.models.lenet5 import LeNet5
from dal.models.linear import LogisticRegression
from dal.models.mlp import MLP
from dal.models.resnet18 import ResNet18
from dal.models.small_cnn import SmallCNN
from dal.models.text_transformer import TextTransformer
from dal.models.timm_network import TimmNetwork
from dal.models.torchvision_network import TorchvisionNetwork
from dal.models.transformers_network import TransformersNetwork

__all__ = [
    "MLP",
    "BayesianCNN",
    "EmbeddingBag",
    "LabelPropagation",
    "LeNet5",
    "LogisticRegression",
    "MakeModel",
    "Output",
    "ResNet18",
    "SmallCNN",
    "TextTransformer",
    "TimmNetwork",
    "TorchvisionNetwork",
    "TransformersNetwork",
    "forward",
]
