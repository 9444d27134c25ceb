"""Networks that are quantized before they have learned anything."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import kopt
from tests.real import datasets

UNUSUAL = {"zeros": 0.0, "tiny": 1e-30, "large": 1e15}


def convolutions(widths, activation, shape, strides=1):
    """Convolutions with batch normalization, and a softmax of ten classes."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input(shape)])
    for width in widths:
        model.add(
            layers.Conv2D(width, 3, strides, padding="same", use_bias=False),
        )
        model.add(layers.BatchNormalization(momentum=0.9))
        model.add(layers.Activation(activation))
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(10, activation="softmax"))
    return model


def inverted_bottlenecks(shape=(16, 16, 3)):
    """Three blocks of an EfficientNet: swish, squeeze and excitation, a skip."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input(shape)
    x = layers.Rescaling(1 / 255)(inputs)
    for number, width in enumerate((8, 12, 12)):
        before, inner = x, 4 * width
        for layer in (
            layers.Conv2D(inner, 1, use_bias=False),
            layers.DepthwiseConv2D(3, 2 - number % 2, padding="same", use_bias=False),
        ):
            x = layers.Activation("swish")(layers.BatchNormalization()(layer(x)))
        gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
        gate = layers.Conv2D(inner // 4, 1, activation="swish")(gate)
        x = x * layers.Conv2D(inner, 1, activation="sigmoid")(gate)
        x = layers.BatchNormalization()(layers.Conv2D(width, 1, use_bias=False)(x))
        if before.shape == x.shape:
            x = layers.Add()([before, x])
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


def trained(model, x, y, epochs, learning_rate=1e-3):
    """The losses of a training."""
    model.compile(kopt.Adam(learning_rate), "sparse_categorical_crossentropy")
    history = model.fit(x, y, batch_size=32, epochs=epochs, verbose=0).history
    return np.array(history["loss"])


def accuracy(model, x, y):
    outputs = model.predict(x, batch_size=500, verbose=0)
    return float(np.mean(outputs.argmax(-1) == y))


def both(make, data, epochs):
    """Accuracy on the test set, in float and quantized from the first step."""
    found = []
    for quantized in (False, True):
        model = make()
        if quantized:
            x = data.train[0][:256]
            kopt.quantization.quantize_model(model, calibration_data=x)
        trained(model, *data.train, epochs)
        found.append(accuracy(model, *data.test))
    return found


@pytest.mark.slow
@pytest.mark.real
def test_digits_are_learned_as_well_as_in_float():
    def make():
        return convolutions((16, 16, 32, 32), "swish", (8, 8, 1))

    exact, rounded = both(make, datasets.digits(image=True), epochs=8)
    assert exact > 0.95 and rounded > exact - 0.01


@pytest.mark.slow
@pytest.mark.real
def test_clothes_are_learned_as_well_as_in_float():
    def make():
        return convolutions((12, 24, 32), "relu", (28, 28, 1), strides=2)

    exact, rounded = both(make, datasets.fashion_mnist(train=4_000), epochs=6)
    assert exact > 0.75 and rounded > exact - 0.01


@pytest.mark.slow
def test_blocks_of_an_efficientnet_learn_as_in_float(random):
    y = np.arange(128) % 10
    x = random.uniform(0, 255, (128, 16, 16, 3)).astype("float32")
    x *= 0.3 + 0.07 * y[:, None, None, None]
    exact = trained(inverted_bottlenecks(), x, y, 6, 5e-3)
    model = inverted_bottlenecks()
    kopt.quantization.quantize_model(model, calibration_data=x)
    rounded = trained(model, x, y, 6, 5e-3)
    assert np.isfinite(rounded).all()
    assert rounded[-1] < rounded[0] - 0.5 * (exact[0] - exact[-1])


@pytest.mark.parametrize("kind", UNUSUAL)
def test_inputs_of_any_size_leave_numbers(kind):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, use_bias=False),
            layers.BatchNormalization(),
            layers.Activation("swish"),
            layers.Dense(3),
        ]
    )
    x = np.linspace(-1, 1, 96, dtype="float32").reshape(16, 6)
    kopt.quantization.quantize_model(model, calibration_data=x)
    model.compile(kopt.Adam(1e-3), "mse")
    unusual = (x * UNUSUAL[kind]).astype("float32")
    for batch in (unusual, x, unusual, x):
        assert np.isfinite(model.train_on_batch(batch, np.zeros((16, 3))))
    assert all(np.isfinite(one.numpy()).all() for one in model.variables)
    assert np.isfinite(ops.convert_to_numpy(model(x))).all()


def test_a_model_calibrated_on_zeros_learns_its_ranges():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), layers.Dense(8), layers.Dense(3)])
    x = np.linspace(-50, 50, 96, dtype="float32").reshape(16, 6)
    exact = model.predict(x, verbose=0)
    kopt.quantization.quantize_model(model, calibration_data=0 * x)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.train_on_batch(x, np.zeros((16, 3)))
    assert np.abs(model.predict(x, verbose=0) - exact).max() < 0.05 * exact.std()
