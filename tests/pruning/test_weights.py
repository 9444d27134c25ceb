import keras
import pytest

from kopt.pruning._weights import is_kernel, layers_of_weights, prunable_weights
from tests.pruning.nets import layers, mlp

# What each layer of Keras multiplies its input with, or looks it up in.
KERNELS = {
    "Dense": (layers.Dense(4), (8,), ["kernel"]),
    "Conv1D": (layers.Conv1D(4, 3), (8, 4), ["kernel"]),
    "Conv3D": (layers.Conv3D(4, 2), (4, 4, 4, 4), ["kernel"]),
    "Conv2DTranspose": (layers.Conv2DTranspose(4, 3), (8, 8, 4), ["kernel"]),
    "DepthwiseConv2D": (layers.DepthwiseConv2D(3), (8, 8, 4), ["kernel"]),
    "SeparableConv2D": (
        layers.SeparableConv2D(4, 3),
        (8, 8, 4),
        ["depthwise_kernel", "pointwise_kernel"],
    ),
    "EinsumDense": (layers.EinsumDense("abc,cd->abd", (None, 4)), (8, 4), ["kernel"]),
    "Embedding": (layers.Embedding(8, 4), (8,), ["embeddings"]),
    "LSTM": (layers.LSTM(4), (8, 4), ["kernel", "recurrent_kernel"]),
    "Bidirectional": (
        layers.Bidirectional(layers.GRU(4)),
        (8, 4),
        ["kernel", "recurrent_kernel"] * 2,
    ),
    "ConvLSTM2D": (
        layers.ConvLSTM2D(4, 3),
        (2, 8, 8, 4),
        ["kernel", "recurrent_kernel"],
    ),
    "TimeDistributed": (layers.TimeDistributed(layers.Dense(4)), (8, 4), ["kernel"]),
    "GroupedQueryAttention": (
        layers.GroupQueryAttention(4, 4, 2),
        [(8, 4), (8, 4)],
        ["kernel"] * 4,
    ),
}
NO_KERNELS = {
    "BatchNormalization": (layers.BatchNormalization(), (8, 4)),
    "LayerNormalization": (layers.LayerNormalization(axis=(1, 2)), (8, 4)),
    "PReLU": (layers.PReLU(), (8, 4)),
    "Dropout": (layers.Dropout(0.5), (8, 4)),
}


def model_of(layer, shapes):
    if isinstance(shapes, list):
        inputs = [keras.Input(shape) for shape in shapes]
        return keras.Model(inputs, layer(*inputs))
    inputs = keras.Input(shapes)
    return keras.Model(inputs, layer(inputs))


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_of_each_layer_are_found(name):
    layer, shapes, expected = KERNELS[name]
    found = prunable_weights(model_of(layer, shapes), None, None)
    assert [variable.name for variable in found] == expected


@pytest.mark.parametrize("name", NO_KERNELS)
def test_scales_and_slopes_are_not_kernels(name):
    model = model_of(*NO_KERNELS[name])
    assert not any(is_kernel(variable) for variable in model.weights)


def test_a_recurrent_layer_owns_the_weights_of_its_cell():
    layer = layers.LSTM(4)
    model = model_of(layer, (8, 4))
    assert set(layers_of_weights(model).values()) == {layer}


def test_a_weight_of_a_nested_layer_belongs_to_the_innermost():
    inner = layers.Dense(4)
    model = model_of(keras.Sequential([inner]), (8, 4))
    assert set(layers_of_weights(model).values()) == {inner}


def test_weights_of_a_shared_layer_are_found_once():
    shared, inputs = layers.Dense(4), keras.Input((4,))
    model = keras.Model(inputs, shared(shared(inputs)))
    assert len(prunable_weights(model, None, None)) == 1


def test_frozen_layers_are_left_as_they_are():
    model = mlp()
    model.layers[0].trainable = False
    assert prunable_weights(model, None, None) == [model.layers[1].kernel]


def test_a_layer_of_ones_own_may_name_its_weights():
    class Own(layers.Layer):
        def build(self, shape):
            self.table = self.add_weight((shape[-1], 4), name="lookup")
            self.weight = self.add_weight((shape[-1], 4), name="weight")

        def call(self, x):
            return x @ (self.table + self.weight)

    class Declaring(Own):
        def get_prunable_weights(self):
            return [self.table]

    def found(layer):
        variables = prunable_weights(model_of(layer, (8,)), None, None)
        return [variable.name for variable in variables]

    assert found(Own()) == ["weight"]
    assert found(Declaring()) == ["lookup", "weight"]


@pytest.mark.parametrize(
    "selection",
    [
        lambda model: [model.layers[1]],
        lambda model: model.layers[1],
        lambda model: ["second"],
        lambda model: ["sec.*"],
        lambda model: "[a-z]+/second",
        lambda model: lambda layer: layer.name == "second",
    ],
    ids=["list", "layer", "name", "expression", "path", "function"],
)
def test_layers_can_be_chosen(selection):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(4, name="first"),
            layers.Dense(4, name="second"),
        ],
        name="net",
    )
    found = prunable_weights(model, selection(model), None)
    assert found == [model.layers[1].kernel]


def test_choosing_a_layer_chooses_what_is_inside():
    attention, inputs = layers.MultiHeadAttention(2, 4), keras.Input((8, 4))
    model = keras.Model(inputs, layers.Dense(4)(attention(inputs, inputs)))
    assert len(prunable_weights(model, [attention], None)) == 4


def test_a_policy_is_asked_about_each_layer():
    class OnlyOutputs:
        def allow_pruning(self, layer):
            return isinstance(layer, layers.Dense) and layer.units == 3

    model = mlp()
    assert prunable_weights(model, None, OnlyOutputs()) == [model.layers[1].kernel]


def test_a_policy_may_refuse_a_model():
    class Refuses:
        def allow_pruning(self, layer):
            return True

        def ensure_model_supports_pruning(self, model):
            raise ValueError("only convolutions")

    with pytest.raises(ValueError, match="only convolutions"):
        prunable_weights(mlp(), None, Refuses())


def test_a_name_that_fits_no_layer_is_refused_with_those_that_there_are():
    with pytest.raises(
        ValueError, match=r"'dens', which fits none of: .*dense, dense_1"
    ):
        prunable_weights(mlp(), ["dens"], None)


def test_a_layer_of_another_model_is_refused():
    with pytest.raises(ValueError, match="fits none of"):
        prunable_weights(mlp(), [mlp().layers[0]], None)


def test_a_policy_that_leaves_nothing_is_refused_with_what_could_be_pruned():
    class Nothing:
        def allow_pruning(self, layer):
            return False

    with pytest.raises(ValueError, match=r"`pruning_policy` left nothing .* dense"):
        prunable_weights(mlp(), None, Nothing())


def test_a_model_without_kernels_is_refused():
    with pytest.raises(ValueError, match="no trainable weight that can be pruned"):
        prunable_weights(model_of(layers.BatchNormalization(), (4,)), None, None)


def test_a_frozen_model_is_refused():
    model = mlp()
    model.trainable = False
    with pytest.raises(ValueError, match="Unfreeze"):
        prunable_weights(model, None, None)
