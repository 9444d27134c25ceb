"""The table of kernel axes, against what Keras's own layers compute."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from kopt._keras.layer_of_variable import layers_of
from kopt._kernels.axes import (
    _VECTORS,
    axes_of,
    channels_from_end,
    kernel_axes,
    kernel_letters,
)

layers = keras.layers

IMAGE = (None, 6, 6, 4)
#: Each public layer class with weights: how to make one and what to build it on.
LAYERS = {
    layers.AdditiveAttention: ((), [[(None, 3, 4), (None, 3, 4)]]),
    layers.Attention: ((True,), [[(None, 3, 4), (None, 3, 4)]]),
    layers.BatchNormalization: ((), IMAGE),
    layers.Bidirectional: (lambda: (layers.LSTM(3),), (None, 5, 4)),
    layers.Conv1D: ((5, 3), (None, 6, 4)),
    layers.Conv2D: ((5, 3), IMAGE),
    layers.Conv3D: ((5, 3), (None, 6, 6, 6, 4)),
    layers.Conv1DTranspose: ((5, 3), (None, 6, 4)),
    layers.Conv2DTranspose: ((5, 3), IMAGE),
    layers.Conv3DTranspose: ((5, 3), (None, 6, 6, 6, 4)),
    layers.ConvLSTM1D: ((5, 3), (None, 2, 6, 4)),
    layers.ConvLSTM2D: ((5, 3), (None, 2, 6, 6, 4)),
    layers.ConvLSTM3D: ((5, 3), (None, 2, 6, 6, 6, 4)),
    layers.Dense: ((5,), (None, 4)),
    layers.DepthwiseConv1D: ((3,), (None, 6, 4)),
    layers.DepthwiseConv2D: ((3,), IMAGE),
    layers.EinsumDense: (("abc,cde->abde", (None, 2, 3)), (None, 6, 4)),
    layers.Embedding: ((7, 4), (None, 5)),
    layers.GRU: ((3,), (None, 5, 4)),
    layers.GRUCell: ((3,), (None, 4)),
    layers.GroupNormalization: ((2,), IMAGE),
    layers.GroupQueryAttention: ((6, 4, 2), [(None, 5, 4), (None, 5, 4)]),
    layers.LSTM: ((3,), (None, 5, 4)),
    layers.LSTMCell: ((3,), (None, 4)),
    layers.LayerNormalization: (([-2, -1],), IMAGE),
    layers.MultiHeadAttention: ((2, 3), [(None, 5, 4), (None, 5, 4)]),
    layers.Normalization: ((), (None, 4)),
    layers.PReLU: ((), IMAGE),
    layers.RMSNormalization: ((), IMAGE),
    layers.RNN: (lambda: (layers.LSTMCell(3),), (None, 5, 4)),
    layers.ReversibleEmbedding: ((7, 4, False), (None, 5)),
    layers.STFTSpectrogram: (("real", 8, 4), (None, 32, 1)),
    layers.SeparableConv1D: ((5, 3), (None, 6, 4)),
    layers.SeparableConv2D: ((5, 3), IMAGE),
    layers.SimpleRNN: ((3,), (None, 5, 4)),
    layers.SimpleRNNCell: ((3,), (None, 4)),
    layers.SpectralNormalization: (lambda: (layers.Conv2D(5, 3),), IMAGE),
    layers.StackedRNNCells: (
        lambda: ([layers.GRUCell(3), layers.GRUCell(2)],),
        (None, 4),
    ),
    layers.TimeDistributed: (lambda: (layers.Dense(5),), (None, 5, 4)),
}
#: Their weights are those of other layers, or of other libraries.
FOREIGN = {"FlaxLayer", "JaxLayer", "TFSMLayer", "TorchModuleWrapper", "Pipeline"}
NO_WEIGHTS = {"AugMix", "IntegerLookup", "RandAugment", "RandomColorJitter"}
NO_WEIGHTS |= {"StringLookup", "Subtract", "Wrapper"}


def built(kind):
    arguments, shape = LAYERS[kind]
    layer = kind(*(arguments() if callable(arguments) else arguments))
    layer.build(*(shape if isinstance(shape, list) else [shape]))
    return layer


def makes_weights(kind):
    """Whether the source of a layer class, or of one it inherits from, makes any."""
    bases = kind.__mro__[: kind.__mro__.index(keras.Layer)]
    source = "".join(inspect.getsource(base) for base in bases)
    return any(word in source for word in ("add_weight(", ".build(", "Variable("))


def test_every_layer_of_keras_with_weights_is_tried_here():
    public = [one for _, one in inspect.getmembers(layers, inspect.isclass)]
    missing = {
        kind.__name__
        for kind in public
        if issubclass(kind, keras.Layer)
        and kind is not keras.Layer
        and kind not in LAYERS
        and makes_weights(kind)
    }
    # A layer that Keras has added belongs into the table of `kopt._kernels.axes`.
    assert missing - FOREIGN - NO_WEIGHTS == set()


@pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)
def test_every_kernel_of_every_layer_of_keras_is_in_the_table(kind):
    layer = built(kind)
    kernels = [
        weight
        for weight in layer.trainable_weights
        if len(weight.shape) > 1 and not _VECTORS.fullmatch(weight.name)
    ]
    for owner, kernel in zip(layers_of(kernels), kernels, strict=True):
        assert kernel_letters(owner, kernel.name), kernel.path
        axes = kernel_axes(owner, kernel.name, len(kernel.shape))
        assert axes.rank == len(kernel.shape)


@pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)
def test_biases_and_scales_are_no_kernels(kind):
    layer = built(kind)
    vectors = [w for w in layer.weights if _VECTORS.fullmatch(w.name)]
    assert axes_of(vectors) == [None] * len(vectors)


def support(layer, weight, inputs, output):
    """Which numbers of a weight one number of a layer's output depends on."""
    with tf.GradientTape() as tape:
        outputs = layer(tf.constant(inputs))
        outputs = outputs[0] if isinstance(outputs, (tuple, list)) else outputs
        picked = outputs[output]
    return np.asarray(tf.convert_to_tensor(tape.gradient(picked, weight.value))) != 0


UNITS = {
    "dense": (lambda: layers.Dense(5), (2, 4), (0, 2)),
    "dense over time": (lambda: layers.Dense(5), (2, 3, 4), (0, 1, 2)),
    "convolution 1D": (lambda: layers.Conv1D(5, 3), (1, 6, 4), (0, 1, 2)),
    "convolution 2D": (lambda: layers.Conv2D(5, 3), (1, 6, 6, 4), (0, 1, 2, 3)),
    "convolution 3D": (lambda: layers.Conv3D(5, 2), (1, 4, 4, 4, 3), (0, 1, 1, 1, 3)),
    "in groups": (lambda: layers.Conv2D(6, 3, groups=2), (1, 6, 6, 4), (0, 1, 2, 3)),
    "dilated": (
        lambda: layers.Conv2D(5, 2, dilation_rate=2),
        (1, 6, 6, 4),
        (0, 1, 2, 3),
    ),
    "depthwise 1D": (lambda: layers.DepthwiseConv1D(3), (1, 6, 4), (0, 1, 2)),
    "depthwise 2D": (
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=2),
        (1, 6, 6, 4),
        (0, 1, 2, 5),
    ),
    "transposed 1D": (lambda: layers.Conv1DTranspose(5, 3), (1, 6, 4), (0, 4, 2)),
    "transposed 2D": (lambda: layers.Conv2DTranspose(5, 3), (1, 6, 6, 4), (0, 4, 4, 2)),
    "transposed 3D": (
        lambda: layers.Conv3DTranspose(5, 2),
        (1, 4, 4, 4, 3),
        (0, 2, 2, 2, 1),
    ),
    "heads out": (
        lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 3)),
        (1, 2, 4),
        (0, 1, 1, 2),
    ),
    "heads in": (
        lambda: layers.EinsumDense("abcd,cde->abe", (None, 5)),
        (1, 2, 3, 4),
        (0, 1, 2),
    ),
    "outputs first": (lambda: layers.EinsumDense("ab,cb->ac", 5), (2, 4), (1, 3)),
    "experts": (
        lambda: layers.EinsumDense("abc,acd->abd", (3, 5)),
        (2, 3, 4),
        (1, 0, 2),
    ),
    "any place": (lambda: layers.EinsumDense("...x,xy->...y", 5), (2, 3, 4), (1, 0, 2)),
    "scale": (lambda: layers.EinsumDense("ab,bc->abc", (3, 5)), (2, 3), (1, 0, 2)),
    "one number": (lambda: layers.EinsumDense("abc,bc->a", ()), (2, 3, 4), (1,)),
    "table": (lambda: layers.Embedding(7, 4), (2, 3), (1, 2, 0)),
    "reversible table": (lambda: layers.ReversibleEmbedding(7, 4), (2, 3), (1, 2, 0)),
}


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_is_what_one_output_depends_on(name):
    make, shape, output = UNITS[name]
    layer = make()
    inputs = np.random.default_rng(0).uniform(1, 2, size=shape).astype("float32")
    layer.build(shape)
    (kernel,) = [w for w in layer.trainable_weights if not _VECTORS.fullmatch(w.name)]
    if axes_of([kernel])[0].rows:
        inputs = inputs.astype("int32")
    seen = support(layer, kernel, inputs, output)
    (axes,) = axes_of([kernel])
    assert len({tuple(p[a] for a in axes.units) for p in np.argwhere(seen)}) == 1
    # All of the unit takes part; of a row of a table, one number.
    share = 1 if axes.rows else np.prod([seen.shape[a] for a in axes.within_unit])
    assert seen.sum() == share


CELLS = [layers.SimpleRNNCell, layers.GRUCell, layers.LSTMCell]


@pytest.mark.parametrize("name", ["kernel", "recurrent_kernel"])
@pytest.mark.parametrize("kind", CELLS, ids=lambda kind: kind.__name__)
def test_a_recurrent_unit_depends_on_its_columns_in_all_gates(kind, name):
    generator = np.random.default_rng(0)
    cell = kind(3)
    cell.build((2, 4))
    weight = getattr(cell, name)
    inputs = tf.constant(generator.normal(size=(2, 4)), "float32")
    state = tf.constant(generator.normal(size=(2, 3)), "float32")
    with tf.GradientTape() as tape:
        outputs, _ = cell(inputs, [state, state] if kind is layers.LSTMCell else state)
        picked = outputs[0, 1]
    seen = tape.gradient(picked, weight.value).numpy() != 0
    (axes,) = axes_of([weight])
    gates = seen.reshape(len(seen), axes.gates, 3)
    assert gates[:, :, 1].all()
    assert not gates[:, :, [0, 2]].any()


def test_projections_of_attention_say_what_their_equations_say():
    for kind in (layers.MultiHeadAttention, layers.GroupQueryAttention):
        layer = built(kind)
        for part in ("query", "key", "value", "output"):
            name = f"{part}_dense"
            letters = kernel_letters(getattr(layer, f"_{name}"), "kernel")
            assert kernel_letters(layer, f"{name}.kernel") == letters


def test_kernels_of_adapters_are_factors_of_the_kernel():
    query = layers.EinsumDense("abc,cde->abde", (None, 2, 3))
    table, dense = layers.Embedding(7, 4), layers.Dense(5)
    for layer, shape in ((query, (None, 6, 4)), (table, (None, 3)), (dense, (None, 6))):
        layer.build(shape)
        layer.enable_lora(2)
    kernels = [query.lora_kernel_a, query.lora_kernel_b]
    kernels += [table.lora_embeddings_a, table.lora_embeddings_b]
    kernels += [dense.lora_kernel_a, dense.lora_kernel_b]
    units = [axes.units for axes in axes_of(kernels)]
    assert units == [(1, 2), (1,), (0,), (1,), (1,), (1,)]


def test_a_subclass_has_the_kernels_of_its_base():
    class Mine(layers.DepthwiseConv2D):
        pass

    layer = Mine(3)
    layer.build(IMAGE)
    assert axes_of([layer.kernel])[0].units == (2, 3)


def test_a_layer_can_say_what_its_kernel_is():
    class Project(keras.Layer):
        kernel_axes = {"weight": "oi"}  # noqa: RUF012 - as users write it

        def build(self, shape):
            self.weight = self.add_weight(shape=(5, shape[-1]), name="weight")

    class More(Project):
        pass

    for kind in (Project, More):
        layer = kind()
        layer.build((None, 4))
        (axes,) = axes_of([layer.weight])
        assert (axes.outputs, axes.inputs) == ((0,), (1,))


@pytest.mark.parametrize(
    "wrong", ["io", {"weight": (0, 1)}, {"weight": "xy"}, {"weight": "c4o"}]
)
def test_what_a_layer_says_is_checked(wrong):
    class Project(keras.Layer):
        kernel_axes = wrong

    with pytest.raises(ValueError, match=r"`Project.kernel_axes` must be a dict"):
        kernel_axes(Project(), "weight", 2)


@pytest.mark.parametrize(
    ("name", "rank", "units"),
    [
        ("kernel", 2, (1,)),
        ("w", 4, (3,)),
        ("depthwise_kernel", 4, (2, 3)),
        ("embeddings", 2, (0,)),
    ],
)
def test_a_kernel_of_no_known_layer_has_its_outputs_last(name, rank, units):
    assert kernel_axes(None, name, rank).units == units
    assert kernel_axes(keras.Layer(), name, rank).units == units


@pytest.mark.parametrize(("name", "rank"), [("kernel", 1), ("kernel", 0), ("bias", 2)])
def test_what_has_one_axis_or_is_a_bias_is_no_kernel(name, rank):
    assert kernel_axes(None, name, rank) is None


def test_channels_are_counted_from_the_end_too():
    assert channels_from_end(layers.Conv1DTranspose, "kernel") == (-2,)
    assert channels_from_end(layers.DepthwiseConv2D, "kernel") == (-2, -1)
    assert channels_from_end(layers.LSTMCell, "recurrent_kernel") == (-1,)
    assert channels_from_end(layers.Dense, "bias") == ()
