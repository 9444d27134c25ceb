"""How far the runtime's kernels are apart, and a file beside that."""

import keras
import numpy as np
import pytest

import kopt
from kopt.export import _examination
from kopt.export._comparison import difference
from kopt.export.kernel_distance import beside_kernels, distance
from tests.real import datasets

KERNELS = ["xnnpack", "builtin", "reference"]
X = np.random.default_rng(0).normal(size=(40, 8, 8, 3)).astype("float32")


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(5),
        ]
    )


@pytest.mark.parametrize("kernels", KERNELS)
def test_every_kind_of_kernels_computes_the_float_model(model, tmp_path, kernels):
    kopt.export.tflite(model, tmp_path / "m.tflite")
    file = kopt.export.Interpreter(tmp_path / "m.tflite", kernels=kernels)
    expected = model.predict(X, verbose=0)
    np.testing.assert_allclose(file.predict(X), expected, atol=1e-5)


def test_reference_kernels_are_other_kernels(model, tmp_path):
    # Plain loops: on the built-in kernels the same file is many times as fast.
    kopt.export.tflite(model, tmp_path / "m.tflite", "int8", X)
    runtimes = [
        kopt.export.Interpreter(tmp_path / "m.tflite", kernels=kernels)
        for kernels in KERNELS
    ]
    assert [one.kernels for one in runtimes] == KERNELS
    outputs = [one.predict(X) for one in runtimes]
    step = runtimes[0].contents.step(runtimes[0].outputs[0])
    for one in outputs[1:]:
        assert np.abs(one - outputs[0]).max() <= 1.01 * step


def test_unknown_kernels_are_refused_with_those_there_are(model, tmp_path):
    kopt.export.tflite(model, tmp_path / "m.tflite")
    with pytest.raises(ValueError, match="'xnnpack', 'builtin', 'reference'"):
        kopt.export.Interpreter(tmp_path / "m.tflite", kernels="gpu")


def test_the_two_kernels_that_are_furthest_apart_are_the_measure():
    model = np.zeros((4, 2))
    one, other = np.full((4, 2), [0.1, 0.2]), np.full((4, 2), [0.1, 0.5])
    found = distance(model, [one, other, one], step=0.01)
    assert found.max == pytest.approx(0.3)
    assert found.mean == pytest.approx(0.15)
    # The file on its default kernels is 0.1 and 0.2 off.
    assert found.file == pytest.approx(0.15)
    assert found.relative == pytest.approx(1.0)


def test_the_worst_channel_counts_beside_the_mean():
    model = np.zeros((10, 3))
    one = np.tile([0.0, 0.3, 0.4], (10, 1))
    other = one + np.array([0.0, 0.1, 0.4])
    found = distance(model, [one, other], step=0.01)
    assert (found.axis, found.place, found.worst) == (1, 1, pytest.approx(3.0))


def test_equal_kernels_do_not_make_a_rounding_step_infinite():
    model, file = np.zeros((8, 2)), np.zeros((8, 2))
    file[0] = 0.01
    found = distance(model, [file, file, file], step=0.01)
    # An eighth of a step beside the half that rounding may leave.
    assert found.relative == pytest.approx(0.25)


def test_choices_are_counted_between_kernels():
    one = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    other = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    assert distance(one, [one, other], step=None).agreement == 0.75
    assert distance(one[:, :1], [one[:, :1]] * 2, step=None).agreement is None


def test_places_of_every_axis_count():
    model = np.zeros((10, 2, 3, 4))
    one = model.copy()
    one[:, 1] = 0.4
    found = distance(model, [one, one + 0.1], step=0.01)
    assert (found.axis, found.place) == (1, 1)
    assert distance(model[:, 0, 0, 0], [one[:, 1, 0, 0]] * 2, step=0.1).axis == 0


def test_what_the_kernels_are_apart_is_no_fault_of_the_file():
    random = np.random.default_rng(0)
    model = random.normal(size=(64, 4))
    noise = 0.3 * random.normal(size=(2, 64, 4)) * [0.1, 0.1, 0.1, 4.0]
    found = difference(model, model + noise[0], "trained int8", 0.01)
    assert not found.passed and found.faults
    near = distance(model, [model + noise[0], model + noise[1]], 0.01)
    passed = beside_kernels(found, near)
    assert near.explains and passed.passed and not passed.faults
    assert "kernels are as far apart" in str(passed.parts[0])
    # Kernels that agree leave the fault with the file.
    far = distance(model, [model + noise[0], model + noise[0]], 0.01)
    assert not far.explains and beside_kernels(found, far) == found
    assert beside_kernels(found, None) == found


def test_a_broken_output_is_a_fault_however_far_kernels_are_apart():
    model = np.random.default_rng(0).normal(size=(64, 4))
    constant = np.zeros((64, 4))
    found = difference(model, constant, "trained int8", 0.01)
    near = distance(model, [constant, -3 * model], 0.01)
    assert near.explains and not beside_kernels(found, near).passed


def test_a_file_that_is_close_needs_no_measure(model, tmp_path):
    kopt.quantization.quantize_model(model, calibration_data=X)
    report = kopt.export.tflite(model, tmp_path / "m.tflite", verify=X)
    assert report.max_lsb <= 3
    assert report.kernel_distances == {}
    assert "kernels apart" not in str(report)


def test_a_file_that_is_not_close_is_beside_the_kernels(model, tmp_path, monkeypatch):
    # As if a tenth of a step were too much, since deep networks take minutes.
    monkeypatch.setattr(_examination, "CLOSE_LSB", -1.0)
    kopt.quantization.quantize_model(model, calibration_data=X)
    report = kopt.export.tflite(model, tmp_path / "m.tflite", verify=X)
    (name,) = report.outputs
    found = report.kernel_distances[name]
    assert found.samples == 40
    assert found.relative <= 1.2
    assert "kernels apart" in str(report)


def test_kernels_that_lack_an_operation_are_left_out(tmp_path, monkeypatch):
    # The reference kernels have no TILE of 8 bits.
    monkeypatch.setattr(_examination, "CLOSE_LSB", -1.0)
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(4)(inputs)
    repeated = keras.layers.RepeatVector(3)(hidden)
    model = keras.Model(inputs, keras.layers.Conv1D(2, 2)(repeated))
    x = X.reshape(40, -1)[:, :6]
    kopt.quantization.quantize_model(model, calibration_data=x)
    path = tmp_path / "m.tflite"
    report = kopt.export.tflite(model, path, verify=x)
    with pytest.raises(ValueError, match="TILE"):
        kopt.export.Interpreter(path, kernels="reference")
    assert list(report.kernel_distances) == list(report.outputs)


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.real
def test_a_deep_network_is_as_near_to_its_file_as_kernels_are(tmp_path):
    (x, y), _, (test, _) = datasets.fashion_mnist(train=6_000)
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2((32, 32, 3), 0.35, weights=None, classes=10)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9
    x, test = large(x), large(test[:1000])
    for epochs, rate in ((3, 2e-3), (1, 3e-4)):
        model.compile(kopt.Adam(rate), "sparse_categorical_crossentropy")
        model.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
        if epochs == 3:
            kopt.quantization.quantize_model(model, calibration_data=x[:300])
    report = kopt.export.tflite(model, tmp_path / "m.tflite", verify=test)
    (found,) = report.kernel_distances.values()
    # No model can be within 3 steps of kernels that differ by more.
    assert report.max_lsb > 3 and found.max / found.step > 3
    assert found.relative <= 1.2 and found.worst <= 1.2


def large(images):
    """Images of 28 x 28 in the size and with the channels that MobileNetV2 takes."""
    edges = ((0, 0), (2, 2), (2, 2), (0, 0))
    return np.pad(images.reshape(-1, 28, 28, 1), edges).repeat(3, -1)
