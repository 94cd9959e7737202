"""`dal.score` against softmax and the formulas in NumPy, on whatever a pool is made of."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)

import dal
from dal.data import Dataset as Data
from dal.data import Prepare, make_source
from dal.data.store import ArrayStore
from dal.models import LeNet5, Output
from dal.predictor import Predictor
from dal.query import (
    BALD,
    Badge,
    Density,
    DensityWeighted,
    Entropy,
    ExpectedGradientLength,
    Margin,
)
from dal.utils.build import find

N, D, C = 41, 5, 3
INPUTS = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
TENSOR = torch.from_numpy(INPUTS)
CPU = torch.device("cpu")
OPTIONS = Path(__file__).parents[2] / "conf" / "strategy"


class Net(nn.Module):
    """With all that scoring must leave alone: dropout, running statistics, frozen parts."""

    def __init__(self, features: bool = False) -> None:
        super().__init__()
        self.hidden, self.norm = nn.Linear(D, 8), nn.BatchNorm1d(8)
        self.drop, self.out, self.features = nn.Dropout(0.4), nn.Linear(8, C), features
        with torch.no_grad():
            assert self.norm.running_mean is not None
            self.norm.running_mean.copy_(torch.linspace(-1, 1, 8))

    def forward(self, x: Tensor) -> Any:
        hidden = self.drop(self.norm(self.hidden(x)).relu())
        return Output(self.out(hidden), hidden) if self.features else self.out(hidden)


@pytest.fixture
def net() -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Net()


def softmax(model: nn.Module, inputs: Tensor = TENSOR) -> np.ndarray[Any, Any]:
    """Class probabilities in float64, by a copy in evaluation mode."""
    model = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        logits = model(inputs.double())
    logits = (logits.logits if isinstance(logits, Output) else logits).numpy()
    powers = np.exp(logits - logits.max(1, keepdims=True))
    probs: np.ndarray[Any, Any] = powers / powers.sum(1, keepdims=True)
    return probs


def margin_of(probs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    first, second = -np.partition(-probs, 1, axis=1)[:, :2].T
    return np.asarray(second - first)


class Pairs(Dataset[Any]):
    """Items with a target that no batch can be made of."""

    def __getitem__(self, index: int) -> tuple[Any, None]:
        return INPUTS[index], None

    def __len__(self) -> int:
        return N


class Bare(Dataset[Any]):
    def __getitem__(self, index: int) -> Tensor:
        return TENSOR[index].double()

    def __len__(self) -> int:
        return N


def doubled(items: list[Any]) -> tuple[Tensor, Tensor]:
    return 2 * torch.stack([x for x, _ in items]), torch.zeros(len(items))


PAIRED = TensorDataset(TENSOR, torch.arange(N))


@pytest.mark.parametrize(
    "data",
    [
        INPUTS,
        INPUTS.astype(np.float64),
        INPUTS.tolist(),
        TENSOR,
        PAIRED,
        Pairs(),
        Bare(),
        Subset(PAIRED, range(N)),
        DataLoader(PAIRED, batch_size=7, shuffle=True, drop_last=True),
        DataLoader(Pairs(), batch_size=7, collate_fn=lambda items: torch.tensor(0)).dataset,
        DataLoader(Bare(), num_workers=2),
    ],
    ids=lambda data: type(data).__name__,
)
@pytest.mark.parametrize("batch_size", [None, 8])
def test_margin_of_whatever_a_pool_is_made_of(net: Net, data: Any, batch_size: int | None) -> None:
    got = dal.score(net, data, "margin", batch_size=batch_size)
    np.testing.assert_allclose(got.numpy(), margin_of(softmax(net)), rtol=1e-4, atol=1e-6)


def test_margin_is_the_default_and_a_collating_function_is_used(net: Net) -> None:
    got = dal.score(net, DataLoader(PAIRED, batch_size=4, collate_fn=doubled))
    np.testing.assert_allclose(got.numpy(), margin_of(softmax(net, 2 * TENSOR)), atol=1e-5)


def test_entropy_and_least_confidence(net: Net) -> None:
    probs = softmax(net)
    entropy = -(probs * np.log(probs)).sum(1)
    np.testing.assert_allclose(dal.score(net, INPUTS, "entropy"), entropy, rtol=1e-4)
    np.testing.assert_allclose(dal.score(net, INPUTS, Entropy()), entropy, rtol=1e-4)
    np.testing.assert_allclose(
        dal.score(net, INPUTS, "least_confidence"), 1 - probs.max(1), rtol=1e-4, atol=1e-7
    )


def test_multilabel_margin_takes_sigmoids(net: Net) -> None:
    with torch.no_grad():
        probs = copy.deepcopy(net).eval()(TENSOR).sigmoid().numpy()
    want = -np.abs(probs - 0.5).sum(1)
    np.testing.assert_allclose(dal.score(net, INPUTS, "multilabel_margin"), want, rtol=1e-4)


@pytest.mark.parametrize("scope", ["all", "input"])
def test_expected_gradient_length_by_autograd(net: Net, scope: Any) -> None:
    single = copy.deepcopy(net).double().eval()
    want = []
    for row in TENSOR.double():
        row = row.clone().requires_grad_()
        log_probs = single(row[None])[0].log_softmax(0)
        total = 0.0
        over = list(single.parameters()) if scope == "all" else [row]
        for label in range(C):
            parts = torch.autograd.grad(-log_probs[label], over, retain_graph=True)
            length = math.sqrt(sum(float(part.detach().square().sum()) for part in parts))
            total += float(log_probs[label].detach().exp()) * length
        want.append(total)
    got = dal.score(net, INPUTS, ExpectedGradientLength(scope=scope))
    np.testing.assert_allclose(got, want, rtol=1e-4)
    if scope == "all":
        assert torch.equal(dal.score(net, INPUTS, "expected_gradient_length"), got)


def test_bald_of_dropout_samples_approaches_the_mean_over_all_masks() -> None:
    class Small(nn.Module):
        """One dropout layer over three units: eight masks in all."""

        def __init__(self) -> None:
            super().__init__()
            self.inner, self.drop, self.out = nn.Linear(D, 3), nn.Dropout(0.5), nn.Linear(3, C)

        def forward(self, x: Tensor) -> Any:
            return self.out(self.drop(self.inner(x)))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Small()
    with torch.no_grad():
        masks = 2 * torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
        hidden = model.inner(TENSOR)
        members = torch.stack([model.out(hidden * mask).softmax(1) for mask in masks]).numpy()

    def entropy(probs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.asarray(-(probs * np.log(probs)).sum(-1))

    want = entropy(members.mean(0)) - entropy(members).mean(0)
    got = dal.score(model, INPUTS, "bald", members=2000)
    np.testing.assert_allclose(got, want, atol=0.02)
    assert np.corrcoef(got, want)[0, 1] > 0.99
    assert torch.equal(dal.score(model, INPUTS, "bald"), dal.score(model, INPUTS, "bald"))
    other = dal.score(model, INPUTS, BALD(), seed=1)
    assert not torch.equal(dal.score(model, INPUTS, "bald"), other)


def test_density_of_the_features_an_output_has(net: Net) -> None:
    net.features = True
    with torch.no_grad():
        features = copy.deepcopy(net).eval()(TENSOR).features.double()
    unit = features / features.norm(dim=1, keepdim=True)
    want = ((1 + unit @ unit.T) / 2).mean(1)
    got = dal.score(net, INPUTS, Density("cosine"))
    np.testing.assert_allclose(got, want, rtol=1e-4)


@pytest.mark.parametrize("strategy", ["margin", "bald", "expected_gradient_length"])
@pytest.mark.parametrize(
    "data", [INPUTS, DataLoader(PAIRED, shuffle=True)], ids=["array", "loader"]
)
def test_module_and_global_random_state_stay_as_they_are(
    net: Net, strategy: str, data: Any
) -> None:
    net.train()
    net.drop.eval()
    net(TENSOR).sum().backward()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    grads = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    state = torch.get_rng_state()
    first = dal.score(net, data, strategy)
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in net.modules()] == [True, True, True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), grads, strict=True))  # type: ignore[arg-type]
    assert not first.requires_grad
    assert first.device.type == "cpu"
    net.eval()
    assert torch.equal(dal.score(net, data, strategy), first)


def test_model_that_dal_load_gives_prepares_raw_inputs(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 5, 5, 3), dtype=np.uint8)
    source = make_source(
        Data("mine", images, np.arange(60) % 2, standardize=True),  # type: ignore[arg-type]
        seed=0,
    )

    def model(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), num_classes))

    settings = dal.Settings(budget=2, query_size=2, device="cpu")
    initial = torch.arange(8)
    dal.run(source, model, Margin(), initial=initial, settings=settings, run_dir=tmp_path / "run")
    loaded = dal.load(tmp_path / "run", model=model)
    want = margin_of(loaded.predict_proba(images).double().numpy())
    np.testing.assert_allclose(dal.score(loaded, images), want, atol=1e-6)
    with pytest.raises(TypeError, match="MultilabelMargin is meant for multilabel targets"):
        dal.score(loaded, images, "multilabel_margin")


BATCH = "chooses samples and scores none by itself; use it in dal.run, or choose a score: bald,"


@pytest.mark.parametrize(
    ("strategy", "error", "told"),
    [
        ("badge", TypeError, f"Badge {BATCH}"),
        ("power_bald", TypeError, f"StochasticBatch {BATCH}"),
        ("random", TypeError, f"Random {BATCH}"),
        (Badge(), TypeError, f"Badge {BATCH}"),
        (Margin, TypeError, "strategy is a Margin; give the name of a score, such as 'margin'"),
        ("instability", TypeError, "Instability needs the models of several rounds; use it in dal"),
        ("hyperplane", TypeError, "Hyperplane needs decision values"),
        ("expected_error_reduction", TypeError, "needs the labeled samples as well"),
        ("density_weighted", TypeError, r"give it as an object, such as dal.query.DensityWeighted"),
        ("marginn", ValueError, r"there is no score marginn; did you mean margin\?"),
        ("density", TypeError, r"returns logits only; let its forward return dal.models.Output"),
        (DensityWeighted(Margin()), TypeError, "DensityWeighted looks at features"),
        (3, TypeError, "strategy is a int; give the name of a score"),
    ],
)
def test_what_scores_no_single_samples_is_refused_in_a_line(
    net: Net, strategy: Any, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told) as caught:
        dal.score(net, INPUTS, strategy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", sorted(OPTIONS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_option_is_known_by_its_name(net: Net, path: Path) -> None:
    net.features = True
    wanted: Any = find(yaml.safe_load(path.read_text())["_target_"], "strategy")
    if path.stem == "tcm":  # another option of the class of ``schedule``
        with pytest.raises(ValueError, match="there is no score tcm; choose from bald, "):
            dal.score(net, INPUTS, path.stem)
        return
    try:
        got = dal.score(net, INPUTS, path.stem)
    except TypeError as error:
        assert wanted.__name__ in str(error)  # noqa: PT017
    else:
        assert torch.equal(got, dal.score(net, INPUTS, wanted()))


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(TENSOR)


class Words(Bare):
    def __getitem__(self, index: int) -> Any:
        return {"text": "a"}


@pytest.mark.parametrize(
    ("data", "error", "told"),
    [
        (Endless(), TypeError, "Endless is iterated over, and its items have no numbers"),
        (DataLoader(Endless()), TypeError, "Endless is iterated over"),
        (Words(), TypeError, "an item of Words has a dict for input; let items be tensors"),
        (
            DataLoader(PAIRED, sampler=WeightedRandomSampler([1.0] * N, 5)),
            TypeError,
            r"sampler of its own.*give the data set, or torch.utils.data.Subset",
        ),
        (
            DataLoader(PAIRED, sampler=RandomSampler(PAIRED, num_samples=5)),
            TypeError,
            "sampler of its own",
        ),
        (DataLoader(PAIRED, batch_size=None), TypeError, "sampler of its own"),
        (3, TypeError, "data is a int; give an array or a tensor of the inputs"),
        ({"x": INPUTS}, ValueError, "fails on a batch of x: torch.float32 of shape"),
        (["a", "b"], TypeError, "data is a list of type <U1; give a tensor"),
        (INPUTS[:0], ValueError, "data has no items"),
        (INPUTS[:, :3], ValueError, r"Net fails on a batch of torch.float32 of shape \(1, 3\)"),
        (np.full((2, D), np.nan, np.float32), ValueError, "Margin scored sample 0 with nan"),
    ],
)
def test_data_that_cannot_be_scored_are_refused_in_a_line(
    net: Net, data: Any, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told) as caught:
        dal.score(net, data)
    assert "\n" not in str(caught.value)


def test_models_that_cannot_be_scored_by_are_refused(net: Net) -> None:
    from sklearn.svm import SVC

    with pytest.raises(TypeError, match=r"a SVC, not a module; .* such as dal.query.margin\(probs"):
        dal.score(SVC(), INPUTS)  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match=r"Linear has no dropout layer .* give dal.query's function"
    ):
        dal.score(nn.Linear(D, C), INPUTS, "bald")
    with pytest.raises(ValueError, match="batch_size=0; give at least 1"):
        dal.score(net, INPUTS, batch_size=0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_files_are_scored_by_rows_to_the_same_bits(net: Net, tmp_path: Path, dtype: str) -> None:
    np.save(tmp_path / "pool.npy", INPUTS.astype(dtype))
    mapped = np.load(tmp_path / "pool.npy", mmap_mode="r")
    want = dal.score(net, TENSOR, batch_size=16)
    assert torch.equal(dal.score(net, mapped, batch_size=16), want)
    part = dal.score(net, TENSOR[5:], batch_size=16)
    assert torch.equal(dal.score(net, mapped[5:], batch_size=16), part)
    assert torch.equal(dal.score(net, ArrayStore(TENSOR), batch_size=16), want)


def test_what_dal_load_gives_prepares_files_too(tmp_path: Path) -> None:
    raw = np.random.default_rng(1).integers(0, 256, (40, 28, 28), dtype=np.uint8)
    np.save(tmp_path / "pool.npy", raw)
    torch.manual_seed(0)
    prepare = Prepare(32, (0.3,), (0.4,))
    loaded = Predictor(LeNet5((1, 32, 32), 3), tuple("abc"), prepare, (1, 32, 32), CPU)
    mapped = np.load(tmp_path / "pool.npy", mmap_mode="r")
    assert torch.equal(loaded.predict_proba(mapped), loaded.predict_proba(raw))
    assert torch.equal(dal.score(loaded, mapped), dal.score(loaded, raw))


class Sentences(nn.Module):
    """Takes two tensors by name."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(9, 4), nn.Linear(4, 3)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        words = self.table(inputs["ids"]) * inputs["mask"][..., None]
        logits: Tensor = self.head(words.sum(1))
        return logits


def test_tensors_by_name_are_scored_and_predicted() -> None:
    rng = torch.Generator().manual_seed(0)
    ids = torch.randint(9, (30, 6), generator=rng)
    inputs = {"ids": ids, "mask": (torch.rand(30, 6, generator=rng) < 0.7).double()}
    torch.manual_seed(0)
    model = Sentences().double()  # in float32 batches of another size round otherwise
    probs = model(inputs).softmax(1)
    torch.testing.assert_close(dal.score(model, inputs, batch_size=8), dal.query.margin(probs))
    shapes = {"ids": (6,), "mask": (6,)}
    loaded = Predictor(model, tuple("abc"), Prepare(), shapes, CPU)
    torch.testing.assert_close(loaded.predict_proba(inputs), probs)
    with pytest.raises(ValueError, match="was trained on"):
        loaded.predict_proba({"ids": ids})
