import sys

import keras
import numpy as np
import pytest

import kopt
from kopt.export import ConversionError, Interpreter

# Converted once for all tests here; those that damage a file copy it first.


@pytest.fixture(scope="module")
def tiny(tiny_model):
    return tiny_model()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(40, 8, 8, 1)).astype("float32")


@pytest.fixture(scope="module")
def float_file(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("float") / "float.tflite"
    kopt.export.tflite(tiny, path, batch_size=4)
    return path


@pytest.fixture(scope="module")
def int8_file(tiny, images, tmp_path_factory):
    path = tmp_path_factory.mktemp("int8") / "int8.tflite"
    kopt.export.tflite(tiny, path, "int8", images, io_dtype="int8")
    return path


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_any_number_of_samples_goes_through_the_fixed_batch(
    tiny, float_file, images, count
):
    found = Interpreter(float_file).predict(images[:count])
    np.testing.assert_allclose(found, tiny(images[:count]), atol=1e-5)


def test_integers_are_hidden_by_default_and_shown_on_demand(tiny, int8_file, images):
    file = Interpreter(int8_file)
    real, stored = file.predict(images), file.predict(images, dequantize=False)
    assert real.dtype == "float32" and stored.dtype == "int8"
    np.testing.assert_array_equal(file.outputs[0].dequantize(stored), real)
    assert np.abs(real - tiny(images)).max() < 3 * file.outputs[0].scales[0]


def test_integers_of_the_file_s_type_go_in_as_they_are(int8_file, images):
    file = Interpreter(int8_file)
    stored = file.inputs[0].quantize(images)
    np.testing.assert_array_equal(file.predict(stored), file.predict(images))


def test_several_inputs_and_outputs_go_by_name(two_by_two, random, tmp_path):
    path = tmp_path / "two.tflite"
    kopt.export.tflite(two_by_two, path)
    x = {name: random.normal(size=(5, 6)) for name in ("wide", "deep")}
    found = Interpreter(path).predict(x)
    expected = two_by_two.predict(x, verbose=0)
    np.testing.assert_allclose(found["zebra"], expected[0], atol=1e-5)
    np.testing.assert_allclose(found["ant"], expected[1], atol=1e-5)


def test_a_list_for_several_inputs_is_in_the_model_s_order(
    two_by_two, random, tmp_path
):
    path = tmp_path / "two.tflite"
    kopt.export.tflite(two_by_two, path)
    x = random.normal(size=(2, 5, 6))
    file = Interpreter(path)
    found, expected = file.predict(list(x)), two_by_two.predict(list(x), verbose=0)
    assert [tensor.name for tensor in file.inputs] == ["wide", "deep"]
    assert list(found) == ["zebra", "ant"]
    np.testing.assert_allclose(found["zebra"], expected[0], atol=1e-5)


def test_a_list_of_another_length_is_refused(two_by_two, tmp_path):
    path = tmp_path / "two.tflite"
    kopt.export.tflite(two_by_two, path)
    with pytest.raises(ValueError, match="in the order wide, deep"):
        Interpreter(path).predict([np.zeros((1, 6))])


def test_constants_have_their_data_and_the_rest_has_none(tiny, float_file):
    file = Interpreter(float_file)
    (dense,) = [tensor for tensor in file.tensors if tensor.shape == (3, 144)]
    np.testing.assert_array_equal(dense.data, tiny.layers[-1].kernel.numpy().T)
    assert all(tensor.data is None for tensor in (*file.inputs, *file.outputs))


def test_dequantized_constants_are_the_weights_within_half_a_step(tiny, int8_file):
    file = Interpreter(int8_file)
    (dense,) = [tensor for tensor in file.tensors if tensor.shape == (3, 144)]
    kernel = tiny.layers[-1].kernel.numpy().T
    assert dense.data.dtype == "int8" and len(dense.scales) == 3
    error = np.abs(dense.dequantize(dense.data) - kernel)
    assert (error <= dense.scales[:, None] * 0.501).all()


@pytest.mark.parametrize("kept", [0, 3, 20, 0.5, 0.99])
def test_a_truncated_file_is_named_as_such(float_file, tmp_path, kept):
    content = float_file.read_bytes()
    size = kept if isinstance(kept, int) else int(len(content) * kept)
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(content[:size])
    with pytest.raises(ValueError, match=f"no whole TFLite file \\({size} bytes\\)"):
        Interpreter(damaged)


def test_another_kind_of_file_is_refused(tmp_path):
    path = tmp_path / "notes.tflite"
    path.write_text("These are notes, and long enough to be a file header.")
    with pytest.raises(ValueError, match="no whole TFLite file"):
        Interpreter(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.tflite"):
        Interpreter(tmp_path / "nothing.tflite")


def test_samples_of_a_wrong_shape_are_refused(float_file):
    with pytest.raises(ValueError, match=r"\(samples, 8, 8, 1\)"):
        Interpreter(float_file).predict(np.zeros((4, 8, 8)))


def test_no_samples_are_refused(float_file):
    with pytest.raises(ValueError, match="at least one"):
        Interpreter(float_file).predict(np.zeros((0, 8, 8, 1)))


def test_a_wrong_name_is_refused_with_the_right_ones(float_file):
    with pytest.raises(ValueError, match=r"inputs input\. Received: image"):
        Interpreter(float_file).predict({"image": np.zeros((1, 8, 8, 1))})


def test_latency_is_a_time_in_milliseconds(float_file):
    assert 0 < Interpreter(float_file).latency(runs=3) < 1000


def test_tensorflow_s_own_runtime_gives_the_same(float_file, images, monkeypatch):
    with_litert = Interpreter(float_file).predict(images)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.schema_py_generated", None)
    file = Interpreter(float_file)
    assert type(file._runtime).__module__.startswith("tensorflow")
    np.testing.assert_allclose(file.predict(images), with_litert, rtol=1e-6)


def test_what_a_file_holds_is_read_even_where_no_runtime_can_run_it(tmp_path, random):
    # Integers in sparse tensors: XNNPACK refuses them.
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64)])
    kernel = random.normal(size=(64, 64)) * (random.random((64, 64)) < 0.1)
    model.layers[0].kernel.assign(kernel)
    path = tmp_path / "sparse.tflite"
    data = random.normal(size=(20, 64))
    kopt.export.tflite(model, path, "int8", data, sparse=True, verify=False)
    file = Interpreter(path)
    with pytest.raises(ConversionError, match="leave out `sparse`"):
        file.predict(data)
    (stored,) = [tensor for tensor in file.tensors if tensor.sparse]
    assert stored.data.shape == (64, 64) and (stored.data[kernel.T == 0] == 0).all()
    error = np.abs(stored.dequantize(stored.data) - kernel.T)
    assert (error <= stored.scales[:, None] * 0.501).all()
