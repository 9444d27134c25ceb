"""Models of Keras 3 in tf_keras: what they compute, keep, learn; what is refused."""

import keras
import numpy as np
import pytest
from keras import ops

import kopt
from kopt import tfmot
from tests.peer.tfmot import tf_keras
from tests.tfmot.nets import (
    L,
    assert_same,
    for_several,
    images,
    several_inputs_and_outputs,
    shared_and_nested,
)


def chain(*layers, shape=(4,)):
    return keras.Sequential([keras.Input(shape), *layers])


def test_what_is_shared_and_nested_stays_so():
    model = shared_and_nested()
    twin = tfmot.to_tf_keras(model)
    assert_same(model(images()), twin(images()))
    assert isinstance(twin.get_layer("block"), tf_keras().Sequential)
    assert len(twin.trainable_weights) == len(model.trainable_weights)
    kernel = twin.get_layer("shared").kernel
    assert twin.get_layer("block").get_layer("shared").kernel is kernel


def test_inputs_and_outputs_keep_their_structure_and_names():
    model = several_inputs_and_outputs()
    twin = tfmot.to_tf_keras(model)
    assert_same(dict(model(for_several())), dict(twin(for_several())))
    assert sorted(tensor.name for tensor in twin.inputs) == ["more", "words"]


def test_masks_are_left_to_tf_keras():
    model = several_inputs_and_outputs()
    assert any("NotEqual" in type(op).__name__ for op in model.operations)
    names = {type(layer).__name__ for layer in tfmot.to_tf_keras(model).layers}
    assert "KerasOperation" not in names and "TFOpLambda" not in names


def test_a_mask_that_the_user_passes_is_passed_on():
    x, mask = keras.Input((4, 3)), keras.Input((4,), dtype="bool")
    model = keras.Model([x, mask], L.LSTM(2)(x, mask=mask))
    data = [np.ones((2, 4, 3), "float32"), np.array([[1, 1, 0, 0], [1, 1, 1, 1]], bool)]
    received = tfmot.to_tf_keras(model)(data)
    assert_same(model(data), received)
    assert not np.allclose(received[0], received[1])


@pytest.mark.parametrize(
    ("formula", "layer"),
    [
        (lambda x, y: x + y, "Add"),
        (lambda x, y: x * y, "Multiply"),
        (lambda x, y: x - y, "Subtract"),
        (lambda x, y: ops.maximum(x, y), "Maximum"),
        (lambda x, y: ops.relu(x), "Activation"),
        (lambda x, y: 2.0 - x, "Rescaling"),
        (lambda x, y: x - 2, "Rescaling"),
        (lambda x, y: 3 * x, "Rescaling"),
        (lambda x, y: x / 3, "KerasOperation"),
        (lambda x, y: x[:, 1:3] ** 2, "KerasOperation"),
        (lambda x, y: ops.concatenate([y, x], axis=1), "KerasOperation"),
        (lambda x, y: ops.split(x, 2, axis=1)[1], "KerasOperation"),
        (lambda x, y: ops.mean(x, axis=1, keepdims=True), "KerasOperation"),
        (lambda x, y: ops.einsum("bi,bj->bij", x, y), "KerasOperation"),
    ],
)
def test_operations_become_layers(formula, layer):
    x, y = keras.Input((4,)), keras.Input((4,))
    model = keras.Model([x, y], formula(x, y))
    twin = tfmot.to_tf_keras(model)
    data = [images()[:, 0, 0, :1] * np.arange(1, 5, dtype="float32")] * 2
    data[1] = data[1] + 1
    assert_same(model(data), twin(data))
    assert layer in [type(part).__name__ for part in twin.layers]
    # With the carried operation in its configuration.
    assert_same(model(data), type(twin).from_config(twin.get_config())(data))


# `threshold` asks for arguments, so that it is no activation by itself.
NO_ACTIVATIONS = {"deserialize", "get", "serialize", "threshold"}
ACTIVATIONS = [name for name in dir(keras.activations) if name[0] != "_"]


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - NO_ACTIVATIONS))
def test_activations_compute_the_same(name):
    model = chain(L.Dense(6, activation=name), L.Activation(name))
    x = np.linspace(-5, 5, 20, dtype="float32").reshape(5, 4)
    if name == "glu":
        model = chain(L.Activation(name))
    assert_same(model(x), tfmot.to_tf_keras(model)(x))


def test_a_function_of_the_users_own_is_an_activation_too():
    def wave(x):
        return ops.sin(x)

    model = chain(L.Dense(3, activation=wave))
    x = np.ones((2, 4), "float32")
    assert_same(model(x), tfmot.to_tf_keras(model)(x))


def test_what_is_frozen_stays_frozen():
    model = shared_and_nested()
    model.get_layer("block").trainable = False
    twin = tfmot.to_tf_keras(model)
    assert not twin.get_layer("block").trainable
    trainable = {weight.path for weight in model.trainable_weights}
    assert len(twin.trainable_weights) == len(trainable) < len(model.weights) - 2


def test_both_learn_the_same_from_the_same_batches():
    x, y = images(16), images(16)[:, 0, 0, :2]
    model = chain(
        L.Conv2D(4, 3, kernel_regularizer="l2"),
        L.BatchNormalization(),
        L.Flatten(),
        L.Dense(2),
        shape=(6, 6, 3),
    )
    before, start = model.get_weights(), model.trainable_weights[0].numpy()
    twin = tfmot.to_tf_keras(model)
    twin.compile("sgd", "mse")
    twin.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    assert all(map(np.array_equal, before, model.get_weights()))
    model.compile("sgd", "mse")
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    # Not the moving variance, for which the two divide by other numbers.
    for one, other in zip(model.trainable_weights, twin.trainable_weights, strict=True):
        assert_same(one.numpy(), other.numpy(), 1e-5)
    assert np.abs(model.trainable_weights[0] - start).max() > 1e-3


def test_regularizers_and_constraints_come_along():
    dense = L.Dense(
        3,
        kernel_regularizer=keras.regularizers.L1L2(0.1, 0.2),
        bias_constraint=keras.constraints.MaxNorm(2.0),
        activity_regularizer="l2",
    )
    (twin,) = tfmot.to_tf_keras(chain(dense)).layers
    assert float(twin.kernel_regularizer.l1) == pytest.approx(0.1)
    assert float(twin.kernel_regularizer.l2) == pytest.approx(0.2)
    assert twin.bias_constraint.get_config() == {"max_value": 2.0, "axis": 0}
    assert type(twin.activity_regularizer).__name__ == "L2"


@pytest.mark.parametrize("policy", ["mixed_float16", "bfloat16", "float64"])
def test_the_type_policy_comes_along(policy):
    model = chain(L.Dense(3, dtype=policy), L.BatchNormalization(dtype=policy))
    twin = tfmot.to_tf_keras(model)
    x = np.ones((2, 4), "float32")
    assert [layer.dtype_policy.name for layer in twin.layers] == [policy] * 2
    assert twin(x).dtype.name == model(x).dtype
    assert twin.layers[0].kernel.dtype.name == model.layers[0].kernel.dtype


def test_all_that_cannot_go_is_named_with_its_reason():
    class Own(keras.layers.Layer):
        def call(self, x):
            return x

        def compute_output_shape(self, shape):
            return shape

    inner = keras.Sequential([keras.Input((4,)), Own(name="own")], name="inner")
    x = keras.Input((4,))
    y = inner(L.RMSNormalization(name="rms")(x))
    y = L.Dense(4, kernel_regularizer=kopt.regularizers.GroupLasso(0.1), name="dense")(
        y
    )
    y = L.Reshape((2, 2))(y)
    y = L.LSTM(2, zero_output_for_mask=False, name="fine")(y)
    y = L.TimeDistributed(Own(name="wrapped"), name="time")(L.Reshape((1, 2))(y))
    model = keras.Model(x, y)
    with pytest.raises(tfmot.UnsupportedLayerError) as caught:
        tfmot.to_tf_keras(model)
    assert set(caught.value.reasons) == {"rms", "inner/own", "dense", "time/wrapped"}
    reasons = caught.value.reasons
    assert reasons["rms"] == "tf_keras has no layer RMSNormalization"
    assert "Own is not a layer of Keras's own" in reasons["inner/own"]
    assert "GroupLasso is not one that both Keras have" in reasons["dense"]
    assert "converters" in str(caught.value)


@pytest.mark.parametrize(
    ("layer", "shape", "reason"),
    [
        (lambda: L.Resizing(3, 3, antialias=True), (6, 6, 3), "antialias=True"),
        (lambda: L.RandomCrop(3, 3), (6, 6, 3), "crops the middle in tf_keras"),
        (lambda: L.Dense(3, dtype="int8_from_float32"), (4,), "QuantizedDTypePolicy"),
    ],
)
def test_an_argument_without_a_counterpart_is_named(layer, shape, reason):
    with pytest.raises(tfmot.UnsupportedLayerError, match=reason):
        tfmot.to_tf_keras(chain(layer(), shape=shape))


def test_the_user_says_what_to_build_for_a_layer_of_his_own():
    class Scale(keras.layers.Layer):
        def build(self, shape):
            self.factor = self.add_weight(shape=shape[1:], initializer="uniform")

        def call(self, x):
            return x * self.factor

    model = chain(Scale(), L.Dense(2))
    x = np.ones((2, 4), "float32")

    def convert(layer):
        return tf_keras().layers.EinsumDense("ab,b->ab", layer.factor.shape[0])

    assert_same(model(x), tfmot.to_tf_keras(model, {Scale: convert})(x))


def test_a_subclassed_model_cannot_be_read():
    class Sub(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = L.Dense(2)

        def call(self, x):
            return self.dense(x)

    model = Sub()
    model(np.ones((1, 3), "float32"))
    with pytest.raises(tfmot.UnsupportedLayerError, match="a subclassed model"):
        tfmot.to_tf_keras(model)


def test_a_functional_model_with_a_call_of_its_own_cannot_be_read_either():
    class Doubled(keras.Model):
        def call(self, x):
            return 2 * super().call(x)

    x = keras.Input((3,))
    with pytest.raises(tfmot.UnsupportedLayerError, match="a subclassed model"):
        tfmot.to_tf_keras(Doubled(x, L.Dense(2)(x)))


def test_wrong_models_are_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"must be a built model.*Input"):
        tfmot.to_tf_keras(keras.Sequential([L.Dense(2)]))
    with pytest.raises(TypeError, match="older tf_keras"):
        tfmot.to_tf_keras(tf_keras().Sequential())
    quantized = kopt.quantization.quantize_model(
        chain(L.Dense(2)), calibration_data=np.ones((4, 4), "float32")
    )
    with pytest.raises(ValueError, match="strip_quantization"):
        tfmot.to_tf_keras(quantized)


def test_names_that_tensorflow_does_not_take_are_changed():
    model = chain(L.Dense(2, name="my layer (1)"), L.Dense(2, name="_second"))
    twin = tfmot.to_tf_keras(model)
    assert [layer.name for layer in twin.layers] == ["my_layer__1_", "layer_second"]
    x = np.ones((2, 4), "float32")
    assert_same(model(x), twin(x))
    assert_same(model(x), tfmot.from_tf_keras(twin)(x))


def test_the_twin_is_saved_and_loaded_with_what_it_carries(tmp_path):
    x = keras.Input((4,))
    y = ops.mean(L.Dense(3, activation="hard_silu")(x), axis=-1, keepdims=True)
    model = keras.Model(x, y)
    twin = tfmot.to_tf_keras(model)
    twin.save(tmp_path / "twin.keras")
    loaded = tf_keras().models.load_model(tmp_path / "twin.keras")
    data = np.ones((2, 4), "float32")
    assert_same(model(data), loaded(data))


def test_a_model_that_kopt_has_pruned_keeps_its_zeros():
    model = chain(L.Dense(10))
    kopt.pruning.prune_low_magnitude(model, kopt.pruning.ConstantSparsity(0.75, 1))
    twin = tfmot.to_tf_keras(model)
    assert np.mean(twin.layers[0].kernel.numpy() == 0) == 0.75
