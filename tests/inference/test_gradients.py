"""Gradient lengths against one autograd call per sample and label, written without the package."""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import named_inputs
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from dal.inference import gradients
from dal.inference import layer_gradients as layer_norms
from dal.inference.gradients import GradientNorms, gradient_norms, softmax_cotangents
from dal.models.base import Output
from dal.models.lenet5 import LeNet5
from dal.models.linear import LogisticRegression
from dal.models.mlp import MLP
from dal.models.resnet18 import ResNet18
from dal.utils.numerics import full_float32

SLOW = "slower exact path"


def stable_loss(logits: Tensor, label: int) -> Tensor:
    """Cross-entropy as log(1 + Σ exp(z_c − z_y)): its gradient keeps its digits when confident."""
    others = torch.cat([logits[:label], logits[label + 1 :]])
    return F.softplus(others.logsumexp(0) - logits[label], threshold=60.0)


def brute_force(
    model: nn.Module,
    inputs: Tensor,
    targets: Callable[[Tensor], list[Tensor]],
    loss: Callable[[Tensor, int], Tensor] = stable_loss,
) -> Tensor:
    rows = []
    for sample in inputs.detach().clone():
        sample = sample.unsqueeze(0)
        if sample.is_floating_point():
            sample.requires_grad_()
        output = model(sample)
        logits = (output.logits if isinstance(output, Output) else output)[0]
        row = []
        for label in range(len(logits)):
            grads = torch.autograd.grad(
                loss(logits, label), targets(sample), retain_graph=True, allow_unused=True
            )
            row.append(sum(g.square().sum() for g in grads if g is not None) ** 0.5)
        rows.append(torch.stack([torch.as_tensor(length) for length in row]))
    return torch.stack(rows)


def all_parameters(model: nn.Module) -> Callable[[Tensor], list[Tensor]]:
    return lambda sample: [p for p in model.parameters() if p.requires_grad]


def worst(got: Tensor, want: Tensor) -> float:
    assert got.shape == want.shape
    assert bool((want > 0).all())
    return float(((got.double() - want) / want).abs().max())


def digits(size: int, channels: int) -> tuple[Tensor, Tensor]:
    bunch = load_digits()
    images = torch.tensor(bunch.images / 16, dtype=torch.float32).unsqueeze(1)
    if size != 8:
        images = F.interpolate(images, size=(size, size), mode="bilinear")
    return images.expand(-1, channels, -1, -1).contiguous(), torch.tensor(bunch.target)


def train(model: nn.Module, x: Tensor, y: Tensor, epochs: int, lr: float, batch: int) -> nn.Module:
    optimizer = torch.optim.Adam(model.parameters(), lr)
    rng = torch.Generator().manual_seed(1)
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=rng).split(batch):
            output = model.train()(x[rows])
            optimizer.zero_grad()
            F.cross_entropy(output.logits, y[rows]).backward()
            optimizer.step()
    model.zero_grad()
    return model.eval()


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


TRAINED = {
    "lenet5_28": (28, 1, lambda: LeNet5((1, 28, 28), 10), 12, 3e-3),
    "lenet5_32": (32, 3, lambda: LeNet5((3, 32, 32), 10), 12, 3e-3),
    "mlp": (8, 1, lambda: MLP((1, 8, 8), 10, (64, 48)), 80, 5e-3),
    "logistic_regression": (8, 1, lambda: LogisticRegression((1, 8, 8), 10), 200, 5e-2),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from threads, and lose much when tests run side by side."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=list(TRAINED))
def trained(request: pytest.FixtureRequest) -> tuple[nn.Module, Tensor]:
    """A confident network, and samples from the surest to the least sure."""
    size, channels, make, epochs, lr = TRAINED[request.param]
    x, y = digits(size, channels)
    x, y = x[:600], y[:600]
    model = train(seeded(make), x, y, epochs, lr, 50)
    with torch.no_grad():
        top = model(x).logits.double().softmax(-1).amax(-1)
    order = (1 - top).argsort()
    assert 1 - top[order[:3]].max() < 1e-6, "the network is not confident enough for this test"
    return model, x[torch.cat([order[:4], order[200:600:100], order[-2:]])]


def test_all_parameters_trained_network_float64(trained: tuple[nn.Module, Tensor]) -> None:
    model, x = copy.deepcopy(trained[0]).double(), trained[1].double()
    output, norms = gradient_norms(model, x)
    assert worst(norms, brute_force(model, x, all_parameters(model))) < 1e-9
    want = model(x)
    torch.testing.assert_close(output.logits, want.logits.detach())
    torch.testing.assert_close(output.features, want.features.detach())
    assert not output.logits.requires_grad
    assert not output.features.requires_grad


def test_all_parameters_trained_network_float32(trained: tuple[nn.Module, Tensor]) -> None:
    model, x = trained
    double = copy.deepcopy(model).double()
    norms = gradient_norms(model, x)[1]
    assert norms.dtype == torch.float32
    assert worst(norms, brute_force(double, x.double(), all_parameters(double))) < 5e-5


@pytest.mark.parametrize("scope", ["last", "input"])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-9), (torch.float32, 5e-5)])
def test_narrow_scope_trained_network(
    trained: tuple[nn.Module, Tensor], scope: Any, dtype: torch.dtype, bound: float
) -> None:
    model, x = copy.deepcopy(trained[0]).to(dtype), trained[1].to(dtype)
    double = copy.deepcopy(trained[0]).double()
    targets = (lambda s: list(double.head.parameters())) if scope == "last" else (lambda s: [s])
    norms = gradient_norms(model, x, scope=scope)[1]
    assert worst(norms, brute_force(double, x.double(), targets)) < bound


@pytest.mark.parametrize("scope", ["all", "last", "input"])
def test_predicted_label_equals_its_column(trained: tuple[nn.Module, Tensor], scope: Any) -> None:
    model, x = copy.deepcopy(trained[0]).double(), trained[1].double()
    output, norms = gradient_norms(model, x, scope=scope)
    predicted = gradient_norms(model, x, scope=scope, labels="predicted")[1]
    want = norms.gather(1, output.logits.argmax(-1, keepdim=True))
    torch.testing.assert_close(predicted, want, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("stem", "size"), [("small", 8), ("imagenet", 32)])
def test_resnet18_moved_statistics(stem: Any, size: int) -> None:
    x, y = digits(size, 3)
    x, y = x[y < 3][:48], y[y < 3][:48]
    model = train(seeded(lambda: ResNet18((3, size, size), 3, stem)), x, y, 2, 1e-3, 16)
    double, x = copy.deepcopy(model).double(), x[:3]
    want = brute_force(double, x.double(), all_parameters(double))
    assert worst(gradient_norms(double, x.double())[1], want) < 1e-9
    assert worst(gradient_norms(model, x)[1], want) < 5e-5


def test_lengths_are_those_of_cross_entropy() -> None:
    model = seeded(lambda: MLP((5,), 4, (7,))).double().eval()
    x = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    want = brute_force(
        model, x, all_parameters(model), lambda z, y: F.cross_entropy(z, torch.tensor(y))
    )
    torch.testing.assert_close(gradient_norms(model, x)[1], want, rtol=1e-10, atol=0)


def test_softmax_cotangents_keep_digits_of_confident_logits() -> None:
    logits = torch.tensor([[40.0, 0.0, -3.0]])
    got = softmax_cotangents(logits)
    p = torch.softmax(logits.double(), -1)[0]
    assert got.shape == (3, 1, 3)
    want = torch.stack([-(p[1] + p[2]), p[1], p[2]])
    torch.testing.assert_close(got[0, 0].double(), want, rtol=1e-6, atol=0)
    torch.testing.assert_close(got[1, 0].double(), p - torch.eye(3)[1], rtol=1e-6, atol=0)


@given(
    st.lists(st.lists(st.floats(-30, 30), min_size=4, max_size=4), min_size=1, max_size=3),
)
@settings(max_examples=50, deadline=None)
def test_softmax_cotangents_equal_autograd(rows: list[list[float]]) -> None:
    logits = torch.tensor(rows, dtype=torch.float64, requires_grad=True)
    for label, got in enumerate(softmax_cotangents(logits.detach())):
        loss = torch.stack([stable_loss(z, label) for z in logits]).sum()
        torch.testing.assert_close(
            got, torch.autograd.grad(loss, logits)[0], rtol=1e-11, atol=1e-300
        )


def test_tiny_gradients_do_not_underflow_in_float32() -> None:
    model = LogisticRegression((3,), 2).eval()
    with torch.no_grad():
        model.head.weight.copy_(torch.tensor([[25.0, 0, 0], [-25.0, 0, 0]]))
        model.head.bias.zero_()
    norms = gradient_norms(model, torch.tensor([[1.5, 2.0, 0.5]]))[1]
    want = 2**0.5 * torch.tensor(-75.0).double().exp() * (1.5**2 + 2.0**2 + 0.5**2 + 1) ** 0.5
    assert float(norms[0, 0]) == pytest.approx(float(want), rel=5e-5)


class Head(nn.Module):
    """Any body, its output averaged over positions, and a linear layer named head."""

    def __init__(self, body: nn.Module, width: int, classes: int = 3) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Output:
        h = self.body(x)
        features = torch.tanh(h.flatten(2).sum(-1) if h.dim() > 2 else h)
        return Output(self.head(features), features)


class Swap(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, -1)


class Square(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.sin()


def randomized(model: nn.Module, seed: int = 3) -> nn.Module:
    """Random weights and running statistics everywhere, float64, evaluation mode."""
    rng = torch.Generator().manual_seed(seed)
    model = model.double().eval()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=rng, dtype=p.dtype) * 0.4)
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer.copy_(torch.rand(buffer.shape, generator=rng, dtype=buffer.dtype) + 0.2)
    return model


def images(*shape: int) -> Tensor:
    rng = torch.Generator().manual_seed(5)
    return torch.randn(*shape, dtype=torch.float64, generator=rng)


def assert_exact(model: nn.Module, x: Tensor, bound: float = 1e-9) -> None:
    want = brute_force(model, x, all_parameters(model))
    assert worst(gradient_norms(model, x)[1], want) < bound


LAYERS: dict[str, tuple[Callable[[], nn.Module], int, tuple[int, ...]]] = {
    "stride": (lambda: nn.Conv2d(2, 4, 3, stride=2, padding=1), 4, (2, 8, 7)),
    "uneven": (lambda: nn.Conv2d(2, 4, (3, 2), stride=(2, 3), padding=(1, 0)), 4, (2, 8, 9)),
    "dilation": (lambda: nn.Conv2d(2, 4, 3, dilation=2), 4, (2, 8, 7)),
    "groups": (lambda: nn.Conv2d(4, 6, 3, groups=2), 6, (4, 6, 6)),
    "depthwise": (lambda: nn.Conv2d(4, 8, 3, groups=4, bias=False), 8, (4, 6, 6)),
    "same_even": (lambda: nn.Conv2d(2, 4, 4, padding="same", dilation=(1, 2)), 4, (2, 8, 9)),
    "valid": (lambda: nn.Conv2d(2, 4, 3, padding="valid"), 4, (2, 5, 5)),
    "reflect": (lambda: nn.Conv2d(2, 4, 3, padding=2, padding_mode="reflect"), 4, (2, 6, 5)),
    "circular": (lambda: nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular"), 4, (2, 6, 5)),
    "pointwise": (lambda: nn.Conv2d(2, 4, 1), 4, (2, 6, 5)),
    "one_position": (lambda: nn.Conv2d(2, 4, 5), 4, (2, 5, 5)),
    "wide_few_positions": (lambda: nn.Conv2d(16, 24, 3), 24, (16, 4, 4)),
    "conv1d": (lambda: nn.Conv1d(3, 4, 3, stride=2, padding=1), 4, (3, 9)),
    "conv3d": (lambda: nn.Conv3d(2, 3, 2, padding=(1, 0, 1)), 3, (2, 4, 3, 4)),
    "batch_norm1d": (lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5)), 5, (4,)),
    "batch_norm1d_long": (lambda: nn.BatchNorm1d(3), 3, (3, 7)),
    "batch_norm2d": (lambda: nn.BatchNorm2d(3), 3, (3, 4, 4)),
    "group_norm": (lambda: nn.GroupNorm(2, 4), 4, (4, 3, 3)),
    "layer_norm": (lambda: nn.LayerNorm(5), 5, (5,)),
    "layer_norm_positions": (lambda: nn.Sequential(nn.LayerNorm(6), Square(), Swap()), 6, (4, 6)),
    "layer_norm_2d": (lambda: nn.Sequential(nn.LayerNorm((4, 6)), Square(), Swap()), 6, (4, 6)),
    "linear_positions": (lambda: nn.Sequential(nn.Linear(6, 5), Square(), Swap()), 5, (4, 6)),
    "linear_two_axes": (lambda: nn.Sequential(nn.Linear(6, 5), Square(), Swap()), 5, (2, 3, 6)),
    "inplace_relu": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(True), nn.Conv2d(4, 3, 2), nn.ReLU(True)),
        3,
        (2, 6, 6),
    ),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("case", list(LAYERS))
def test_layer_fast_path_exact(case: str) -> None:
    make, width, shape = LAYERS[case]
    assert_exact(randomized(Head(make(), width)), images(4, *shape))


@pytest.mark.parametrize("case", ["stride", "groups", "conv1d", "batch_norm2d", "layer_norm_2d"])
@pytest.mark.parametrize("frozen", ["weight", "bias"])
def test_layer_half_frozen_does_not_count(case: str, frozen: str) -> None:
    make, width, shape = LAYERS[case]
    model = randomized(Head(make(), width))
    for name, parameter in model.body.named_parameters():
        parameter.requires_grad_(not name.endswith(frozen))
    model.head.bias.requires_grad_(False)
    assert_exact(model, images(3, *shape))
    want = brute_force(model, images(3, *shape), lambda s: [model.head.weight])
    assert worst(gradient_norms(model, images(3, *shape), scope="last")[1], want) < 1e-9


def test_conv2d_any_geometry_exact() -> None:
    """The bounded grid of geometries, each with its own number of outputs and positions."""
    grid = itertools.product([1, 2], [1, 2, 3], [0, 1], [1, 2], [1, 2], [True, False])
    for seed, (groups, kernel, padding, stride, dilation, bias) in enumerate(grid):
        conv = nn.Conv2d(4, 6, kernel, stride, padding, dilation, groups, bias)
        assert_exact(randomized(Head(conv, 6, 2), seed), images(2, 4, 7, 6))


@pytest.mark.parametrize("padding_idx", [None, 1])
def test_embedding_repeated_ids_exact(padding_idx: int | None) -> None:
    body = nn.Sequential(nn.Embedding(6, 5, padding_idx=padding_idx), Square(), Swap())
    model = randomized(Head(body, 5))
    ids = torch.tensor([[0, 1, 2, 2, 5], [1, 1, 1, 0, 1], [3, 4, 3, 4, 3]])
    assert_exact(model, ids)
    with pytest.raises(ValueError, match="no gradient"):
        gradient_norms(model, ids, scope="input")


@pytest.mark.parametrize(("batch", "classes"), [(1, 2), (1, 5), (7, 2)])
def test_batch_of_one_and_two_classes(batch: int, classes: int) -> None:
    model = randomized(LeNet5((1, 28, 28), classes))
    assert_exact(model, images(batch, 1, 28, 28) * 0.1)


def test_frozen_layers_do_not_count() -> None:
    model = seeded(lambda: LeNet5((1, 28, 28), 3)).double().eval()
    model.conv1.requires_grad_(False)
    model.fc1.requires_grad_(False)
    assert_exact(model, images(3, 1, 28, 28))


def test_no_trainable_parameter_is_refused() -> None:
    model = LogisticRegression((4,), 3).eval().requires_grad_(False)
    for scope in ("all", "last"):
        with pytest.raises(ValueError, match="no trainable parameter"):
            gradient_norms(model, torch.rand(2, 4), scope=scope)
    assert gradient_norms(model, torch.rand(2, 4), scope="input")[1].shape == (2, 3)


def test_network_with_bare_logits() -> None:
    model = randomized(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)))
    assert_exact(model, images(3, 4))
    assert gradient_norms(model, images(3, 4))[0].features is None
    with pytest.raises(ValueError, match="no last linear layer named 'head'"):
        gradient_norms(model, images(3, 4), scope="last")


class Scale(nn.Module):
    """A layer no formula is known for."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.tanh(self.layer(x)))


class Functional(nn.Module):
    """Uses a layer's weight without calling the layer; ``also`` calls it once as well."""

    def __init__(self, also: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 5)
        self.also = also

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(F.linear(x, self.layer.weight))
        return self.layer(x) if self.also else x


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 5), nn.Linear(5, 5)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)))


class Overwrites(nn.Module):
    """Changes the input of a layer in place after the layer has used it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = x + 1
        y = self.layer(x)
        x.mul_(2)
        return y


class SequenceFirst(nn.Module):
    """Treats the second axis as the sample."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.T.unsqueeze(-1)).sum(0)


SLOW_CASES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "unknown": (lambda: nn.Sequential(nn.Linear(5, 5), Scale(5)), r"body\.1 \(Scale\)"),
    "twice": (Twice, r"body\.layer \(Linear\) was called 2 times"),
    "functional": (lambda: Functional(False), r"body\.layer \(Linear\) was called 0 times"),
    "functional_too": (lambda: Functional(True), r"body\.layer measures"),
    "tied": (Tied, r"body\.second \(Linear\) shares parameters"),
    "sequence_first": (SequenceFirst, r"body\.layer \(Linear\) has no sample axis"),
    "weight_norm": (
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(5, 5)),
        r"body \(ParametrizedLinear\)",
    ),
    "prelu": (lambda: nn.Sequential(nn.Linear(5, 5), nn.PReLU()), r"body\.1 \(PReLU\)"),
}


@pytest.mark.parametrize("case", list(SLOW_CASES))
def test_slow_path_exact_with_one_warning(case: str) -> None:
    make, message = SLOW_CASES[case]
    model, x = randomized(Head(make(), 5)), images(4, 5)
    engine = GradientNorms(model)
    with pytest.warns(UserWarning, match=message) as caught:
        norms = engine(x)[1]
    assert len(caught) == 1
    assert SLOW in str(caught[0].message)
    assert not norms.requires_grad
    assert worst(norms, brute_force(model, x, all_parameters(model))) < 1e-9
    again = engine(x)[1]
    torch.testing.assert_close(again, norms, rtol=1e-12, atol=0)


class Gated(nn.Module):
    """Uses its layer's weight once more for samples whose first input is above a threshold."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 5)
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        again = 0.3 * torch.tanh(F.linear(x, self.layer.weight))
        return self.layer(x) + torch.where(x[:, :1] > self.threshold, again, torch.zeros_like(x))


@pytest.mark.parametrize("threshold", [0.0, 0.8])
@pytest.mark.parametrize("seen_before", [0, 1])
def test_layer_used_twice_for_some_samples_only_is_noticed(
    threshold: float, seen_before: int
) -> None:
    """The first sample is not among them, so that a check of it alone would find nothing."""
    model, x = randomized(Head(Gated(threshold), 5)), images(40, 5)
    x = x[x[:, 0].sort().indices]
    assert x[0, 0] < threshold < x[-5, 0]
    engine = GradientNorms(model)
    if seen_before:
        engine(x[:seen_before])
    with pytest.warns(
        UserWarning, match=r"body\.layer measures .* for some samples only"
    ) as caught:
        norms = engine(x)[1]
    assert len(caught) == 1
    assert SLOW in str(caught[0].message)
    assert worst(norms, brute_force(model, x, all_parameters(model))) < 1e-9


class Centers(nn.Module):
    """Takes away the mean of the batch, in evaluation mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        return x - x.mean(0)


class AttendsToTheBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        return x + (x @ x.T).softmax(1) @ x


@pytest.mark.parametrize("scope", ["all", "last", "input"])
@pytest.mark.parametrize("body", [Centers, AttendsToTheBatch])
def test_network_that_mixes_its_batch_is_refused(scope: Any, body: Callable[[], nn.Module]) -> None:
    model, x = randomized(Head(body(), 5)), images(20, 5)
    with pytest.raises(ValueError, match="depends on the rest of its batch"):
        gradient_norms(model, x, scope=scope)
    slow = randomized(Head(nn.Sequential(body(), Scale(5)), 5))
    with pytest.raises(ValueError, match="depends on the rest of its batch"):
        gradient_norms(slow, x, scope=scope)


def test_samples_without_a_finite_gradient_do_not_hide_the_others() -> None:
    model, x = randomized(Head(Gated(0.8), 5)), images(20, 5)
    x[0] = torch.nan
    with pytest.warns(UserWarning, match="for some samples only"):
        norms = gradient_norms(model, x)[1]
    assert bool(norms[0].isnan().all())
    assert worst(norms[1:], brute_force(model, x[1:], all_parameters(model))) < 1e-9


def test_input_changed_in_place_is_noticed() -> None:
    model, x = randomized(Head(Overwrites(), 5)), images(2, 5)
    model.body.layer.weight.requires_grad_(False)
    with pytest.warns(UserWarning, match="changed in place"):
        norms = gradient_norms(model, x)[1]
    assert worst(norms, brute_force(model, x, all_parameters(model))) < 1e-9


def test_slow_path_in_many_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dal.inference.sample_gradients.MAX_ELEMENTS", 100)
    model, x = randomized(Head(Scale(5), 5)), images(7, 5)
    with pytest.warns(UserWarning, match=SLOW):
        norms = gradient_norms(model, x)[1]
    assert worst(norms, brute_force(model, x, all_parameters(model))) < 1e-9


class Unvectorisable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor * (1 if float(x.detach().sum()) > 0 else 2)


def test_neither_path_names_the_layer() -> None:
    body = nn.Sequential(nn.Linear(5, 5), Unvectorisable())
    model = randomized(Head(body, 5))
    with (
        pytest.warns(UserWarning, match=SLOW),
        pytest.raises(TypeError, match=r"body\.1 \(Unvectorisable\)"),
    ):
        gradient_norms(model, images(3, 5))
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())


def test_last_scope_features_not_those_of_the_head() -> None:
    class Wrong(Head):
        def forward(self, x: Tensor) -> Output:
            output = super().forward(x)
            return Output(output.logits, output.features * 2)

    model, x = randomized(Wrong(nn.Linear(5, 4), 4)), images(3, 5)
    with pytest.warns(UserWarning, match="head measures"):
        norms = gradient_norms(model, x, scope="last")[1]
    assert worst(norms, brute_force(model, x, lambda s: list(model.head.parameters()))) < 1e-9


@pytest.mark.parametrize("layer", ["conv", "linear", "norm"])
def test_lost_layer_contribution_is_found(layer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first-use check stands on its own: it must catch a formula that returns nothing."""
    kind = {"conv": nn.Conv2d, "linear": nn.Linear, "norm": nn.BatchNorm2d}[layer]
    monkeypatch.setitem(
        layer_norms._RULES, kind, lambda layer, x, delta: delta.new_zeros(delta.shape[:2])
    )
    body = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3))
    model, x = randomized(Head(body, 3)), images(2, 1, 6, 6)
    with pytest.warns(UserWarning, match="where autograd finds"):
        norms = gradient_norms(model, x)[1]
    assert worst(norms, brute_force(model, x, all_parameters(model))) < 1e-9


@pytest.mark.parametrize("limit", [1, 50, 2000])
def test_any_memory_limit_gives_the_same(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = randomized(LeNet5((1, 28, 28), 4)), images(5, 1, 28, 28) * 0.1
    want = gradient_norms(model, x)[1]
    monkeypatch.setattr(layer_norms, "MAX_ELEMENTS", limit * 20)
    monkeypatch.setitem(gradients.NUMBERS_AT_ONCE, "cpu", limit * 40)
    for scope in ("all", "last", "input"):
        monkeypatch.undo()
        want = gradient_norms(model, x, scope=scope)[1]
        monkeypatch.setattr(layer_norms, "MAX_ELEMENTS", limit * 20)
        monkeypatch.setitem(gradients.NUMBERS_AT_ONCE, "cpu", limit * 40)
        got = gradient_norms(model, x, scope=scope)[1]
        torch.testing.assert_close(got, want, rtol=1e-11, atol=0)


class LargestTensor(TorchDispatchMode):
    """Remembers the size of the largest storage that any operation returned."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor):
                stored = tensor.untyped_storage().nbytes() // tensor.element_size()
                self.numel = max(self.numel, stored)
        return result


@pytest.mark.parametrize(
    ("body", "width", "shape", "bound"),
    [
        # Per-sample gradients of the batch would hold 32 x 10 x 590 thousand numbers.
        (lambda: nn.Conv2d(256, 256, 3, padding=1), 256, (256, 4, 4), 3_000_000),
        # Here 32 x 10 x 1 million; the weight itself is the largest.
        (lambda: nn.Sequential(nn.Linear(1024, 1024), nn.ReLU()), 1024, (1024,), 1_100_000),
    ],
)
def test_large_layer_is_never_materialised(
    body: Callable[[], nn.Module], width: int, shape: tuple[int, ...], bound: int
) -> None:
    model = Head(body(), width, 10).eval()
    engine = GradientNorms(model)
    x = images(32, *shape).float()
    engine(x[:1])
    with LargestTensor() as spy:
        engine(x)
    assert 0 < spy.numel <= bound


def test_product_form_stays_within_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many positions, so products are formed: at most the limit at once, per-sample ones too."""
    delta, x = images(8, 10, 16, 400), images(8, 50, 400)
    want = torch.einsum("blot,bkt->blok", delta, x).square().sum((2, 3))
    monkeypatch.setattr(layer_norms, "MAX_ELEMENTS", 1000)
    sizes = []
    bmm = torch.bmm

    def spy(a: Tensor, b: Tensor) -> Tensor:
        sizes.append(bmm(a, b).numel())
        return bmm(a, b)

    monkeypatch.setattr(torch, "bmm", spy)
    got = layer_norms._product_lengths(delta, x)
    assert max(sizes) <= 1000
    torch.testing.assert_close(got, want, rtol=1e-11, atol=0)


def test_batch_norm_in_training_mode_is_refused() -> None:
    model = Head(nn.BatchNorm2d(3), 3)
    with pytest.raises(ValueError, match=r"body \(BatchNorm2d\) normalizes with .* model\.eval"):
        gradient_norms(model, torch.rand(2, 3, 4, 4))
    untracked = Head(nn.BatchNorm2d(3, track_running_stats=False), 3).eval()
    with pytest.raises(ValueError, match="track_running_stats=True"):
        gradient_norms(untracked, torch.rand(2, 3, 4, 4))


def test_active_dropout_is_refused() -> None:
    model = MLP((4,), 3, (5,), dropout=0.5)
    with pytest.raises(ValueError, match="random masks"):
        gradient_norms(model, torch.rand(2, 4))
    assert gradient_norms(model.eval(), torch.rand(2, 4))[1].shape == (2, 3)


@pytest.mark.parametrize("scope", ["all", "last", "input"])
def test_nothing_of_the_caller_changes(scope: Any) -> None:
    model = Head(nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(True)), 4).eval()
    model.body[2].train()
    x = torch.rand(5, 2, 6, 6, requires_grad=True)
    state, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    values, random_state = x.detach().clone(), torch.get_rng_state()
    gradient_norms(model, x, scope=scope)
    torch.testing.assert_close(dict(model.state_dict()), dict(state), rtol=0, atol=0)
    assert modes == [m.training for m in model.modules()]
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.equal(x.detach(), values)
    assert x.requires_grad
    assert x.grad is None
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())


def test_hooks_are_removed_when_the_network_fails() -> None:
    class Fails(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise KeyError("no such thing")

    model = Head(nn.Sequential(nn.Linear(5, 5), Fails()), 5).eval()
    with pytest.raises(KeyError):
        gradient_norms(model, torch.rand(2, 5))
    assert all(not m._forward_hooks for m in model.modules())


@pytest.mark.parametrize("scope", ["all", "last", "input"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_callers_without_gradients(scope: Any, mode: Callable[[], Any]) -> None:
    model, x = randomized(LeNet5((1, 28, 28), 3)), images(3, 1, 28, 28) * 0.1
    want = gradient_norms(model, x, scope=scope)[1]
    with mode():
        got = gradient_norms(model, x * 1, scope=scope)[1]
        assert torch.is_grad_enabled() is False
    assert torch.equal(got, want)


def test_other_cotangents_multilabel() -> None:
    """Rows of another loss: the sum of sigmoid losses, all labels present or all absent."""

    def present_absent(logits: Tensor) -> Tensor:
        p = logits.sigmoid()
        return torch.stack([p - 1, p])

    model, x = randomized(MLP((5,), 4, (6,))), images(3, 5)
    norms = gradient_norms(model, x, cotangents=present_absent)[1]
    for column, target in enumerate((1.0, 0.0)):
        want = brute_force(
            model,
            x,
            all_parameters(model),
            lambda z, _, t=target: F.binary_cross_entropy_with_logits(
                z, torch.full_like(z, t), reduction="sum"
            ),
        )
        assert worst(norms[:, column], want[:, 0]) < 1e-9
    with pytest.raises(ValueError, match="one row of cotangents per class"):
        gradient_norms(model, x, cotangents=present_absent, labels="predicted")
    with pytest.raises(ValueError, match=r"return \(L, B, C\)"):
        gradient_norms(model, x, cotangents=lambda z: z)


def test_zero_cotangents_give_zero() -> None:
    model, x = randomized(MLP((5,), 4, (6,))), images(3, 5)
    norms = gradient_norms(model, x, cotangents=lambda z: torch.zeros(2, *z.shape))[1]
    assert torch.equal(norms, torch.zeros(3, 2, dtype=norms.dtype))


def test_non_finite_inputs_stay_visible() -> None:
    model, x = randomized(MLP((5,), 4, (6,))), images(3, 5)
    x[0, 0] = torch.nan
    norms = gradient_norms(model, x)[1]
    assert bool(norms[0].isnan().all())
    assert worst(norms[1:], brute_force(model, x[1:], all_parameters(model))) < 1e-9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scope": "first"}, "scope='first' is unknown; choose one of all, last, input"),
        ({"labels": "best"}, "labels='best' is unknown"),
    ],
)
def test_unknown_choice_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gradient_norms(MLP((5,), 4), torch.rand(2, 5), **arguments)


def test_empty_batch_and_single_class_are_refused() -> None:
    with pytest.raises(ValueError, match="empty batch"):
        gradient_norms(MLP((5,), 4).eval(), torch.rand(0, 5))
    with pytest.raises(ValueError, match="two or more classes"):
        gradient_norms(MLP((5,), 1).eval(), torch.rand(2, 5))


def test_engine_checks_a_network_once() -> None:
    model, x = MLP((5,), 4, (6,)).eval(), torch.rand(4, 5)
    calls = []
    handle = model.register_forward_hook(lambda *_: calls.append(1))
    engine = GradientNorms(model)
    engine(x)
    first = len(calls)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine(x)
    handle.remove()
    assert len(calls) - first == 1


def test_measuring_is_without_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    monkeypatch.setattr(gradients, "full_float32", lambda device: full_float32(cuda))
    seen: list[bool] = []

    def cotangents(logits: Tensor) -> Tensor:
        seen.append(torch.backends.cudnn.allow_tf32)
        return softmax_cotangents(logits)

    before = torch.backends.cudnn.allow_tf32
    gradient_norms(MLP((4,), 3).eval(), torch.randn(2, 4), cotangents=cotangents)
    assert seen
    assert not any(seen)
    assert torch.backends.cudnn.allow_tf32 == before


@pytest.mark.parametrize("scope", ["all", "last", "input"])
@pytest.mark.parametrize("labels", ["all", "predicted"])
@pytest.mark.parametrize("case", list(named_inputs.CASES))
def test_inputs_by_name_equal_the_same_numbers_in_one_tensor(
    case: str, scope: Any, labels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, inputs = named_inputs.CASES[case]
    if case == "tokens" and scope == "input":
        pytest.skip("token ids have no gradient")
    monkeypatch.setitem(gradients.NUMBERS_AT_ONCE, "cpu", 2000)  # several pieces
    model, one = named_inputs.network(make).eval(), named_inputs.side_by_side(inputs)
    output, lengths = gradient_norms(model, inputs, scope=scope, labels=labels)
    expected, of_one = gradient_norms(model, one, scope=scope, labels=labels)
    assert torch.equal(output.logits, expected.logits)
    torch.testing.assert_close(lengths, of_one, rtol=1e-6, atol=0)


def test_slow_path_on_inputs_by_name() -> None:
    class Twice(named_inputs.OfTokens):
        def forward(self, x: Any) -> Output:
            return Output(super().forward(x).logits + self.head(self.embed(x["ids"]).sum(1)), None)

    class Alone(Twice):
        def forward(self, x: Any) -> Output:
            ids, mask = x.long().split(5, 1)
            return super().forward({"ids": ids, "mask": mask})

    model, inputs = named_inputs.network(Twice).double().eval(), named_inputs.TOKENS
    with pytest.warns(UserWarning, match=SLOW):
        _, lengths = gradient_norms(model, inputs)
    alone = named_inputs.network(Alone).double().eval()
    expected = brute_force(
        alone, named_inputs.side_by_side(inputs), lambda x: list(alone.parameters())
    )
    torch.testing.assert_close(lengths, expected)


def test_whole_numbers_among_inputs_by_name_have_no_gradient() -> None:
    model = named_inputs.network(named_inputs.OfTokens).eval()
    with pytest.raises(ValueError, match=r"ids.*mask.*no gradient; choose strategy.scope=all or l"):
        gradient_norms(model, named_inputs.TOKENS, scope="input")
