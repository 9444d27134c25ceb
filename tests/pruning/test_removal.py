"""Filters, units and heads that do nothing are taken out of a model for good."""

import keras
import numpy as np
import pytest

import kopt
from kopt.pruning import remove_filters
from tests.pruning.channel_nets import (
    batch,
    empty,
    layers,
    removed,
    same_outputs,
    unlike,
    widths,
)


def model_of(shape, build):
    inputs = keras.Input(shape)
    return unlike(keras.Model(inputs, build(inputs)))


def conv(name, filters=4, size=3, **options):
    options = {"padding": "same", "name": name, **options}
    return layers.Conv2D(filters, size, **options)


def head(x, name="out"):
    return layers.Dense(3, name=name)(layers.GlobalAveragePooling2D()(x))


def test_units_of_a_dense_layer_go_and_with_them_the_rows_of_the_next():
    model = unlike(
        keras.Sequential(
            [
                keras.Input((5,)),
                layers.Dense(8, activation="relu", name="hidden"),
                layers.Dropout(0.5),
                layers.Dense(3, name="out"),
            ]
        )
    )
    smaller = removed(empty(model, "hidden", [0, 3, 4]))
    assert isinstance(smaller, keras.Sequential)
    assert [v.shape for v in smaller.weights] == [(5, 5), (5,), (5, 3), (3,)]
    kept = [1, 2, 5, 6, 7]
    hidden, before = smaller.layers[0], model.layers[0]
    np.testing.assert_array_equal(hidden.kernel, before.kernel.numpy()[:, kept])


def test_filters_go_through_batch_normalization_and_activation():
    def build(x):
        x = layers.BatchNormalization(name="bn")(conv("first", use_bias=False)(x))
        return head(conv("second")(layers.ReLU()(x)))

    model = empty(model_of((6, 6, 2), build), "first bn", [1, 2])
    assert widths(removed(model), "first", "bn", "second") == [2, 2, 4]


def test_a_scale_of_zero_is_enough():
    def build(x):
        x = layers.BatchNormalization(name="bn")(conv("first")(x))
        return head(conv("second")(layers.ReLU()(x)))

    model = model_of((6, 6, 2), build)
    for name, value in (("gamma", 0.0), ("beta", -1.0)):
        variable = getattr(model.get_layer("bn"), name)
        variable.assign([value, *variable.numpy()[1:]])
    assert widths(removed(model), "first") == [3]


def residual(x):
    x = conv("stem")(x)
    y = layers.ReLU()(conv("inner", 5)(x))
    x = layers.Add()([x, conv("outer")(y)])
    return head(conv("last")(layers.ReLU()(x)))


def test_channels_that_are_added_go_together():
    model = empty(model_of((6, 6, 2), residual), "stem outer", [2])
    assert widths(removed(model), "stem", "inner", "outer") == [3, 5, 3]


def test_a_channel_stays_while_something_is_added_to_it():
    model = empty(model_of((6, 6, 2), residual), "outer", [2])
    assert widths(removed(model), "stem", "outer") == [4, 4]


def test_inside_a_residual_branch_filters_go_by_themselves():
    model = empty(model_of((6, 6, 2), residual), "inner", [0, 4])
    assert widths(removed(model), "stem", "inner", "outer") == [4, 3, 4]


@pytest.mark.parametrize("multiplier", [1, 2])
def test_a_depthwise_convolution_follows_what_it_is_applied_to(multiplier):
    def build(x):
        x = conv("expand", 6)(x)
        options = dict(padding="same", depth_multiplier=multiplier, name="depthwise")
        x = layers.DepthwiseConv2D(3, activation="relu", **options)(x)
        return head(conv("project", size=1)(x))

    model = model_of((6, 6, 2), build)
    depthwise = model.get_layer("depthwise")
    empty(model, "expand", [0, 2, 5])
    bias = depthwise.bias.numpy().reshape(6, multiplier)
    bias[[0, 2, 5]] = 0
    depthwise.bias.assign(bias.reshape(-1))
    smaller = removed(model)
    assert widths(smaller, "expand", "depthwise") == [3, 3 * multiplier]
    assert smaller.get_layer("project").kernel.shape == (1, 1, 3 * multiplier, 4)


def test_concatenated_channels_are_found_behind_the_concatenation():
    def build(x):
        first, second = conv("first")(x), conv("second", 3)(x)
        both = layers.Concatenate()([first, second])
        more = layers.Concatenate()([both, conv("third")(both)])
        return head(conv("last")(more))

    model = empty(model_of((6, 6, 2), build), "first", [0, 1])
    smaller = removed(empty(model, "third", [3]))
    assert widths(smaller, "first", "second", "third") == [2, 3, 3]
    assert smaller.get_layer("last").kernel.shape == (3, 3, 8, 4)


def test_maps_put_one_after_the_other_lose_the_same_channels():
    def build(x):
        both = layers.Concatenate(axis=1)([conv("first")(x), conv("second")(x)])
        return head(conv("last")(both))

    model = empty(model_of((6, 6, 2), build), "first second", [1])
    assert widths(removed(model), "first", "second") == [3, 3]
    model = empty(model_of((6, 6, 2), build), "first", [1])
    assert widths(removed(model), "first", "second") == [4, 4]


def test_flattening_repeats_the_channels_at_every_place():
    def build(x):
        x = layers.Flatten()(layers.MaxPooling2D()(conv("first")(x)))
        return layers.Dense(3, name="out")(x)

    smaller = removed(empty(model_of((6, 6, 2), build), "first", [0, 2, 3]))
    assert smaller.get_layer("out").kernel.shape == (9, 3)


def squeeze_and_excite(x):
    x = conv("first", 6)(x)
    gate = layers.Reshape((1, 1, 6))(layers.GlobalAveragePooling2D()(x))
    gate = conv("squeeze", 2, 1, activation="relu")(gate)
    gate = conv("excite", 6, 1, activation="sigmoid")(gate)
    return head(conv("last")(layers.Multiply()([x, gate])))


def test_what_gates_a_channel_goes_with_it():
    model = empty(model_of((6, 6, 2), squeeze_and_excite), "first", [1, 4])
    smaller = removed(model)
    assert widths(smaller, "first", "squeeze", "excite", "last") == [4, 2, 4, 4]


def test_channels_of_groups_go_where_all_groups_lose_as_many():
    def build(x):
        x = conv("first", 8)(x)
        return head(conv("last")(conv("grouped", 6, groups=2)(x)))

    model = empty(model_of((6, 6, 2), build), "first", [1, 5])
    smaller = removed(empty(model, "grouped", [0, 3]))
    assert widths(smaller, "first", "grouped") == [6, 4]
    assert smaller.get_layer("grouped").kernel.shape == (3, 3, 3, 4)
    model = empty(model_of((6, 6, 2), build), "first grouped", [1])
    assert widths(removed(model), "first", "grouped") == [8, 6]


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("kind", ["Conv{}D", "SeparableConv{}D", "Conv{}DTranspose"])
def test_all_convolutions_lose_filters_and_inputs(kind, dimensions):
    layer = getattr(layers, kind.format(dimensions), None)
    if layer is None:
        assert (kind, dimensions) == ("SeparableConv{}D", 3)
        return

    def build(x):
        for name in ("first", "second"):
            x = layer(4, 3, padding="same", activation="relu", name=name)(x)
        return layers.Dense(3)(layers.Flatten()(x))

    model = model_of((4,) * dimensions + (2,), build)
    smaller = removed(empty(model, "first second", [0, 2]))
    assert widths(smaller, "first", "second") == [2, 2]


CHANNELWISE = {
    "average pooling": lambda: layers.AveragePooling2D(2, padding="same"),
    "batch normalization": lambda: layers.BatchNormalization(center=False),
    "cropping": lambda: layers.Cropping2D(1),
    "dropout": lambda: layers.SpatialDropout2D(0.5),
    "drop path": lambda: kopt.layers.DropPath(0.5),
    "elu": lambda: layers.ELU(),
    "function": lambda: layers.Lambda(lambda x: x * keras.ops.tanh(x)),
    "leaky relu": lambda: layers.LeakyReLU(),
    "max pooling": lambda: layers.MaxPooling2D(3, 1, padding="same"),
    "padding": lambda: layers.ZeroPadding2D(1),
    "parametric relu": lambda: layers.PReLU(),
    "parametric relu, shared": lambda: layers.PReLU(shared_axes=[1, 2]),
    "permutation": lambda: layers.Permute((2, 1, 3)),
    "resizing": lambda: layers.Resizing(3, 3),
    "silu": lambda: layers.Activation("silu"),
    "upsampling": lambda: layers.UpSampling2D(interpolation="bilinear"),
}


@pytest.mark.parametrize("name", CHANNELWISE)
def test_channels_are_followed_through(name):
    def build(x):
        return head(conv("last")(CHANNELWISE[name]()(conv("first")(x))))

    model = empty(model_of((6, 6, 2), build), "first", [1, 2])
    for variable in model.weights:
        if variable.name == "moving_mean":
            variable.assign([0.3, 0, 0, -0.2])
    assert widths(removed(model), "first", "last") == [2, 4]


def test_operations_that_are_no_layers_are_followed():
    ops = keras.ops

    def build(x):
        x = conv("first")(x)
        x = ops.relu(x + 3.0) * 2.0 - ops.maximum(x, 0.5 * x)
        x = ops.concatenate([x, conv("second", 2)(x)], axis=-1)
        return layers.Dense(3, name="out")(ops.mean(x, axis=(1, 2)))

    model = empty(model_of((6, 6, 2), build), "second", [0])
    # A zero of the first becomes 6, to which the second convolution adds at its rim.
    model.get_layer("second").kernel.assign(np.ones((3, 3, 4, 2)) * [0.0, 1.0])
    assert widths(removed(empty(model, "first", [1])), "first", "second") == [4, 1]


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("activation", ["sigmoid", "softplus", "linear"])
def test_a_constant_goes_into_the_next_bias(activation, use_bias):
    def build(x):
        x = conv("first", padding="valid", activation=activation)(x)
        x = layers.AveragePooling2D(3, 1, padding="same")(x)
        x = conv("second", padding="valid", use_bias=use_bias)(x)
        return layers.Dense(3, use_bias=use_bias, name="out")(layers.Flatten()(x))

    model = model_of((6, 6, 2), build)
    kernel = model.get_layer("first").kernel
    kernel.assign(kernel.numpy() * [0, 1, 1, 1])
    smaller = removed(model)
    assert widths(smaller, "first") == [3]
    assert smaller.get_layer("second").use_bias
    assert smaller.get_layer("out").use_bias == use_bias


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_constant_stays_where_padding_makes_a_rim(padding):
    def build(x):
        x = conv("first", activation="sigmoid")(x)
        x = layers.ZeroPadding2D()(x) if padding == "valid" else x
        return head(conv("second", padding=padding)(x))

    model = empty(model_of((6, 6, 2), build), "first", [0])
    assert widths(removed(model), "first") == [4]


def test_a_channel_that_no_weight_looks_at_goes():
    model = model_of((6, 6, 2), lambda x: head(conv("second")(conv("first")(x))))
    kernel = model.get_layer("second").kernel
    values = kernel.numpy()
    values[:, :, 3] = 0
    kernel.assign(values)
    assert widths(removed(model), "first") == [3]


def test_a_layer_that_is_called_twice_loses_what_goes_at_both_calls():
    shared = layers.Dense(4, activation="relu", name="shared")

    def build(x):
        first = layers.Dense(4, activation="relu", name="first")(x)
        return layers.Dense(3, name="out")(shared(shared(first)))

    model = empty(model_of((5,), build), "first", [1])
    assert widths(remove_filters(model), "first") == [4]
    empty(model, "shared", [1])
    smaller = removed(model)
    assert smaller.get_layer("shared").kernel.shape == (3, 3)


def test_a_shared_layer_keeps_a_constant_that_differs_between_its_calls():
    shared = layers.Dense(3, name="shared")

    def build(x):
        first = layers.Dense(4, name="first")(x)
        second = layers.Dense(4, name="second")(x)
        return shared(first) - 2 * shared(second)

    model = empty(model_of((5,), build), "first second", [1])
    first = model.get_layer("first").bias
    first.assign([1.0, 2.0, 3.0, 4.0])
    assert widths(removed(model), "first", "second") == [4, 4]
    model.get_layer("second").bias.assign(first)
    assert widths(removed(model), "first", "second") == [3, 3]


def test_a_model_inside_the_model_gets_smaller_as_well():
    def inner(name):
        inputs = keras.Input((6, 6, 4))
        x = conv("inside", 5, activation="relu")(inputs)
        return keras.Model(inputs, conv("end")(x), name=name)

    def build(x):
        x = conv("first", activation="relu")(x)
        x = inner("nested")(x)
        block = keras.Sequential([conv("chained"), layers.ReLU()], name="block")
        return head(block(x))

    model = empty(model_of((6, 6, 2), build), "first", [0])
    empty(model.get_layer("nested"), "inside", [1, 2])
    empty(model.get_layer("nested"), "end", [3])
    empty(model.get_layer("block"), "chained", [0, 1, 2])
    smaller = removed(model)
    assert smaller.get_layer("nested").input.shape == (None, 6, 6, 3)
    assert widths(smaller.get_layer("nested"), "inside", "end") == [3, 3]
    assert smaller.get_layer("block").layers[0].kernel.shape == (3, 3, 3, 1)


def test_a_nested_model_that_is_called_twice_stays_one():
    inputs = keras.Input((4,))
    nested = keras.Model(inputs, layers.Dense(4, name="inside")(inputs), name="nested")

    def build(x):
        x = layers.Dense(4, activation="relu", name="first")(x)
        return layers.Dense(3)(nested(layers.ReLU()(nested(x))))

    model = empty(model_of((5,), build), "first", [2])
    smaller = removed(model if empty(nested, "inside", [2]) else None)
    assert widths(smaller.get_layer("nested"), "inside") == [3]
    assert len(smaller.weights) == len(model.weights)


@keras.saving.register_keras_serializable("tests")
class Inner(keras.Model):
    """A model whose graph nobody sees."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.dense = layers.Dense(4, activation="relu")

    def call(self, x):
        return self.dense(x)


def test_a_subclassed_model_inside_the_model_keeps_its_channels():
    def build(x):
        x = Inner(name="inner")(layers.Dense(4, name="first")(x))
        return layers.Dense(3)(layers.Dense(4, name="second")(x))

    model = empty(model_of((5,), build), "first second", [0])
    assert widths(removed(model), "first", "inner", "second") == [4, 4, 3]


def test_units_that_become_maps_go_by_whole_channels():
    def build(x):
        x = layers.Reshape((2, 2, 4))(layers.Dense(16, "relu", name="first")(x))
        return head(layers.Conv2DTranspose(4, 3, 2, name="second")(x))

    model = model_of((5,), build)
    # Channels 1 and 3 at each of the four places.
    empty(model, "first", [1, 5, 9, 13, 3, 7, 11, 15])
    assert widths(removed(model), "first") == [8]
    model = empty(model_of((5,), build), "first", [1, 5, 9])
    assert widths(removed(model), "first") == [16]


def test_columns_of_an_embedding_go():
    def build(x):
        x = layers.Embedding(8, 6, name="embed")(x)
        return layers.Dense(3)(layers.LSTM(4, name="lstm")(x))

    inputs = keras.Input((None,), dtype="int32")
    model = unlike(keras.Model(inputs, build(inputs)))
    smaller = removed(empty(model, "embed", [0, 5]))
    assert smaller.get_layer("lstm").cell.kernel.shape == (4, 16)


@pytest.mark.parametrize(
    ("equation", "output_shape"), [("abc,cd->abd", (None, 6)), ("...c,cd->...d", 6)]
)
def test_outputs_of_an_einsum_go(equation, output_shape):
    def build(x):
        x = layers.Dense(4, name="first")(x)
        options = dict(bias_axes="d", activation="relu", name="einsum")
        x = layers.EinsumDense(equation, output_shape, **options)(x)
        return layers.Dense(3, name="out")(x)

    model = empty(model_of((5, 2), build), "first", [0])
    smaller = removed(empty(model, "einsum", [1, 2]))
    assert smaller.get_layer("einsum").kernel.shape == (3, 4)


def test_an_einsum_whose_bias_differs_by_place_loses_outputs():
    def build(x):
        options = dict(bias_axes="bd", activation="relu", name="einsum")
        x = layers.EinsumDense("abc,cd->abd", (5, 6), **options)(x)
        return layers.Dense(3, name="out")(x)

    smaller = removed(empty(model_of((5, 2), build), "einsum", [1, 2]))
    assert smaller.get_layer("einsum").bias.shape == (5, 4)


def test_an_einsum_that_keeps_an_axis_of_its_kernel_loses_outputs():
    def build(x):
        options = dict(bias_axes="e", activation="relu", name="einsum")
        x = layers.EinsumDense("abc,cde->abde", (None, 2, 4), **options)(x)
        return layers.Dense(3, name="out")(x)

    smaller = removed(empty(model_of((5, 2), build), "einsum", [1, 2]))
    assert smaller.get_layer("einsum").kernel.shape == (2, 2, 2)


def test_a_softmax_inside_the_model_keeps_all_its_inputs():
    def build(x):
        x = layers.Dense(6, activation="relu", name="first")(x)
        x = layers.Dense(4, name="second")(x)
        return layers.Dense(3, name="out")(layers.Softmax()(x))

    smaller = removed(empty(model_of((5,), build), "first second", [0]))
    assert widths(smaller, "first", "second") == [5, 4]


@pytest.mark.parametrize(
    "layer",
    [
        layers.LayerNormalization,
        lambda: layers.GroupNormalization(2),
        lambda: layers.UnitNormalization(),
        lambda: layers.Dropout(0.5, noise_shape=(None, 1, 1, 4)),
        lambda: layers.Rescaling([1.0, 2.0, 3.0, 4.0]),
    ],
)
def test_what_has_to_do_with_all_channels_keeps_them(layer):
    def build(x):
        x = conv("second")(layer()(conv("first")(x)))
        return head(conv("third")(x))

    model = empty(model_of((6, 6, 2), build), "first second", [0])
    assert widths(removed(model), "first", "second") == [4, 3]


def test_what_masks_positions_keeps_its_channels():
    def build(x):
        x = layers.Masking()(layers.Dense(4, activation="relu", name="first")(x))
        return layers.Dense(3)(layers.GRU(4)(x))

    model = empty(model_of((5, 2), build), "first", [0])
    assert widths(removed(model), "first") == [4]


@keras.saving.register_keras_serializable("tests")
class Own(layers.Layer):
    """A layer that nothing is known of."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], shape[-1]), name="w")

    def call(self, x):
        return x + keras.ops.matmul(x, self.w)


def test_a_layer_of_ones_own_keeps_its_channels():
    def build(x):
        x = conv("second")(Own(name="own")(conv("first")(x)))
        return head(conv("third")(x))

    model = empty(model_of((6, 6, 2), build), "first second", [0])
    assert widths(removed(model), "first", "own", "second") == [4, 4, 3]


def test_an_operation_with_the_number_of_channels_in_it_keeps_them():
    def build(x):
        x = keras.ops.reshape(conv("first")(x), (-1, 36 * 4))
        return layers.Dense(3)(x)

    model = empty(model_of((6, 6, 2), build), "first", [0])
    assert widths(removed(model), "first") == [4]


def test_one_filter_stays_where_all_are_zero():
    model = model_of((6, 6, 2), lambda x: head(conv("second")(x) + conv("first")(x)))
    inner = model_of((5,), lambda x: layers.Dense(3)(layers.Dense(4, name="gone")(x)))
    inner.get_layer("gone").kernel.assign(np.zeros((5, 4)))
    smaller = remove_filters(inner)
    assert widths(smaller, "gone") == [1]
    np.testing.assert_allclose(smaller(np.ones((1, 5))), inner(np.ones((1, 5))), 1e-5)
    assert remove_filters(model).count_params() == model.count_params()


def attend(x, **options):
    attention = layers.MultiHeadAttention(4, 3, name="attend", **options)
    return layers.Dense(2)(attention(x, x))


def empty_heads(layer, heads, only=("query", "key", "value", "attention_output")):
    for dense in (
        layer.query_dense,
        layer.key_dense,
        layer.value_dense,
        layer.output_dense,
    ):
        if dense.name not in only:
            continue
        axis = 0 if dense.name == "attention_output" else 1
        values = dense.kernel.numpy()
        np.moveaxis(values, axis, 0)[heads] = 0
        dense.kernel.assign(values)
        if axis and dense.bias is not None:
            values = dense.bias.numpy()
            values[heads] = 0
            dense.bias.assign(values)


@pytest.mark.parametrize(
    "options", [{}, {"use_bias": False}, {"value_dim": 5}, {"use_gate": True}]
)
def test_heads_go(options):
    model = model_of((5, 6), lambda x: attend(x, **options))
    empty_heads(model.get_layer("attend"), [0, 2])
    layer = removed(model).get_layer("attend")
    assert layer.num_heads == 2
    assert layer.query_dense.kernel.shape == (6, 2, 3)


def test_a_head_that_always_gives_its_bias_goes_into_the_output_bias():
    model = model_of((5, 6), attend)
    kernel = model.get_layer("attend").value_dense.kernel
    values = kernel.numpy()
    values[:, 1] = 0
    kernel.assign(values)
    assert removed(model).get_layer("attend").num_heads == 3


def test_a_gated_head_with_a_bias_stays():
    model = model_of((5, 6), lambda x: attend(x, use_gate=True))
    kernel = model.get_layer("attend").value_dense.kernel
    values = kernel.numpy()
    values[:, 1] = 0
    kernel.assign(values)
    assert removed(model).get_layer("attend").num_heads == 4


def test_groups_of_query_heads_go_with_what_they_attend_to():
    def build(x):
        layer = layers.GroupQueryAttention(3, 6, 3, name="attend")
        return layers.Dense(2)(layer(x, x))

    model = model_of((5, 6), build)
    layer = model.get_layer("attend")
    values = layer._output_dense.kernel.numpy()
    values[[2, 3, 5]] = 0
    layer._output_dense.kernel.assign(values)
    layer = removed(model).get_layer("attend")
    assert (layer.num_query_heads, layer.num_key_value_heads) == (4, 2)


def test_heads_whose_scores_are_looked_at_stay():
    def build(x):
        layer = layers.MultiHeadAttention(4, 3, name="attend")
        y, scores = layer(x, x, return_attention_scores=True)
        return layers.Dense(2)(y), scores

    model = model_of((5, 6), build)
    empty_heads(model.get_layer("attend"), [0])
    assert removed(model).get_layer("attend").num_heads == 4


def test_inputs_and_outputs_of_attention_go():
    def build(x):
        x = layers.Dense(6, name="first")(x)
        x = layers.MultiHeadAttention(2, 3, name="attend")(x, x, use_causal_mask=True)
        return layers.Dense(2)(x)

    model = empty(model_of((5, 6), build), "first", [0, 1])
    output = model.get_layer("attend").output_dense
    output.kernel.assign(output.kernel.numpy() * [1, 1, 1, 0, 1, 1])
    smaller = removed(model)
    assert smaller.get_layer("attend").query_dense.kernel.shape == (4, 2, 3)
    assert smaller.get_layer("attend").output_dense.kernel.shape == (2, 3, 5)


def test_inputs_and_outputs_keep_their_names_and_structure():
    image, vector = keras.Input((6, 6, 2), name="image"), keras.Input((3,), name="row")
    x = layers.GlobalAveragePooling2D()(conv("first", activation="relu")(image))
    merged = layers.Concatenate()([x, layers.Dense(4, name="side")(vector)])
    outputs = {"a": layers.Dense(2)(merged), "b": x}
    model = unlike(keras.Model({"image": image, "row": vector}, outputs))
    smaller = removed(empty(empty(model, "side", [1]), "first", [0]))
    assert widths(smaller, "first", "side") == [4, 3]
    assert smaller.input["image"].name == "image"
    assert smaller.name == model.name


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float64"])
def test_the_dtype_policy_stays(policy):
    options = dict(dtype=policy, activation="relu")
    inputs = keras.Input((5,))
    hidden = layers.Dense(6, name="first", **options)(inputs)
    model = unlike(keras.Model(inputs, layers.Dense(3, dtype=policy)(hidden)))
    smaller = remove_filters(empty(model, "first", [0, 1]))
    assert widths(smaller, "first") == [4]
    assert smaller.get_layer("first").dtype_policy.name == policy
    given = batch(model)
    mine, theirs = (np.asarray(m(given)).astype("float64") for m in (model, smaller))
    np.testing.assert_allclose(theirs, mine, rtol=0, atol=2e-2)


def test_the_model_itself_stays_as_it_is():
    model = empty(model_of((6, 6, 2), residual), "stem outer", [2])
    before, config = model.get_weights(), model.get_config()
    removed(model)
    assert model.get_config() == config
    for mine, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_what_is_left_trains_saves_and_exports(tmp_path):
    smaller = removed(empty(model_of((6, 6, 2), residual), "stem outer", [2]))
    smaller.compile("adam", "mse")
    smaller.fit(batch(smaller), np.ones((3, 3)), verbose=0)
    smaller.save(tmp_path / "model.keras")
    same_outputs(keras.saving.load_model(tmp_path / "model.keras"), smaller)
    smaller.export(tmp_path / "exported", verbose=False)


def test_a_subclassed_model_is_refused_with_the_way_out():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, x):
            return self.dense(x)

    model = Subclassed()
    model(np.ones((1, 2)))
    with pytest.raises(ValueError, match=r"functional or sequential.*Subclassed"):
        remove_filters(model)


def test_a_functional_model_with_a_call_of_its_own_is_refused():
    class Doubled(keras.Model):
        def call(self, x):
            return 2 * super().call(x)

    inputs = keras.Input((2,))
    with pytest.raises(ValueError, match="Doubled"):
        remove_filters(Doubled(inputs, layers.Dense(3)(inputs)))


def test_an_unbuilt_model_is_refused():
    with pytest.raises(ValueError, match="a built model"):
        remove_filters(keras.Sequential([layers.Dense(3)]))
