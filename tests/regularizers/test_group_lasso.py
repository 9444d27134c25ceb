import keras
import numpy as np
import pytest

from kopt.regularizers import L1, GroupLasso, apply
from tests.sampling import sampled

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
@pytest.mark.parametrize(
    "scale_by_size", sampled([True, False], [True], pytest.mark.slow)
)
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


@pytest.mark.parametrize("axis", ["-1", 1.0, (0.5,)])
def test_an_axis_that_is_no_integer_is_refused(axis):
    with pytest.raises(TypeError, match="`axis` must be a whole number"):
        GroupLasso(axis=axis)


def test_an_axis_from_a_file_is_a_list():
    config = GroupLasso(axis=(-2, -1)).get_config() | {"axis": [-2, -1]}
    assert GroupLasso.from_config(config).axis == (-2, -1)


def spans(shape, *within):
    """Groups of weights that lie along some axes of an array."""
    rest = [axis for axis in range(len(shape)) if axis not in within]
    return lambda kernel: (
        kernel.transpose(*within, *rest)
        .reshape(np.prod([shape[a] for a in within], dtype=int), -1)
        .T
    )


def gates(count):
    """Groups of a unit's columns in all gates, which lie side by side."""
    return lambda kernel: [
        kernel[..., unit :: kernel.shape[-1] // count].ravel()
        for unit in range(kernel.shape[-1] // count)
    ]


layers = keras.layers
#: A layer, its input, and for each kernel that `apply` regularizes its groups, written
#: down by hand.
GROUPS = {
    "dense": (lambda: layers.Dense(5), (4,), [spans((4, 5), 0)]),
    "convolution": (
        lambda: layers.Conv2D(6, 3, groups=2),
        (8, 8, 4),
        [spans((3, 3, 2, 6), 0, 1, 2)],
    ),
    "depthwise": (
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=2),
        (8, 8, 4),
        [spans((3, 3, 4, 2), 0, 1)],
    ),
    "separable": (
        lambda: layers.SeparableConv1D(5, 3),
        (8, 4),
        [spans((3, 4, 1), 0), spans((1, 4, 5), 0, 1)],
    ),
    "transposed": (
        lambda: layers.Conv2DTranspose(5, 3),
        (8, 8, 4),
        [spans((3, 3, 5, 4), 0, 1, 3)],
    ),
    "outputs first": (
        lambda: layers.EinsumDense("ab,cb->ac", 5),
        (4,),
        [spans((5, 4), 1)],
    ),
    "embedding": (lambda: layers.Embedding(7, 4), (3,), [spans((7, 4), 0)]),
    "simple recurrent": (lambda: layers.SimpleRNN(3), (5, 4), [gates(1)]),
    "long memory": (lambda: layers.LSTM(3), (5, 4), [gates(4)]),
    "both directions": (
        lambda: layers.Bidirectional(layers.GRU(3)),
        (5, 4),
        [gates(3), gates(3)],
    ),
    "recurrent convolution": (
        lambda: layers.ConvLSTM2D(3, 2),
        (2, 5, 5, 4),
        [gates(4)],
    ),
}


def filled(model):
    generator = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(generator.normal(size=weight.shape))


def penalized(model):
    return [w for w in model.trainable_weights if w.regularizer is not None]


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize(
    "scale_by_size", sampled([True, False], [True], pytest.mark.slow)
)
def test_groups_are_the_units_of_each_layer(name, scale_by_size):
    make, shape, groups = GROUPS[name]
    model = keras.Sequential([keras.Input(shape), make()])
    filled(model)
    apply(model, {".*": GroupLasso(0.5, scale_by_size=scale_by_size)})
    expected = 0.0
    for kernel, split in zip(penalized(model), groups, strict=True):
        found = [np.asarray(g, "float64") for g in split(kernel.numpy())]
        scale = np.sqrt(found[0].size) if scale_by_size else 1.0
        expected += 0.5 * scale * lengths(found)
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "kind", [layers.MultiHeadAttention, layers.GroupQueryAttention]
)
def test_groups_of_attention_are_dimensions_of_heads_and_outputs(kind):
    inputs = keras.Input((5, 4))
    arguments = {"num_heads": 2, "key_dim": 3}
    if kind is layers.GroupQueryAttention:
        arguments = {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2}
    attention = kind(**arguments, name="attention")
    model = keras.Model(inputs, attention(inputs, inputs))
    filled(model)
    apply(model, {"attention": GroupLasso(1.0, scale_by_size=False)})
    *projections, output = penalized(model)
    assert len(projections) == 3
    # Kernels (inputs, heads, dimensions), and (heads, dimensions, outputs).
    expected = sum(np.sqrt((p.numpy() ** 2).sum(0)).sum() for p in projections)
    expected += np.sqrt((output.numpy() ** 2).sum((0, 1))).sum()
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)


def test_a_recurrent_kernel_is_grouped_by_the_columns_of_its_units():
    model = keras.Sequential([keras.Input((5, 4)), layers.GRU(3)])
    filled(model)
    penalty = GroupLasso(1.0, scale_by_size=False)
    apply(model, {".*": penalty}, weights="recurrent_kernel")
    kernel = model.layers[0].cell.recurrent_kernel.numpy()
    expected = lengths(gates(3)(kernel))
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)


def test_each_channel_of_a_depthwise_kernel_is_a_group():
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.DepthwiseConv2D(3)])
    apply(model, {".*": GroupLasso(1.0, scale_by_size=False)})
    for weight in model.weights:
        weight.assign(np.ones(weight.shape))
    # Three channels of nine ones.
    assert float(sum(model.losses)) == pytest.approx(9.0)


def test_a_regularizer_given_to_the_layer_itself_knows_its_units():
    penalty = GroupLasso(1.0, scale_by_size=False)
    layer = layers.DepthwiseConv2D(3, depthwise_regularizer=penalty)
    layer.build((None, 8, 8, 3))
    layer.kernel.assign(np.ones(layer.kernel.shape))
    assert float(sum(layer.losses)) == pytest.approx(9.0)


def test_groups_are_the_same_after_saving_and_in_a_compiled_step(tmp_path):
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2DTranspose(2, 3)])
    filled(model)
    apply(model, {".*": GroupLasso(1.0)})
    before = float(sum(model.losses))
    model.save(tmp_path / "model.keras")
    model.compile("sgd", lambda y, prediction: 0 * prediction)
    x, y = np.zeros((2, 8, 8, 3)), np.zeros((2, 10, 10, 2))
    assert model.evaluate(x, y, verbose=0) == pytest.approx(before, rel=1e-5)
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert float(sum(again.losses)) == pytest.approx(before, rel=1e-6)


def test_an_axis_that_is_given_holds_for_any_layer():
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.DepthwiseConv2D(3)])
    apply(model, {".*": GroupLasso(1.0, -1, scale_by_size=False)})
    kernel = model.layers[0].kernel.numpy()
    expected = np.sqrt((kernel**2).sum())
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)
