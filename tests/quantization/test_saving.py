"""Quantized models come back from files as they were, also in another process."""

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from keras import layers

from kopt.quantization import is_quantized, quantize_model, strip_quantization


@keras.saving.register_keras_serializable("kopt-tests")
class Block(layers.Layer):
    """A residual block, written as a class that makes its own layers."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.conv = layers.Conv2D(filters, 3, padding="same")
        self.norm = layers.BatchNormalization()
        self.relu = layers.ReLU()
        self.add = layers.Add()

    def build(self, shape):
        self.conv.build(shape)
        self.norm.build((*shape[:-1], self.filters))

    def call(self, inputs):
        return self.add([inputs, self.relu(self.norm(self.conv(inputs)))])

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


@keras.saving.register_keras_serializable("kopt-tests")
class Net(keras.Model):
    """A subclassed model with a block, a model and a list of layers inside."""

    def __init__(self, width=3, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.block = Block(width)
        self.stem = keras.Sequential([layers.Conv2D(4, 3), layers.ReLU()])
        self.heads = [layers.Dense(5, activation="relu"), layers.Dense(2)]
        self.pool = layers.GlobalAveragePooling2D()

    def call(self, inputs):
        x = self.pool(self.stem(self.block(inputs)))
        for head in self.heads:
            x = head(x)
        return x

    def get_config(self):
        return {**super().get_config(), "width": self.width}


def functional(cnn):
    inputs = keras.Input((8, 8, 3))
    x = layers.Rescaling(0.5, name="rescaling")(inputs)
    x = layers.Concatenate()([layers.Conv2D(2, 1)(x), layers.Conv2D(1, 1)(x)])
    x = layers.BatchNormalization()(layers.Add()([x, x, inputs]))
    return keras.Model(inputs, cnn(x))


def with_block(cnn):
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(Block(3)(inputs))))


def shared(cnn):
    inputs = keras.Input((8, 8, 3))
    conv, dense = layers.Conv2D(3, 1), layers.Dense(3)
    return keras.Model(inputs, [dense(conv(conv(inputs))), dense(inputs)])


def subclassed(cnn):
    return Net()


MODELS = {
    "sequential": lambda cnn: cnn,
    "functional around a sequential": functional,
    "functional with a composite layer": with_block,
    "functional with shared layers": shared,
    "subclassed": subclassed,
}


@pytest.fixture(params=sorted(MODELS))
def quantized(request, cnn, images):
    model = MODELS[request.param](cnn)
    model(images)
    return quantize_model(model, calibration_data=images)


def predictions(model, images):
    return keras.tree.flatten(model(images, training=False))


def assert_equal(model, other, images):
    pairs = zip(predictions(model, images), predictions(other, images), strict=True)
    for one, two in pairs:
        np.testing.assert_array_equal(one, two)


def test_a_keras_file_brings_the_same_model_back(quantized, images, tmp_path):
    quantized.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert is_quantized(again)
    assert type(again).__name__ == type(quantized).__name__
    assert_equal(again, quantized, images)


@pytest.mark.slow
def test_a_loaded_model_can_be_saved_again(quantized, images, tmp_path):
    quantized.save(tmp_path / "one.keras")
    keras.saving.load_model(tmp_path / "one.keras").save(tmp_path / "two.keras")
    assert_equal(keras.saving.load_model(tmp_path / "two.keras"), quantized, images)


@pytest.mark.slow
def test_weights_go_into_a_model_quantized_without_data(quantized, images, tmp_path):
    quantized.save_weights(tmp_path / "model.weights.h5")
    quantized.save(tmp_path / "model.keras")
    twin = keras.saving.load_model(tmp_path / "model.keras")
    strip_quantization(twin)
    for variable in twin.variables:
        variable.assign(keras.ops.zeros_like(variable))
    quantize_model(twin).load_weights(tmp_path / "model.weights.h5")
    assert_equal(twin, quantized, images)


def test_a_clone_with_the_weights_computes_the_same(quantized, images):
    if isinstance(quantized, Net):
        pytest.skip("Keras does not clone subclassed models")
    clone = keras.models.clone_model(quantized)
    clone.set_weights(quantized.get_weights())
    assert is_quantized(clone)
    assert_equal(clone, quantized, images)


def test_stripping_a_loaded_model_gives_float_classes(quantized, tmp_path):
    quantized.save(tmp_path / "model.keras")
    again = strip_quantization(keras.saving.load_model(tmp_path / "model.keras"))
    assert not is_quantized(again)
    kinds = [type(layer).__name__ for layer in again._flatten_layers()]
    assert not [kind for kind in kinds if kind.startswith("Quantized")]


def test_training_goes_on_from_a_file_as_if_it_had_not_stopped(cnn, images, tmp_path):
    targets = np.arange(len(images)) % 4
    cnn.get_layer("dropout").rate = 0.0
    quantize_model(cnn, calibration_data=images)
    cnn.compile(keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy")

    def train(model):
        return model.fit(images, targets, epochs=2, shuffle=False, verbose=0)

    train(cnn)
    cnn.save(tmp_path / "half.keras")
    train(cnn)
    again = keras.saving.load_model(tmp_path / "half.keras")
    train(again)
    for one, two in zip(again.weights, cnn.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy(), err_msg=one.path)
    for one, two in zip(
        again.optimizer.variables, cnn.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(one.numpy(), two.numpy(), err_msg=one.path)


@pytest.mark.slow
def test_the_optimizer_of_a_subclassed_model_is_saved_once(images, tmp_path):
    model = Net()
    model(images)
    quantize_model(model, calibration_data=images)
    model.compile("adam", "mse")
    model.fit(images, np.zeros((48, 2)), verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert int(again.optimizer.iterations.numpy()) == 2
    assert len(again.optimizer.variables) == len(model.optimizer.variables)
    again.fit(images, np.zeros((48, 2)), verbose=0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["functional around a sequential"])
def test_another_process_loads_it_after_import_kopt(kind, cnn, images, tmp_path):
    model = quantize_model(MODELS[kind](cnn), calibration_data=images)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    program = textwrap.dedent(
        """
        import numpy as np, keras, kopt
        model = keras.saving.load_model("model.keras")
        assert kopt.quantization.is_quantized(model)
        np.save("outputs.npy", model.predict(np.load("images.npy"), verbose=0))
        """
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    outputs = np.load(tmp_path / "outputs.npy")
    np.testing.assert_array_equal(outputs, model.predict(images, verbose=0))


@pytest.mark.slow
def test_a_saved_model_computes_the_same(cnn, images, tmp_path):
    import tensorflow as tf

    quantize_model(cnn, calibration_data=images)
    cnn.export(tmp_path / "exported", verbose=False)
    served = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(
        served.serve(images), cnn.predict(images, verbose=0), atol=1e-6
    )


@keras.saving.register_keras_serializable("test saving")
class Named(keras.layers.Layer):
    """A layer whose config, which Keras makes from its arguments, has no name."""

    def __init__(self, **options):
        super().__init__(**options)
        self.inner = keras.layers.Dense(3)

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x)


def named_in_a_graph():
    x = keras.Input((6, 2))
    return keras.Model(x, keras.layers.Flatten()(Named()(x)))


def named_in_a_row():
    return keras.Sequential([keras.Input((6, 2)), Named(), keras.layers.Flatten()])


@pytest.mark.parametrize("make", [named_in_a_graph, named_in_a_row])
def test_a_layer_whose_config_has_no_name_is_loaded_once(make, random, tmp_path):
    x = random.normal(size=(8, 6, 2)).astype("float32")
    model = quantize_model(make(), calibration_data=x)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(
        again.predict(x, verbose=0), model.predict(x, verbose=0)
    )
