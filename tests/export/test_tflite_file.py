import keras
import numpy as np
import pytest

import kopt
from kopt.export import (
    ConversionError,
    Interpreter,
    VerificationError,
    _conversion,
    _trace,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.tflite"


def quantized(model, data):
    return kopt.quantization.quantize_model(model, calibration_data=data)


def names_in(folder):
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize(
    ("quantization", "io_dtype", "limit"),
    [
        (None, None, 1e-5),
        ("float16", None, 5e-3),
        ("dynamic", None, 5e-2),
        ("int8", None, 0.2),
        ("int8", "uint8", 0.2),
        ("int16x8", "int16", 5e-2),
    ],
)
def test_every_quantization_gives_a_file_that_agrees(
    tiny, images, path, quantization, io_dtype, limit
):
    report = kopt.export.tflite(tiny, path, quantization, images, io_dtype)
    found = Interpreter(path).predict(images)
    assert np.abs(found - tiny(images)).max() < limit
    assert report.verified and report.samples == len(images)
    assert report.max_difference == pytest.approx(np.abs(found - tiny(images)).max())
    assert report.size_bytes == path.stat().st_size
    assert report.outputs == {"scores": io_dtype or "float32"}


def test_a_file_in_integers_has_no_float_tensor_inside(tiny, images, path):
    report = kopt.export.tflite(tiny, path, "int8", images)
    assert report.float_tensors == ()
    kinds = {tensor.dtype for tensor in Interpreter(path).tensors}
    assert kinds == {"float32", "int8", "int32"}  # input and output, values, shapes


def test_integers_at_the_border_leave_no_float_tensor_at_all(tiny, images, path):
    kopt.export.tflite(tiny, path, "int8", images, io_dtype="int8")
    kinds = {tensor.dtype for tensor in Interpreter(path).tensors}
    assert kinds == {"int8", "int32"}


def test_float_tensors_are_named(tiny, path):
    report = kopt.export.tflite(tiny, path)
    tensors = Interpreter(path).tensors
    assert set(report.float_tensors) == {
        tensor.name for tensor in tensors[1:-1] if tensor.dtype == "float32"
    }


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_batch_is_fixed_in_the_file(tiny, path, batch_size):
    kopt.export.tflite(tiny, path, batch_size=batch_size)
    file = Interpreter(path)
    assert file.inputs[0].shape == (batch_size, 8, 8, 1)
    operations = [operation.name for operation in file.contents.operations]
    assert operations == ["CONV_2D", "RESHAPE", "FULLY_CONNECTED"]


def test_inputs_and_outputs_are_never_swapped(two_by_two, random, path):
    # Alike in shape, so that only the names keep them apart.
    data = {name: random.normal(size=(50, 6)) for name in ("wide", "deep")}
    report = kopt.export.tflite(two_by_two, path, "int8", data, "int8")
    expected = two_by_two.predict(data, verbose=0)
    found = Interpreter(path).predict(data)
    assert set(report.inputs) == set(data)
    assert np.abs(found["zebra"] - expected[0]).max() < 0.1
    assert np.abs(found["ant"] - expected[1]).max() < 0.1


def test_whole_numbers_stay_whole_numbers(random, path):
    model = keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            keras.layers.Embedding(20, 4),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    ids = random.integers(0, 20, (50, 6))
    report = kopt.export.tflite(model, path, "int8", ids, io_dtype="int8")
    assert report.inputs == {"input": "int32"}
    assert report.float_tensors == ()
    assert report.max_lsb < 3


def test_zeros_make_a_sparse_file_small_and_change_nothing(random, path):
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64)])
    kernel = random.normal(size=(64, 64)) * (random.random((64, 64)) < 0.2)
    model.layers[0].kernel.assign(kernel)
    dense = kopt.export.tflite(model, path).size_bytes
    report = kopt.export.tflite(model, path, sparse=True)
    assert report.size_bytes < dense / 2
    assert report.max_difference < 1e-5
    # The gain in speed is what was measured, in each runtime, and nothing else.
    assert report.dense_size_bytes == dense
    assert set(report.speedups) == {"LiteRT", "tf.lite"}
    assert all(gain > 0 for gain in report.speedups.values())
    assert f"speed {report.speedups['LiteRT']:.2f}x in LiteRT" in str(report)


def test_a_dense_file_and_one_that_is_not_run_promise_no_speed(path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    for arguments in ({}, {"sparse": True, "verify": False}):
        report = kopt.export.tflite(model, path, **arguments)
        assert report.dense_size_bytes is None and not report.speedups


def test_a_recurrent_model_becomes_integers_step_by_step(random, path):
    model = keras.Sequential(
        [keras.Input((3, 2)), keras.layers.LSTM(3), keras.layers.Dense(2)]
    )
    data = random.normal(size=(50, 3, 2))
    report = kopt.export.tflite(model, path, "int8", data)
    assert report.max_lsb < 8
    assert not model.layers[0].unroll


@pytest.mark.parametrize("trained", [False, True])
def test_both_directions_of_a_recurrent_layer_have_the_right_scale(
    trained, random, path
):
    keras.utils.set_random_seed(0)
    inner = keras.layers.LSTM(3, return_sequences=True)
    both = keras.layers.Bidirectional(inner)
    model = keras.Sequential([keras.Input((3, 2)), both, keras.layers.Dense(2)])
    samples = random.normal(size=(40, 3, 2)).astype("float32")
    if trained:
        kopt.quantization.quantize_model(model, calibration_data=samples)
    report = kopt.export.tflite(model, path, "int8", samples)
    assert report.max_lsb < (1.1 if trained else 8)
    if trained:
        # From data alone the converter leaves a split float now and then, in no
        # order that repeats; the outputs are the same.
        assert report.float_tensors == ()


def test_a_mixed_precision_model_becomes_a_float32_file(images, path):
    keras.config.set_dtype_policy("mixed_float16")
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    report = kopt.export.tflite(model, path, verify=images)
    assert report.max_difference < 1e-5
    assert report.outputs == {"dense": "float32"}
    assert model.layers[-1].compute_dtype == "float16"


def test_a_subclassed_model_is_exported_like_any_other(random, path):
    class Residual(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = keras.layers.Dense(4, activation="relu")

        def call(self, inputs):
            return inputs + self.inner(inputs)

    model = Residual()
    model(np.ones((2, 4)))
    report = kopt.export.tflite(model, path, verify=random.normal(size=(9, 4)))
    assert report.verified and report.samples == 9


def test_sizes_that_are_open_are_taken_from_samples(random, path):
    model = keras.Sequential([keras.Input((None, 3)), keras.layers.Dense(2)])
    kopt.export.tflite(model, path, verify=random.normal(size=(5, 7, 3)))
    assert Interpreter(path).inputs[0].shape == (1, 7, 3)


def test_samples_of_two_sizes_are_refused(random, path):
    model = keras.Sequential([keras.Input((None, 3)), keras.layers.Dense(2)])
    seven, eight = random.normal(size=(5, 7, 3)), random.normal(size=(5, 8, 3))
    with pytest.raises(ValueError, match=r"`verify` .*\(samples, 7, 3\)"):
        kopt.export.tflite(model, path, "int8", seven, verify=eight)


def test_sizes_that_stay_open_are_refused(path):
    model = keras.Sequential([keras.Input((None, 3)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="needs fixed sizes"):
        kopt.export.tflite(model, path)


def test_the_model_is_as_before_after_its_export(tiny, images, path):
    model = quantized(tiny, images)
    before = [value.copy() for value in model.get_weights()]
    expected = model(images)
    kopt.export.tflite(model, path)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(model(images), expected)


@pytest.mark.parametrize("quantization", [None, "int8"])
def test_trained_ranges_need_no_data(tiny, images, path, quantization):
    model = quantized(tiny, images)
    report = kopt.export.tflite(model, path, quantization, io_dtype="int8")
    assert report.quantization == "int8" and report.float_tensors == ()
    assert report.source == "random samples" and report.max_lsb <= 3


def test_a_quantization_aware_model_goes_to_int8_alone(tiny, images, path):
    model = quantized(tiny, images)
    with pytest.raises(ValueError, match="strip_quantization"):
        kopt.export.tflite(model, path, "float16")


def test_ranges_that_were_never_set_are_refused(tiny, path):
    model = kopt.quantization.quantize_model(tiny)
    with pytest.raises(RuntimeError, match="has not been calibrated"):
        kopt.export.tflite(model, path, verify=False)


def test_integers_need_data_and_the_error_says_what_to_do(tiny, path):
    with pytest.raises(ValueError, match="Pass `representative_data`") as caught:
        kopt.export.tflite(tiny, path, "int8")
    assert "quantize_model" in str(caught.value)


def test_ranges_that_miss_the_data_are_found_out(tiny, images, path):
    path.write_bytes(b"old")
    narrow = images * 1e-3
    with pytest.raises(VerificationError, match="does not compute what") as caught:
        kopt.export.tflite(tiny, path, "int8", narrow, verify=images)
    assert not caught.value.report.verified
    assert caught.value.report.max_difference > 0.5
    assert path.read_bytes() == b"old" and names_in(path.parent) == [path.name]


def test_a_file_can_be_had_unseen(tiny, images, path):
    narrow = images * 1e-3
    report = kopt.export.tflite(tiny, path, "int8", narrow, verify=False)
    assert path.stat().st_size == report.size_bytes
    assert not report.verified and report.latency_ms is None
    assert report.float_tensors == ()


def test_the_latency_comes_with_the_way_it_was_measured(tiny, path):
    report = kopt.export.tflite(tiny, path)
    assert 0 < report.latency_ms < 1000
    assert report.latency_protocol == "median of 30 runs, batch 1, 1 thread"


def test_a_failed_conversion_leaves_the_old_file_whole(tiny, path, monkeypatch):
    class Failing:
        def convert(self):
            raise RuntimeError(
                "error: 'tf.Foo' op is neither a custom op nor a flex op"
            )

    monkeypatch.setattr(_conversion, "_converter", lambda *arguments: Failing())
    path.write_bytes(b"old")
    with pytest.raises(ConversionError, match=r"'tf\.Foo' op is neither"):
        kopt.export.tflite(tiny, path)
    assert path.read_bytes() == b"old" and names_in(path.parent) == [path.name]


def test_a_full_disk_leaves_the_old_file_whole(tiny, path, monkeypatch):
    path.write_bytes(b"old")

    def fail(self, content):
        self.open("wb").close()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "write_bytes", fail)
    with pytest.raises(OSError, match="No space left"):
        kopt.export.tflite(tiny, path)
    assert path.read_bytes() == b"old" and names_in(path.parent) == [path.name]


def test_operations_that_tflite_lacks_are_named(path):
    class Determinant(keras.layers.Layer):
        def call(self, inputs):
            return keras.ops.det(inputs)

    model = keras.Sequential(
        [keras.Input((3, 3)), keras.layers.Dense(3), Determinant()]
    )
    with pytest.raises(ConversionError, match="MatrixDeterminant"):
        kopt.export.tflite(model, path, isolate=False)
    assert names_in(path.parent) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quantization": "int4"}, "`quantization` must be one of"),
        ({"quantization": "float16", "io_dtype": "int8"}, "`io_dtype` must be one of"),
        ({"io_dtype": "uint8"}, "`io_dtype` must be one of 'float32'"),
        ({"batch_size": 0}, "`batch_size` must be a whole number of at least 1"),
        ({"representative_data": np.zeros((5, 8, 8, 3))}, r"\(samples, 8, 8, 1\)"),
        ({"representative_data": np.full((5, 8, 8, 1), np.nan)}, "has NaN"),
        ({"verify": np.full((5, 8, 8, 1), np.inf)}, "`verify` .* has NaN or infinite"),
    ],
)
def test_wrong_arguments_are_refused(tiny, images, path, arguments, message):
    with pytest.raises(ValueError, match=message):
        kopt.export.tflite(tiny, path, **arguments)


def test_a_model_that_is_not_built_is_refused(path):
    with pytest.raises(ValueError, match="must be a built model"):
        kopt.export.tflite(keras.Sequential([keras.layers.Dense(2)]), path)


def test_a_model_of_tf_keras_is_refused_by_name(path):
    import tf_keras

    with pytest.raises(TypeError, match="older tf_keras"):
        kopt.export.tflite(tf_keras.Sequential([tf_keras.layers.Dense(2)]), path)


def test_weights_that_are_not_numbers_are_refused(tiny, path):
    tiny.layers[-1].bias.assign([0.0, np.nan, 0.0])
    with pytest.raises(ValueError, match=r"NaN or infinite values in .*bias"):
        kopt.export.tflite(tiny, path)


def test_weights_in_16_bits_are_refused(path):
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(2, dtype="bfloat16")]
    )
    with pytest.raises(ValueError, match="stored in 16 bits"):
        kopt.export.tflite(model, path)


def test_a_path_that_cannot_be_written_is_refused_before_any_work(
    tiny, tmp_path, monkeypatch
):
    def work(*arguments):
        raise AssertionError("the model was traced")

    monkeypatch.setattr(_trace, "write_for_converter", work)
    with pytest.raises(ValueError, match="in a folder that exists"):
        kopt.export.tflite(tiny, tmp_path / "nowhere" / "model.tflite")


@pytest.mark.parametrize("quantization", [None, "int8"])
def test_outputs_that_are_one_tensor_keep_their_names(quantization, tmp_path):
    inputs = keras.Input((4,), name="a")
    hidden = keras.layers.Dense(3, name="hidden")(inputs)
    pools = [keras.layers.Activation("relu")(hidden) for _ in range(2)]
    outputs = {"z": pools[0], "same": hidden, "input": inputs, "y": pools[1]}
    model = keras.Model(inputs, outputs)
    x = np.random.default_rng(0).normal(size=(100, 4)).astype("float32")
    path = tmp_path / "m.tflite"
    data = None if quantization is None else x
    report = kopt.export.tflite(model, path, quantization, data, verify=x)
    assert report.verified and set(report.outputs) == set(outputs)
    found = kopt.export.Interpreter(path).predict({"a": x})
    for name, values in model.predict(x, verbose=0).items():
        np.testing.assert_allclose(found[name], values, atol=0.05)


def test_samples_that_depend_on_each_other_are_compared_in_the_files_batches(tmp_path):
    # As in a contrastive model: each of a batch beside all of it.
    inputs = keras.Input((6,))
    codes = keras.layers.Dense(3)(inputs)
    model = keras.Model(inputs, keras.ops.matmul(codes, keras.ops.transpose(codes)))
    x = np.random.default_rng(0).normal(size=(21, 6)).astype("float32")
    report = kopt.export.tflite(model, tmp_path / "m.tflite", batch_size=4, verify=x)
    assert report.verified and report.samples == 20


def test_a_model_without_weights_is_exported(tmp_path):
    inputs = keras.Input((6,))
    model = keras.Model(inputs, keras.ops.maximum(0.5 * inputs + 1.0, 0.0))
    assert kopt.export.tflite(model, tmp_path / "m.tflite").verified
