"""Kernels as matrices, and back."""

import numpy as np
import pytest

from kopt._kernels.folding import Folding

SHAPE = (2, 3, 4, 5)


@pytest.mark.parametrize(
    ("groups", "sizes"),
    [
        (((0, 1), (2,), (3,)), (6, 4, 5)),
        (((0, 1, 3), (2,)), (30, 4)),
        (((3,), (2, 0, 1)), (5, 24)),
        (((), (0, 1, 2, 3)), (1, 120)),
    ],
)
def test_a_kernel_comes_back_from_its_matrices(groups, sizes):
    kernel = np.random.default_rng(0).normal(size=SHAPE)
    folding = Folding(SHAPE, groups)
    folded = folding.fold(kernel)
    assert tuple(folded.shape) == folding.sizes == sizes
    np.testing.assert_array_equal(folding.unfold(folded), kernel)


def test_each_axis_of_a_folded_kernel_holds_a_group():
    kernel = np.random.default_rng(0).normal(size=SHAPE)
    folded = np.asarray(Folding(SHAPE, ((0, 1, 3), (2,))).fold(kernel))
    np.testing.assert_array_equal(folded[:, 1], kernel[:, :, 1].ravel())


def test_groups_in_the_order_of_the_axes_need_no_transposition():
    assert Folding(SHAPE, ((0, 1), (2, 3))).keeps_order
    assert not Folding(SHAPE, ((0, 1, 3), (2,))).keeps_order
