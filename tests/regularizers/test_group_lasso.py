import keras
import numpy as np
import pytest

from kopt.regularizers import L1, GroupLasso

CONVOLUTION = np.random.default_rng(0).normal(size=(3, 3, 4, 6)).astype("float32")


def lengths(groups):
    return sum(np.sqrt((group.astype("float64") ** 2).sum()) for group in groups)


@pytest.mark.parametrize(
    ("axis", "groups", "size"),
    [
        (-1, [CONVOLUTION[..., one] for one in range(6)], 36),
        (3, [CONVOLUTION[..., one] for one in range(6)], 36),
        (-2, [CONVOLUTION[:, :, one] for one in range(4)], 54),
        ((0, 1), [CONVOLUTION[a, b] for a in range(3) for b in range(3)], 24),
    ],
)
@pytest.mark.parametrize("scale_by_size", [True, False])
def test_groups_are_numbered_by_the_axis(axis, groups, size, scale_by_size):
    penalty = GroupLasso(1.0, axis, scale_by_size=scale_by_size)
    expected = lengths(groups) * (np.sqrt(size) if scale_by_size else 1)
    assert float(penalty(CONVOLUTION)) == pytest.approx(expected, rel=1e-6)


def test_on_groups_of_one_weight_it_is_l1():
    bias = np.array([1.0, -2.0, 0.0], "float32")
    assert float(GroupLasso(0.5)(bias)) == float(L1(0.5)(bias))


def test_an_empty_group_stays_empty_while_others_train():
    dense = keras.layers.Dense(3, kernel_regularizer=GroupLasso(0.1))
    model = keras.Sequential([keras.Input((4,)), dense])
    kernel = np.ones((4, 3), "float32")
    kernel[:, 1] = 0
    dense.kernel.assign(kernel)
    model.compile("sgd", lambda y, prediction: 0 * prediction, jit_compile=False)
    model.fit(np.ones((8, 4)), np.ones((8, 3)), shuffle=False, verbose=0)
    trained = dense.kernel.numpy()
    assert (trained[:, 1] == 0).all()
    assert (trained[:, [0, 2]] < 1).all()


def test_shrinks_useless_inputs_together():
    # The target depends on the first two inputs: the others' groups shrink to nothing.
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(256, 6)).astype("float32")
    targets = inputs[:, :2] @ generator.normal(size=(2, 3)).astype("float32")
    dense = keras.layers.Dense(3, kernel_regularizer=GroupLasso(0.05, axis=-2))
    model = keras.Sequential([keras.Input((6,)), dense])
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    model.fit(inputs, targets, batch_size=64, epochs=30, verbose=0)
    length = np.linalg.norm(dense.kernel.numpy(), axis=1)
    assert length[2:].max() < 0.02 < 0.3 < length[:2].min()


@pytest.mark.parametrize("axis", [2, -3, (0, 2)])
def test_an_axis_that_the_weights_lack_is_refused(axis):
    with pytest.raises(ValueError, match="must name axes of the weights, from -2 to 1"):
        GroupLasso(axis=axis)(np.ones((2, 3)))


@pytest.mark.parametrize("axis", ["-1", 1.0, None, (0.5,)])
def test_an_axis_that_is_no_integer_is_refused(axis):
    with pytest.raises(TypeError, match="`axis` must be a whole number"):
        GroupLasso(axis=axis)


def test_an_axis_from_a_file_is_a_list():
    config = GroupLasso(axis=(-2, -1)).get_config() | {"axis": [-2, -1]}
    assert GroupLasso.from_config(config).axis == (-2, -1)
