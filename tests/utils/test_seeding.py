import pytest
import torch

from dal.utils.seeding import derive, generator


def test_derived_seeds_are_distinct_63_bit_numbers() -> None:
    keys = [(s, *k) for s in range(20) for k in [(), (0,), (1,), ("a",), (0, "a"), ("a", 0)]]
    seeds = [derive(seed, *rest) for seed, *rest in keys]
    assert len(set(seeds)) == len(keys)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**60


@pytest.mark.parametrize(("one", "other"), [((1, 1), (1, "1")), ((1, 11), (11, 1)), ((0,), (-1,))])
def test_keys_that_look_alike_give_other_seeds(one: tuple[int], other: tuple[int]) -> None:
    assert derive(*one) != derive(*other)


def test_derived_seed_never_changes() -> None:
    assert derive(0, 3, "order") == 372542054906791381
    assert derive(123, "weights") == 1791052779956678784


def test_generator_is_reproducible_and_leaves_the_global_state() -> None:
    before = torch.get_rng_state()
    first = torch.rand(4, generator=generator(7, "x"))
    assert torch.equal(torch.rand(4, generator=generator(7, "x")), first)
    assert not torch.equal(torch.rand(4, generator=generator(8, "x")), first)
    assert torch.equal(torch.get_rng_state(), before)
