import numpy as np
import pytest

from kopt.layers import DropPath
from tests.reference.layers import stochastic_depth


def kept_rows(outputs):
    flat = np.array(outputs).reshape(len(outputs), -1)
    assert ((flat == 0).all(axis=1) | (flat != 0).all(axis=1)).all()
    return flat[:, 0] != 0


@pytest.mark.parametrize("shape", [(64,), (64, 3), (64, 4, 5, 3)])
def test_row_mode_drops_whole_samples_each_on_its_own(shape):
    kept = kept_rows(DropPath(0.5, seed=1)(np.ones(shape), training=True))
    assert 0 < kept.sum() < len(kept)


def test_batch_mode_drops_all_samples_or_none():
    layer = DropPath(0.5, mode="batch", seed=1)
    draws = [kept_rows(layer(np.ones((4, 3)), training=True)) for _ in range(40)]
    assert {tuple(draw) for draw in draws} == {(True,) * 4, (False,) * 4}


@pytest.mark.parametrize("scale_by_keep", [True, False])
@pytest.mark.parametrize("mode", ["row", "batch"])
def test_equals_the_formula_for_the_mask_it_drew(mode, scale_by_keep):
    values = np.random.default_rng(0).normal(size=(16, 4, 3)).astype("float32")
    layer = DropPath(0.3, mode, seed=2, scale_by_keep=scale_by_keep)
    for _ in range(5):
        outputs = np.array(layer(values, training=True))
        expected = stochastic_depth(values, kept_rows(outputs), 0.3, scale_by_keep)
        np.testing.assert_allclose(outputs, expected, rtol=1e-6)


def test_linear_rates_rise_evenly_to_the_last():
    rates = DropPath.linear_rates(12, 0.3)
    np.testing.assert_allclose(rates, np.linspace(0.0, 0.3, 12), atol=1e-15)
    assert rates[-1] == 0.3


def test_linear_rates_follow_the_papers_rule_when_told_so():
    # Huang et al.: block l of L is dropped with probability l / L * (1 - p_L).
    rates = DropPath.linear_rates(10, 0.5, first=0.5 / 10)
    np.testing.assert_allclose(rates, [0.5 * block / 10 for block in range(1, 11)])


def test_linear_rates_of_one_block_is_the_last_ones():
    assert DropPath.linear_rates(1, 0.2) == [0.2]


def test_linear_rates_construct_layers():
    assert [DropPath(rate).rate for rate in DropPath.linear_rates(3, 1.0)] == [
        0,
        0.5,
        1,
    ]


@pytest.mark.parametrize(
    ("depth", "rate", "error"),
    [(0, 0.1, ValueError), (2.0, 0.1, TypeError), (3, 1.1, ValueError)],
)
def test_linear_rates_refuse_what_makes_no_rates(depth, rate, error):
    with pytest.raises(error, match=r"`depth`|`rate`"):
        DropPath.linear_rates(depth, rate)


def test_unknown_mode_is_refused():
    with pytest.raises(ValueError, match=r"`mode` must be one of 'row', 'batch'"):
        DropPath(0.5, mode="sample")
