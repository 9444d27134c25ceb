"""The whole way on scikit-learn's digits: float, calibrated, fine-tuned, integers."""

import keras
import numpy as np
import pytest
from keras import layers

from kopt.pruning import ConstantSparsity, prune_low_magnitude
from kopt.quantization import quantize_model
from tests.quantization.integers import Integers
from tests.real.datasets import digits

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Statistics for quantized inputs"),
    pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated"),
]


@pytest.fixture(scope="module")
def data():
    return digits(image=True)


def network():
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(16, 3, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.DepthwiseConv2D(3, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(max_value=6),
            layers.Conv2D(24, 1, activation="relu"),
            layers.MaxPooling2D(),
            layers.Dropout(0.1),
            layers.Conv2D(32, 3, activation="relu", name="last_conv"),
            layers.Flatten(),
            layers.Dense(32, activation="relu", name="hidden"),
            layers.Dense(10, name="logits"),
        ]
    )


def fit(model, data, epochs, learning_rate):
    model.compile(
        keras.optimizers.Adam(learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(*data.train, batch_size=64, epochs=epochs, verbose=0)


def accuracy(logits, labels):
    return (logits.argmax(1) == labels).mean()


@pytest.fixture(scope="module", params=[0, 1])
def trained(request, data):
    """A trained float network's weights."""
    keras.utils.set_random_seed(request.param)
    model = network()
    fit(model, data, epochs=15, learning_rate=3e-3)
    return model.get_weights()


@pytest.fixture
def model(trained):
    model = network()
    model.set_weights(trained)
    return model


def test_accuracy_is_kept_from_the_first_step_to_the_file(model, data):
    x, y = data.test
    float_accuracy = accuracy(model.predict(x, verbose=0), y)
    assert float_accuracy > 0.95
    quantize_model(model, calibration_data=data.train)
    assert accuracy(model.predict(x, verbose=0), y) >= float_accuracy - 0.005

    fit(model, data, epochs=3, learning_rate=3e-4)
    logits = model.predict(x, verbose=0)
    assert accuracy(logits, y) >= float_accuracy - 0.005

    file = Integers(model)
    assert file.float_tensors == []
    results = file(x)
    assert (results.argmax(1) == logits.argmax(1)).mean() >= 0.99
    assert np.abs(results - logits).max() <= 3.001 * file.step


def test_a_softmax_head_becomes_integers_too(model, data):
    x, _ = data.test
    probabilities = keras.Sequential([model, layers.Softmax()])
    quantize_model(probabilities, calibration_data=data.train)
    expected = probabilities.predict(x, verbose=0)
    file = Integers(probabilities)
    assert file.float_tensors == []
    assert file.operations["SOFTMAX"] == 1
    assert (file(x).argmax(1) == expected.argmax(1)).mean() >= 0.99


def test_zeros_of_a_pruned_network_are_zeros_in_the_file(model, data):
    x, y = data.test
    prune_low_magnitude(model, ConstantSparsity(0.6, begin_step=1))
    fit(model, data, epochs=3, learning_rate=1e-3)
    pruned = accuracy(model.predict(x, verbose=0), y)
    kernel = model.get_layer("hidden").kernel
    zero = kernel.numpy() == 0
    assert zero.mean() == pytest.approx(0.6, abs=0.01)

    quantize_model(model, calibration_data=data.train)
    fit(model, data, epochs=2, learning_rate=3e-4)
    assert (kernel.numpy()[zero] == 0).all()
    logits = model.predict(x, verbose=0)
    assert accuracy(logits, y) >= pruned - 0.01

    file = Integers(model)
    assert file.float_tensors == []
    (stored,) = [
        one for one in file.tensors if tuple(one["shape"]) == kernel.shape[::-1]
    ]
    weights = file.interpreter.get_tensor(stored["index"]).T
    assert (stored["quantization_parameters"]["zero_points"] == 0).all()
    assert (weights[zero] == 0).all()
    assert (file(x).argmax(1) == logits.argmax(1)).mean() >= 0.99


def test_a_pruned_and_quantized_network_comes_back_from_its_file(model, data, tmp_path):
    x, _ = data.test
    prune_low_magnitude(model, ConstantSparsity(0.5, begin_step=1))
    quantize_model(model, calibration_data=data.train)
    fit(model, data, epochs=1, learning_rate=1e-3)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        again.predict(x, verbose=0), model.predict(x, verbose=0)
    )
    fit(again, data, epochs=1, learning_rate=1e-3)
    assert (again.get_layer("hidden").kernel.numpy() == 0).mean() == pytest.approx(
        0.5, abs=0.01
    )


def deep_network():
    keras.utils.set_random_seed(0)
    stack = [keras.Input((8, 8, 1))]
    for width in (16, 16, 32, 32, 32, 32):
        stack += [
            layers.Conv2D(width, 3, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.Activation("swish"),
        ]
    return keras.Sequential([*stack, layers.GlobalAveragePooling2D(), layers.Dense(10)])


def test_a_network_quantized_before_its_first_step_learns_as_well(data):
    # Untrained, a batch normalization shows ranges far narrower than in training.
    exact, rounded = deep_network(), deep_network()
    quantize_model(rounded, calibration_data=data.train[0][:300])
    x, y = data.test
    found = []
    for model in (exact, rounded):
        fit(model, data, 8, 1e-3)
        found.append(accuracy(model.predict(x, verbose=0), y))
    assert found[1] > found[0] - 0.01
