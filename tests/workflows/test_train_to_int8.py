"""The whole line on real digits: train, prune, quantize, export, measure."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

import kopt
from tests.real.datasets import digits

pytestmark = [pytest.mark.slow, pytest.mark.real]
SPARSITY = 0.75
BATCH_SIZE = 32


def network():
    layers = keras.layers

    def convolution(x, filters, kernel_size=3):
        x = layers.Conv2D(filters, kernel_size, padding="same", use_bias=False)(x)
        return layers.BatchNormalization()(x)

    inputs = keras.Input((8, 8, 1))
    x = layers.ReLU()(convolution(inputs, 16))
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.MaxPooling2D()(layers.ReLU()(convolution(x, 32, 1)))
    branch = kopt.layers.DropPath(0.1)(convolution(x, 32))
    x = layers.ReLU()(layers.Add()([x, branch]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


def train(model, data, epochs, rate):
    schedule = kopt.schedules.Warmup(kopt.schedules.Cosine(rate, steps=1.0), steps=0.1)
    model.compile(kopt.AdamW(rate), "sparse_categorical_crossentropy")
    model.fit(
        *data.train,
        batch_size=BATCH_SIZE,
        epochs=epochs,
        verbose=0,
        callbacks=[kopt.callbacks.FitSchedule(schedule)],
    )


def kernels(model):
    return {
        weight.path.rsplit("/", 2)[-2]: np.array(weight)
        for weight in model.trainable_weights
        if weight.path.endswith("kernel")
    }


def zeros(array):
    return float(np.mean(array == 0))


def accuracy(predict, part):
    return float(np.mean(predict(part[0]).argmax(axis=1) == part[1]))


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """Every stage of the line, run once."""
    keras.utils.set_random_seed(0)
    data = digits(image=True)
    folder = tmp_path_factory.mktemp("line")
    model = network()
    train(model, data, epochs=25, rate=1e-2)
    trained = accuracy(quiet(model), data.test)
    float_file = kopt.export.tflite(model, folder / "float.tflite")

    steps = 20 * -(-len(data.train[0]) // BATCH_SIZE)
    end = int(0.7 * steps)  # the rest is for the weights that are left
    kopt.pruning.prune_low_magnitude(
        model, kopt.pruning.PolynomialDecay(0.0, SPARSITY, 0, end, frequency=10)
    )
    train(model, data, epochs=20, rate=1e-2)
    pruned = accuracy(quiet(model), data.test)
    before = kernels(model)

    quantized = kopt.quantization.quantize_model(
        model, calibration_data=data.train[0][:500]
    )
    train(quantized, data, epochs=5, rate=1e-3)
    reports = {
        io_dtype: kopt.export.tflite(
            quantized, folder / f"{io_dtype}.tflite", io_dtype=io_dtype
        )
        for io_dtype in ("float32", "int8")
    }
    return SimpleNamespace(
        data=data,
        trained=trained,
        pruned=pruned,
        kernels_before=before,
        model=quantized,
        float_file=float_file,
        reports=reports,
    )


def quiet(model):
    return lambda x: model.predict(x, batch_size=256, verbose=0)


def test_each_stage_keeps_the_accuracy(line):
    assert line.trained > 0.96
    # A network this small loses 0.5 to 3 points, by the seed; and a point is 4 images.
    assert line.pruned > line.trained - 0.04
    assert accuracy(quiet(line.model), line.data.test) > line.pruned - 0.02


def test_pruned_weights_are_zero_and_stay_so_through_quantization(line):
    after = kernels(line.model)
    large = [name for name, kernel in line.kernels_before.items() if kernel.size > 300]
    assert len(large) >= 3
    for name in large:
        assert zeros(line.kernels_before[name]) == pytest.approx(SPARSITY, abs=0.01)
        was_zero = line.kernels_before[name] == 0
        assert not after[name][was_zero].any()


def test_file_is_integer_inside(line):
    assert line.reports["float32"].float_tensors == ()
    assert line.reports["int8"].float_tensors == ()
    assert set(line.reports["int8"].inputs.values()) == {"int8"}
    assert set(line.reports["int8"].outputs.values()) == {"int8"}


def test_interpreter_finds_no_float_tensor_in_the_integer_file(line):
    # Not from the report: from the runtime that will execute the file.
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(
        str(line.reports["int8"].path)
    )
    interpreter.allocate_tensors()
    types = {np.dtype(tensor["dtype"]) for tensor in interpreter.get_tensor_details()}
    assert types <= {np.dtype("int8"), np.dtype("int32")}


def test_file_keeps_the_zeros(line):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(
        str(line.reports["int8"].path)
    )
    interpreter.allocate_tensors()
    inside = []
    for tensor in interpreter.get_tensor_details():
        try:
            values = interpreter.get_tensor(tensor["index"])
        except ValueError:  # a tensor of the computation, without data
            continue
        if values.dtype == np.int8 and len(values.shape) in (2, 4):
            inside.append(values)
    for kernel in line.kernels_before.values():
        if kernel.size > 300:
            (stored,) = (values for values in inside if values.size == kernel.size)
            assert zeros(stored) >= zeros(kernel)


@pytest.mark.parametrize("io_dtype", ["float32", "int8"])
def test_file_agrees_with_the_quantization_aware_model(line, io_dtype):
    x = line.data.test[0]
    file = kopt.export.Interpreter(line.reports[io_dtype].path)
    same = file.predict(x).argmax(axis=1) == quiet(line.model)(x).argmax(axis=1)
    assert same.mean() >= 0.99


def test_measurement_of_the_file_is_what_running_it_gives(line):
    path = line.reports["int8"].path
    measured = kopt.evaluation.measure(path, line.data.test)
    run = kopt.export.Interpreter(path)
    expected = accuracy(run.predict, line.data.test)
    assert measured.metrics["accuracy"] == pytest.approx(expected)


def test_integer_file_is_far_smaller(line):
    assert line.reports["int8"].size_kb < line.float_file.size_kb / 2


def test_quantized_model_is_saved_and_loaded_whole(line, tmp_path):
    line.model.save(tmp_path / "quantized.keras")
    loaded = keras.saving.load_model(tmp_path / "quantized.keras")
    x = line.data.test[0]
    np.testing.assert_array_equal(quiet(loaded)(x), quiet(line.model)(x))
    report = kopt.export.tflite(loaded, tmp_path / "again.tflite", io_dtype="int8")
    assert report.path.read_bytes() == line.reports["int8"].path.read_bytes()
