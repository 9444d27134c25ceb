import gzip

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from kopt.evaluation import measure


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.fixture
def classifier():
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, activation="relu"), layers.Dense(3)]
    )


@pytest.fixture
def data(random):
    return random.normal(size=(60, 6)).astype("float32"), random.integers(0, 3, 60)


def test_scores_are_those_of_the_predictions(classifier, data):
    predictions = classifier.predict(data[0], verbose=0).argmax(1)
    found = measure(classifier, data)
    assert found.accuracy == pytest.approx(np.mean(predictions == data[1]))
    assert found.samples == 60 and found.kind == "keras"


def test_loss_and_metrics_of_a_compiled_model_come_along(classifier, data):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    top = keras.metrics.SparseTopKCategoricalAccuracy(2, name="top_2")
    classifier.compile(loss=loss, metrics=["accuracy", top])
    expected = classifier.evaluate(*data, verbose=0, return_dict=True)
    found = measure(classifier, data).metrics
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert found["top_2"] == pytest.approx(expected["top_2"])
    assert found["accuracy"] == pytest.approx(expected["accuracy"])


def test_a_regression_has_errors_and_no_accuracy(random):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
    x, y = random.normal(size=(50, 6)), random.normal(size=50)
    found = measure(model, (x, y))
    error = model.predict(x, verbose=0)[:, 0] - y
    assert found.metrics["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-5)
    assert found.metrics["rmse"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-5)
    assert found.accuracy is None and found.macro_f1 is None


def test_every_output_has_its_own_scores(random):
    inputs = keras.Input((6,))
    outputs = [
        keras.layers.Dense(3, name="kind")(inputs),
        keras.layers.Dense(1, name="age")(inputs),
    ]
    model = keras.Model(inputs, outputs)
    x = random.normal(size=(50, 6))
    kind, age = random.integers(0, 3, 50), random.normal(size=50)
    as_list = measure(model, (x, [kind, age])).metrics
    as_dict = measure(model, (x, {"age": age, "kind": kind})).metrics
    assert as_list == as_dict
    assert set(as_list) == {"kind/accuracy", "kind/macro_f1", "age/mae", "age/rmse"}


def test_a_data_set_is_measured_like_arrays(classifier, data):
    batches = tf.data.Dataset.from_tensor_slices(data).batch(7)
    assert measure(classifier, batches).metrics == measure(classifier, data).metrics


def test_without_labels_there_are_no_scores(classifier, data):
    found = measure(classifier, data[0])
    assert found.metrics == {} and found.samples == 0
    assert found.latency_ms > 0


def test_without_data_the_rest_is_measured(classifier):
    found = measure(classifier)
    assert found.metrics == {}
    assert found.latency_ms > 0 and found.flops == 2 * (6 * 8 + 8 * 3)


def test_the_size_in_memory_is_that_of_the_weights(classifier):
    found = measure(classifier)
    weights = b"".join(value.tobytes() for value in classifier.get_weights())
    assert found.size_bytes == len(weights) == 4 * found.parameters
    assert found.gzip_bytes == len(gzip.compress(weights, 6, mtime=0))
    assert found.size_kb == found.size_bytes / 1024


def test_zeros_are_counted_as_pruning_counts_them(classifier, random):
    for layer in classifier.layers:
        kernel = layer.kernel.numpy()
        layer.kernel.assign(kernel * (random.random(kernel.shape) < 0.4))
    report = kopt.pruning.sparsity_report(classifier)
    assert measure(classifier).sparsity == report.sparsity > 0.5


def test_zeros_pack_better(classifier):
    before = measure(classifier)
    classifier.layers[0].kernel.assign(np.zeros((6, 8)))
    after = measure(classifier)
    assert after.gzip_bytes < before.gzip_bytes - 100
    assert after.size_bytes == before.size_bytes


@pytest.mark.parametrize("quantization", [None, "float16", "dynamic", "int8"])
def test_a_file_is_measured_like_its_model(
    classifier, data, random, tmp_path, quantization
):
    # Large enough that the converter takes the trouble; zeros well apart from the rest.
    classifier = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(256, "relu"), keras.layers.Dense(3)]
    )
    for layer in classifier.layers:
        kernel = np.sign(layer.kernel.numpy())
        layer.kernel.assign(kernel * (random.random(kernel.shape) < 0.4))
        layer.bias.assign(random.normal(size=layer.bias.shape))
    path = tmp_path / "model.tflite"
    kopt.export.tflite(classifier, path, quantization, data[0])
    found, model = measure(path, data), measure(classifier, data)
    assert found.kind == "tflite" and found.name == "model.tflite"
    assert found.size_bytes == path.stat().st_size
    assert found.sparsity == model.sparsity
    assert found.parameters == model.parameters
    assert found.flops == model.flops
    assert found.accuracy == pytest.approx(model.accuracy, abs=0.05)
    assert found.latency_protocol == "median of 30 runs, batch 1, 1 thread"


def test_a_file_with_integers_at_its_border_takes_floats(classifier, data, tmp_path):
    path = tmp_path / "model.tflite"
    kopt.export.tflite(classifier, path, "int8", data[0], io_dtype="int8")
    expected = kopt.export.Interpreter(path).predict(data[0]).argmax(1)
    assert measure(path, data).accuracy == np.mean(expected == data[1])


def test_a_sparse_file_has_the_zeros_of_its_model(random, tmp_path):
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64)])
    kernel = random.normal(size=(64, 64)) * (random.random((64, 64)) < 0.1)
    model.layers[0].kernel.assign(kernel)
    path = tmp_path / "model.tflite"
    kopt.export.tflite(model, path, sparse=True)
    assert measure(path).sparsity == measure(model).sparsity


def test_a_keras_file_is_measured_as_the_file_it_is(classifier, data, tmp_path):
    path = tmp_path / "model.keras"
    classifier.save(path)
    found = measure(path, data)
    assert found.size_bytes == path.stat().st_size and found.name == "model.keras"
    assert found.metrics == measure(classifier, data).metrics


def test_measuring_leaves_the_model_alone(classifier, data):
    before = [value.copy() for value in classifier.get_weights()]
    measure(classifier, data)
    for one, other in zip(before, classifier.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not classifier.compiled


def test_the_text_shows_every_number(classifier, data):
    text = str(measure(classifier, data))
    for part in ("accuracy", "macro_f1", "size, gzip (KB)", "sparsity", "MFLOPs"):
        assert part in text
    assert "60 samples" in text and "\x1b" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "ranking"}, "`task` must be one of"),
        ({"runs": 0}, "`runs` must be a whole number of at least 1"),
        ({"batch_size": 0}, "`batch_size` must be a whole number of at least 1"),
    ],
)
def test_wrong_arguments_are_refused(classifier, arguments, message):
    with pytest.raises(ValueError, match=message):
        measure(classifier, **arguments)


def test_labels_for_the_wrong_outputs_are_refused(random):
    inputs = keras.Input((6,))
    outputs = [keras.layers.Dense(1, name=name)(inputs) for name in ("a", "b")]
    model = keras.Model(inputs, outputs)
    with pytest.raises(ValueError, match=r"outputs a, b\. Give labels for each"):
        measure(model, (np.zeros((4, 6)), np.zeros(4)))


def test_a_model_that_is_not_built_is_refused():
    with pytest.raises(ValueError, match="must be a built model"):
        measure(keras.Sequential([keras.layers.Dense(2)]))


def test_another_kind_of_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a \.keras file or a \.tflite file"):
        measure(tmp_path / "model.onnx")


def test_a_truncated_file_is_refused(classifier, tmp_path):
    path = tmp_path / "model.tflite"
    kopt.export.tflite(classifier, path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match="no whole TFLite file"):
        measure(path)


@pytest.mark.parametrize("ending", [".keras", ".tflite"])
def test_a_file_that_is_not_there_is_named(tmp_path, ending):
    with pytest.raises(FileNotFoundError, match="nothing"):
        measure(tmp_path / f"nothing{ending}")
