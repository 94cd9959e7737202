"""The pool pass against a plain forward, and what it must leave alone."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import named_inputs
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dal.inference.dropout_masks import DropoutMasks
from dal.inference.pool_pass import auto_batch_size, batch_size_for, pool_pass, predict_logits
from dal.models import MLP, LeNet5
from dal.models.base import Output
from dal.query import Features, GradNorms, Members, Needs, Probs
from dal.task import Multiclass
from dal.utils.inputs import Inputs, take_rows

CPU = torch.device("cpu")
CLASSES = 3
PLAIN: Needs = frozenset({Probs(), Features()})
EVERYTHING: Needs = frozenset({Probs(), Features(), GradNorms()})


class BatchNormNet(nn.Module):
    """Batch normalization with statistics of its own, dropout, and a frozen part."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.norm.running_mean = torch.tensor([0.3])
        self.norm.running_var = torch.tensor([2.0])
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Output:
        features = self.body(self.norm(x))
        return Output(self.head(features), features)


class AlwaysDropout(BatchNormNet):
    """Draws from the global generator even in evaluation mode."""

    def forward(self, x: Tensor) -> Output:
        features = F.dropout(self.body(self.norm(x)), 0.5, training=True)
        return Output(self.head(features), features)


class Hungry(nn.Module):
    """Runs out of memory above a batch size."""

    def __init__(self, limit: int, fail: Callable[[], object]) -> None:
        super().__init__()
        self.inner, self.limit, self.fail = make(BatchNormNet), limit, fail
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Output:
        self.sizes.append(len(x))
        if len(x) > self.limit:
            self.fail()
        output: Output = self.inner(x)
        return output


MODELS: dict[str, Callable[[], nn.Module]] = {
    "batch-norm": BatchNormNet,
    "mlp": lambda: MLP((1, 28, 28), CLASSES, [32]),
    "lenet5": lambda: LeNet5((1, 28, 28), CLASSES),
}


def make(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()


def images(count: int = 100) -> Tensor:
    return torch.randn(count, 1, 28, 28, generator=torch.Generator().manual_seed(1))


def taking(inputs: Tensor) -> Callable[[Tensor, torch.device], Tensor]:
    return lambda indices, device: inputs[indices].to(device)


def run(
    model: nn.Module,
    indices: Tensor,
    needs: Needs = PLAIN,
    batch_size: int = 32,
    on_batch: Callable[[], None] = lambda: None,
) -> dict[str, Tensor]:
    results, size = pool_pass(
        model,
        taking(images()),
        indices,
        needs,
        Multiclass(CLASSES),
        device=CPU,
        batch_size=batch_size,
        on_batch=on_batch,
    )
    assert set(results) == needs
    assert size == batch_size
    return {type(need).__name__: value for need, value in results.items()}


@pytest.mark.parametrize("batch_size", [1, 32, 128])
@pytest.mark.parametrize("name", MODELS)
def test_results_equal_a_plain_forward(name: str, batch_size: int) -> None:
    model = make(MODELS[name])
    exact = copy.deepcopy(model).double().eval()
    indices = torch.randperm(100, generator=torch.Generator().manual_seed(2))[:71]
    with torch.no_grad():
        want = exact(images()[indices].double())
    got = run(model, indices, batch_size=batch_size)
    assert got["Probs"].dtype == got["Features"].dtype == torch.float32
    torch.testing.assert_close(got["Probs"].double(), want.logits.softmax(1), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(got["Features"].double(), want.features, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_predict_logits_equals_a_plain_forward(name: str) -> None:
    model = make(MODELS[name])
    with torch.no_grad():
        want = copy.deepcopy(model).double().eval()(images().double()).logits
    got = predict_logits(model, taking(images()), 100, device=CPU, batch_size=32)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-5)
    got.requires_grad_()  # no inference tensor
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("batch_size", [32, 64])
@pytest.mark.parametrize("name", MODELS)
def test_a_samples_bits_do_not_depend_on_its_companions(name: str, batch_size: int) -> None:
    model = make(MODELS[name])
    everything = run(model, torch.arange(100), batch_size=batch_size)
    for seed, count in enumerate([1, 31, 32, 33, 77, 100]):
        rng = torch.Generator().manual_seed(seed)
        indices = torch.randperm(100, generator=rng)[:count]
        part = run(model, indices, batch_size=batch_size)
        assert torch.equal(part["Probs"], everything["Probs"][indices])
        assert torch.equal(part["Features"], everything["Features"][indices])


def test_every_batch_is_full_and_padding_is_dropped() -> None:
    model = Hungry(1000, lambda: None)
    got = run(model, torch.arange(70))
    assert model.sizes == [32, 32, 32]
    assert len(got["Probs"]) == 70


def test_needs_that_are_not_asked_are_not_computed() -> None:
    model = make(BatchNormNet)
    assert set(run(model, torch.arange(5), frozenset({Features()}))) == {"Features"}
    assert set(run(model, torch.arange(5), frozenset({GradNorms("last")}))) == {"GradNorms"}


def test_gradient_lengths_have_a_column_a_label() -> None:
    model = make(BatchNormNet)
    got = run(model, torch.arange(40), EVERYTHING)
    assert got["GradNorms"].shape == (40, CLASSES)
    one = run(model, torch.arange(40), frozenset({GradNorms("all", "predicted"), Probs()}))
    top = one["Probs"].argmax(1, keepdim=True)
    torch.testing.assert_close(one["GradNorms"], got["GradNorms"].gather(1, top))
    assert torch.equal(one["Probs"], got["Probs"])


@pytest.mark.parametrize("build", [BatchNormNet, AlwaysDropout])
def test_model_and_random_state_are_left_alone(build: type[nn.Module]) -> None:
    model = make(build)
    model.train()
    model.body.eval()
    needs = EVERYTHING if build is BatchNormNet else PLAIN
    parameters = list(model.parameters())
    parameters[0].requires_grad_(False)
    parameters[1].grad = torch.full_like(parameters[1], 7.0)
    grads = [p.grad for p in parameters]
    asked = [p.requires_grad for p in parameters]
    modes = [module.training for module in model.modules()]
    assert len(set(modes)) == 2
    before = copy.deepcopy(model.state_dict())
    torch.manual_seed(5)
    state = torch.get_rng_state()
    run(model, torch.arange(40), needs)
    predict_logits(model, taking(images()), 40, device=CPU, batch_size=32)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert [p.requires_grad for p in parameters] == asked
    assert all(p.grad is grad for p, grad in zip(parameters, grads, strict=True))
    assert bool((parameters[1].grad == 7).all())
    after = model.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_results_are_ordinary_tensors() -> None:
    for value in run(make(BatchNormNet), torch.arange(40), EVERYTHING).values():
        assert not value.is_inference()
        assert not value.requires_grad


def test_callers_tensors_are_not_modified() -> None:
    inputs, indices = images(), torch.tensor([5, 3, 99])
    copies = inputs.clone(), indices.clone()
    pool_pass(
        make(BatchNormNet),
        lambda batch, device: inputs,
        indices,
        frozenset({Probs(), GradNorms("input")}),
        Multiclass(CLASSES),
        device=CPU,
        batch_size=100,
    )
    assert torch.equal(inputs, copies[0])
    assert torch.equal(indices, copies[1])
    assert not inputs.requires_grad
    assert inputs.grad is None


@pytest.mark.parametrize("needs", [PLAIN, EVERYTHING])
def test_an_abandoned_pass_leaves_modes_and_random_state(needs: Needs) -> None:
    model = make(BatchNormNet).train()
    calls: list[int] = []

    def stop_at_the_third() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    state = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        run(model, torch.arange(100), needs, on_batch=stop_at_the_third)
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)


def raise_device_error() -> None:
    raise torch.OutOfMemoryError("out of memory")


def exhaust_the_cpu() -> None:
    torch.empty(2**55)


@pytest.mark.parametrize("fail", [raise_device_error, exhaust_the_cpu])
def test_out_of_memory_halves_the_batch(
    fail: Callable[[], object], caplog: pytest.LogCaptureFixture
) -> None:
    model = Hungry(16, fail)
    indices = torch.arange(50)
    with caplog.at_level(logging.WARNING, "dal.inference.pool_pass"):
        got, size = pool_pass(
            model,
            taking(images()),
            indices,
            PLAIN,
            Multiclass(CLASSES),
            device=CPU,
            batch_size=64,
        )
    assert size == 16
    assert [record.getMessage().split()[-1] for record in caplog.records] == ["32", "16"]
    assert model.sizes == [64, 32, 16, 16, 16, 16]
    want = run(model.inner, indices, batch_size=16)
    assert torch.equal(got[Probs()], want["Probs"])
    assert torch.equal(got[Features()], want["Features"])
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("fail", [raise_device_error, exhaust_the_cpu])
def test_prediction_halves_the_batch_too(
    fail: Callable[[], object], caplog: pytest.LogCaptureFixture
) -> None:
    model = Hungry(16, fail)
    with caplog.at_level(logging.WARNING, "dal.inference.pool_pass"):
        got = predict_logits(model, taking(images()), 50, device=CPU, batch_size=32)
    assert model.sizes == [32, 16, 16, 16, 16]
    assert [r.getMessage() for r in caplog.records] == [
        "out of memory in the prediction; going on with batches of 16"
    ]
    want = predict_logits(model.inner, taking(images()), 50, device=CPU, batch_size=16)
    assert torch.equal(got, want)
    with pytest.raises(RuntimeError, match=r"memory"):
        predict_logits(Hungry(0, fail), taking(images()), 5, device=CPU, batch_size=2)


def test_out_of_memory_late_in_the_pool_starts_over() -> None:
    model = Hungry(1000, raise_device_error)
    seen: list[int] = []

    def memory_runs_out() -> None:
        seen.append(1)
        model.limit = 16 if len(seen) >= 2 else 1000

    got, size = pool_pass(
        model,
        taking(images()),
        torch.arange(50),
        PLAIN,
        Multiclass(CLASSES),
        device=CPU,
        batch_size=32,
        on_batch=memory_runs_out,
    )
    assert size == 16
    assert model.sizes == [32, 32, 16, 16, 16, 16]
    assert torch.equal(got[Probs()], run(model.inner, torch.arange(50), batch_size=16)["Probs"])


def test_out_of_memory_with_a_batch_of_one_is_raised() -> None:
    model = Hungry(0, raise_device_error)
    with pytest.raises(torch.OutOfMemoryError, match=r"even with batches of one sample; choose a"):
        run(model, torch.arange(5), batch_size=4)
    assert model.sizes == [4, 2, 1]
    assert all(module.training for module in model.modules())


def test_other_errors_are_raised_at_once() -> None:
    def fail() -> None:
        raise RuntimeError("shapes do not match")

    model = Hungry(0, fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        run(model, torch.arange(5), batch_size=4)
    assert model.sizes == [4]


def test_features_of_bare_logits_are_refused() -> None:
    model = make(lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, CLASSES)))
    with pytest.raises(ValueError, match="features were asked of a network"):
        run(model, torch.arange(5))
    want = model(images()[:5]).softmax(1)
    torch.testing.assert_close(run(model, torch.arange(5), frozenset({Probs()}))["Probs"], want)


@settings(deadline=None)
@given(st.integers(0, 10**9))
def test_automatic_batch_size(numel: int) -> None:
    small, large = (auto_batch_size(numel, torch.device(kind)) for kind in ("cpu", "cuda"))
    assert {small, large} <= {2**power for power in range(5, 15)}
    assert small <= large
    assert small == 32 or small * numel <= 2**19
    assert small == 2**14 or 2 * small * numel > 2**19


def test_asked_batch_size_goes_no_further_than_the_pool() -> None:
    auto = auto_batch_size(784, CPU)
    for asked in (1, 48, auto, 60_000):
        assert batch_size_for(asked, 784, 60_000, CPU) == asked
    assert batch_size_for(10**19, 784, 60_000, CPU) == 60_000
    assert batch_size_for(10**19, 784, 50, CPU) == auto
    assert batch_size_for(None, 784, 60_000, CPU) == batch_size_for(None, 784, 5, CPU) == auto


@pytest.mark.parametrize("case", list(named_inputs.CASES))
def test_pass_and_prediction_on_inputs_by_name_equal_those_on_one_tensor(case: str) -> None:
    make, inputs = named_inputs.CASES[case]
    model, count = named_inputs.network(make), named_inputs.COUNT
    masks = DropoutMasks(model, 3, seed=0, round_number=1)
    needs = frozenset({Probs(), Features(), GradNorms(), Members()})

    def found(samples: Inputs) -> dict[str, Tensor]:
        def take(indices: Tensor, device: torch.device) -> Inputs:
            return take_rows(samples, indices)

        options: dict[str, Any] = {"device": torch.device("cpu"), "batch_size": 16}
        indices = torch.arange(count).flip(0)
        results, _ = pool_pass(model, take, indices, needs, Multiclass(3), masks=masks, **options)
        logits = predict_logits(model, take, count, **options)
        return {"logits": logits, **{repr(need): value for need, value in results.items()}}

    by_name, of_one = found(inputs), found(named_inputs.side_by_side(inputs))
    assert by_name.keys() == of_one.keys()
    for name, value in by_name.items():
        assert torch.equal(value, of_one[name]), name
