import keras
import numpy as np
import pytest

import kopt
from kopt.export import _trace, dequantize


def branched():
    """Every kind of layer that takes weights from a file, and two equal branches."""
    layers = keras.layers
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, depth_multiplier=2)(x)
    x = layers.BatchNormalization(scale=False)(x)
    x = layers.Conv2DTranspose(5, 2, strides=2, activation="relu")(x)
    x = layers.SeparableConv2D(6, 3, use_bias=False)(x)
    x = layers.BatchNormalization(center=False)(x)
    left = layers.BatchNormalization()(layers.Conv2D(6, 1)(x))
    right = layers.BatchNormalization()(layers.Conv2D(6, 1, use_bias=False)(x))
    x = layers.Add()([left, right])
    x = layers.Reshape((-1, 6))(layers.BatchNormalization()(x))
    x = layers.Conv1D(4, 3)(x)
    x = layers.Flatten()(layers.Dense(5, activation="relu")(x))
    return keras.Model(inputs, layers.Dense(3)(x))


def randomized(model, random):
    for variable in model.weights:
        if variable.name in ("bias", "beta", "moving_mean"):
            variable.assign(random.normal(0, 0.2, variable.shape))
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(random.uniform(0.5, 2, variable.shape))
    return model


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).normal(size=(60, 8, 8, 3)).astype("float32")


@pytest.fixture(scope="module")
def model():
    return randomized(branched(), np.random.default_rng(0))


@pytest.fixture(scope="module")
def path(model, images, tmp_path_factory):
    path = tmp_path_factory.mktemp("dequantizing") / "model.tflite"
    kopt.export.tflite(model, path, "int8", images)
    return path


@pytest.fixture(scope="module")
def loaded(path):
    fresh = branched()
    return fresh, dequantize(path).load_into(fresh)


def test_values_are_scale_times_stored_minus_zero_point(path):
    from ai_edge_litert.interpreter import Interpreter as Runtime
    from ai_edge_litert.interpreter import OpResolverType

    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    runtime = Runtime(model_path=str(path), experimental_op_resolver_type=plain)
    runtime.allocate_tensors()
    details = {entry["name"]: entry for entry in runtime.get_tensor_details()}
    weights = dequantize(path).weights
    assert sum(one.dtype == "int8" for one in weights.values()) >= 10
    for name, found in weights.items():
        stored = runtime.get_tensor(details[name]["index"]).astype("float64")
        parameters = details[name]["quantization_parameters"]
        along = [1] * stored.ndim
        along[parameters["quantized_dimension"]] = -1
        scale = parameters["scales"].astype("float64").reshape(along)
        expected = scale * (stored - parameters["zero_points"].reshape(along))
        np.testing.assert_array_equal(found.values, expected.astype("float32"))
        np.testing.assert_array_equal(found.scale, parameters["scales"])
        np.testing.assert_array_equal(found.zero_point, parameters["zero_points"])


def test_ranges_are_those_that_the_types_hold(path):
    activations = dequantize(path).activations
    assert len(activations) > 10
    for found in activations.values():
        assert found.values is None
        low, high = found.range
        scale, zero = float(found.scale[0]), int(found.zero_point[0])
        np.testing.assert_allclose(low, scale * (-128 - zero), rtol=1e-6)
        np.testing.assert_allclose(high, scale * (127 - zero), rtol=1e-6)


def test_every_weight_finds_its_layer(loaded):
    _, report = loaded
    assert report.complete, str(report)
    # A kernel and a bias for each of ten convolutions and products, one scaling.
    assert len(report.matched) == 22


def test_the_loaded_model_computes_what_the_exported_one_did(loaded, model, images):
    expected, found = model.predict(images, verbose=0), loaded[0].predict(images, 0)
    step = np.ptp(expected) / 255
    assert np.abs(found - expected).max() < 6 * step
    assert np.abs(found).max() > 20 * step


def test_weights_are_within_half_a_step_of_the_originals(images, tmp_path):
    random = np.random.default_rng(3)
    kernels = [
        keras.layers.Conv2D(4, 3, activation="relu"),
        keras.layers.DepthwiseConv2D(3),
        keras.layers.Flatten(),
        keras.layers.Dense(3),
    ]
    model = randomized(keras.Sequential([keras.Input((8, 8, 3)), *kernels]), random)
    originals = {one.path: one.numpy() for one in model.weights}
    kopt.export.tflite(model, tmp_path / "m.tflite", "int8", images)
    file = dequantize(tmp_path / "m.tflite")
    assert file.load_into(model).complete
    for variable in model.weights:
        before = originals[variable.path]
        if variable.name == "bias":
            step = max(
                one.scale.max() for one in file.weights.values() if one.dtype == "int32"
            )
        else:
            axes = (0, 1) if variable.shape[-1] == 1 else tuple(range(before.ndim - 1))
            step = np.abs(before).max(axis=axes, keepdims=True) / 127
        error = np.abs(variable.numpy() - before)
        assert (error <= step * 0.501).all(), variable.path
        assert error.max() > 0


@pytest.mark.parametrize("quantization", [None, "float16"])
def test_files_that_are_not_quantized_load_as_well(
    model, images, tmp_path, quantization
):
    path = tmp_path / "model.tflite"
    kopt.export.tflite(model, path, quantization, verify=False)
    fresh = branched()
    assert dequantize(path).load_into(fresh).complete
    expected, found = model.predict(images, verbose=0), fresh.predict(images, verbose=0)
    tolerance = 1e-4 if quantization is None else 0.02
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def test_a_quantization_aware_file_loads_into_the_float_model(model, images, tmp_path):
    aware = keras.models.clone_model(model)
    aware.set_weights(model.get_weights())
    aware = kopt.quantization.quantize_model(aware, calibration_data=images)
    kopt.export.tflite(aware, tmp_path / "model.tflite", verify=False)
    fresh = branched()
    report = dequantize(tmp_path / "model.tflite").load_into(fresh)
    assert report.complete, str(report)
    expected, found = model.predict(images, verbose=0), fresh.predict(images, verbose=0)
    assert np.abs(found - expected).max() < 0.05 * np.ptp(expected)


def test_what_has_no_counterpart_is_reported(tiny, images, tmp_path):
    randomized(tiny, np.random.default_rng(0))
    kopt.export.tflite(tiny, tmp_path / "m.tflite", "int8", images[..., :1])
    other = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(4, 3, use_bias=False, name="same"),
            keras.layers.Flatten(),
            keras.layers.Dense(7, name="wider"),
        ]
    )
    before = other.get_layer("wider").get_weights()
    report = dequantize(tmp_path / "m.tflite").load_into(other)
    assert not report.complete
    assert [layer for _, layer in report.matched] == [other.get_layer("same").path]
    assert report.unmatched_layers == (other.get_layer("wider").path,)
    # The folded bias of the convolution, which has none here, and the scores.
    assert len(report.unmatched_weights) == 3
    assert f"nothing for {other.get_layer('wider').path}" in str(report)
    for now, then in zip(other.get_layer("wider").get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("names", [("query", "key", "x"), (None, None, None)])
def test_branches_find_each_other_by_the_names_of_their_layers(tmp_path, names):
    def make():
        inputs = keras.Input((4,))
        layers = [keras.layers.Dense(4, name=name) for name in names]
        outputs = [layer(inputs) for layer in layers[::-1]]
        return keras.Model(inputs, keras.layers.Concatenate()(outputs)), layers

    (model, originals), (fresh, layers) = make(), make()
    kopt.export.tflite(model, tmp_path / "m.tflite", verify=False)
    assert dequantize(tmp_path / "m.tflite").load_into(fresh).complete
    for original, layer in zip(originals, layers, strict=True):
        np.testing.assert_array_equal(layer.kernel, original.kernel)


def test_a_model_that_nothing_fits_is_refused(path):
    other = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match=r"No weight of the file fits.*exported"):
        dequantize(path).load_into(other)


def test_tables_and_nested_models_are_filled(tmp_path):
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    tokens = keras.Input((5,), dtype="int32")
    x = keras.layers.Embedding(11, 4)(tokens)
    model = keras.Model(tokens, inner(keras.layers.GlobalAveragePooling1D()(x)))
    kopt.export.tflite(model, tmp_path / "m.tflite", verify=False)
    originals = model.get_weights()
    for variable in model.weights:
        variable.assign(np.zeros(variable.shape))
    assert dequantize(tmp_path / "m.tflite").load_into(model).complete
    for now, then in zip(model.get_weights(), originals, strict=True):
        np.testing.assert_array_equal(now, then)


def test_a_subclassed_model_is_filled_in_the_order_of_its_layers(tmp_path):
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.second = keras.layers.Dense(4), keras.layers.Dense(4)

        def call(self, inputs):
            return self.second(self.first(inputs))

    model, fresh = Net(), Net()
    for one in (model, fresh):
        one(np.zeros((1, 4), "float32"))
    kopt.export.tflite(model, tmp_path / "m.tflite", verify=False)
    assert dequantize(tmp_path / "m.tflite").load_into(fresh).complete
    for now, then in zip(fresh.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(now, then)


def test_a_truncated_file_is_an_error(path, tmp_path):
    (tmp_path / "half.tflite").write_bytes(path.read_bytes()[:900])
    with pytest.raises(ValueError, match="no whole TFLite file"):
        dequantize(tmp_path / "half.tflite")
    with pytest.raises(FileNotFoundError, match="There is no file"):
        dequantize(tmp_path / "none.tflite")


def test_layers_are_found_in_the_order_of_their_calls():
    first, norm = keras.layers.Dense(3), keras.layers.BatchNormalization()
    shared = keras.layers.Dense(3)
    inputs = keras.Input((3,))
    x = norm(first(inputs))
    model = keras.Model(inputs, [shared(x), shared(inputs)])
    order, followers = _trace.layers_in_order(model)
    places = {id(layer): place for place, layer in enumerate(order)}
    assert places[id(first)] < places[id(norm)]
    assert followers[id(first)] is norm
    assert followers[id(norm)] is shared
    assert id(shared) not in followers
    sequential = keras.Sequential([keras.Input((3,))])
    sequential.add(keras.layers.Dense(3))
    sequential.add(keras.layers.BatchNormalization())
    dense, normalization = sequential.layers
    assert _trace.layers_in_order(sequential)[1][id(dense)] is normalization
