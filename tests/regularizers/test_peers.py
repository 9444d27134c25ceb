"""The penalties and their gradients beside PyTorch's, in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kopt.regularizers import L1, L1L2, L2, GroupLasso

pytestmark = pytest.mark.peer
SHAPE = (3, 3, 4, 6)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def group_lasso(torch, weights, factor, within, scale=1):
    return factor * scale * torch.linalg.vector_norm(weights, dim=within).sum()


CASES = [
    (L1(0.25), lambda torch, w: 0.25 * w.abs().sum()),
    (L2(0.25), lambda torch, w: 0.25 * w.square().sum()),
    (L1L2(0.5, 0.25), lambda torch, w: (0.5 * w.abs() + 0.25 * w.square()).sum()),
    (GroupLasso(0.25), lambda torch, w: group_lasso(torch, w, 0.25, (0, 1, 2), 6)),
    (
        GroupLasso(0.25, -2, scale_by_size=False),
        lambda torch, w: group_lasso(torch, w, 0.25, (0, 1, 3)),
    ),
    (
        GroupLasso(0.25, (-2, -1)),
        lambda torch, w: group_lasso(torch, w, 0.25, (0, 1), 3),
    ),
]


@pytest.mark.parametrize(
    ("penalty", "formula"), [pytest.param(*case, id=repr(case[0])) for case in CASES]
)
def test_penalty_and_gradient(torch, penalty, formula):
    keras.config.set_floatx("float64")
    array = np.random.default_rng(0).normal(size=SHAPE)
    # Where a whole group is zero both have the subgradient zero.
    array[..., 2] = 0
    array[:, :, 1] = 0
    theirs = torch.tensor(array, requires_grad=True)
    expected = formula(torch, theirs)
    expected.backward()
    ours = tf.constant(array)
    with tf.GradientTape() as tape:
        tape.watch(ours)
        value = penalty(ours)
    assert float(value) == pytest.approx(float(expected.detach()), rel=1e-12)
    np.testing.assert_allclose(
        tape.gradient(value, ours), theirs.grad, rtol=1e-12, atol=1e-15
    )
