"""Adapters become a part of the weights, and nothing else changes."""

import keras
import numpy as np
import pytest
from keras import layers

import kopt


def data():
    return np.random.default_rng(0).normal(size=(16, 6)).astype("float32")


def dense():
    return keras.Sequential([keras.Input((6,)), layers.Dense(5), layers.Dense(3)])


def nested():
    inputs = keras.Input((6,))
    return keras.Model(inputs, layers.Dense(2)(dense()(inputs)))


def every_kind():
    inputs = keras.Input((6,))
    x = layers.Embedding(7, 8)(keras.ops.cast(keras.ops.abs(inputs) * 2, "int32"))
    x = layers.EinsumDense("abc,cde->abde", (6, 2, 4))(x)
    x = layers.Conv2D(3, 2)(x)
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))


def adapted(build):
    """A model with adapters that are not zero."""
    model = build()
    random = np.random.default_rng(1)
    for layer in model._flatten_layers(include_self=False):
        if hasattr(layer, "enable_lora"):
            layer.enable_lora(2, lora_alpha=3)
    for variable in model.weights:
        if "lora" in variable.name:
            variable.assign(random.normal(size=variable.shape))
    return model


@pytest.mark.parametrize("build", [dense, nested, every_kind])
def test_the_model_computes_the_same_with_the_weights_that_it_began_with(build):
    model = adapted(build)
    expected = model(data())
    assert kopt.merge_lora(model) is model
    np.testing.assert_allclose(model(data()), expected, rtol=1e-4, atol=1e-4)
    shapes = [variable.shape for variable in build().weights]
    assert [variable.shape for variable in model.weights] == shapes
    assert len(model.trainable_weights) == len(shapes)


def test_a_merged_kernel_trains():
    model = kopt.merge_lora(adapted(dense))
    before = model.layers[0].kernel.numpy()
    model.compile("sgd", "mse")
    model.fit(data(), np.zeros((16, 3)), verbose=0)
    assert np.all(model.layers[0].kernel.numpy() != before)


def test_a_merged_model_is_saved_and_can_get_adapters_again(tmp_path):
    model = kopt.merge_lora(adapted(dense))
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert len(again.weights) == 4
    np.testing.assert_allclose(again(data()), model(data()), rtol=1e-5)
    model.layers[0].enable_lora(1)


def test_a_model_that_was_saved_with_adapters_is_merged_after_loading(tmp_path):
    model = adapted(dense)
    model.save(tmp_path / "m.keras")
    again = kopt.merge_lora(keras.saving.load_model(tmp_path / "m.keras"))
    np.testing.assert_allclose(again(data()), model(data()), rtol=1e-4, atol=1e-5)
    assert len(again.weights) == 4


def test_a_half_precision_kernel_keeps_its_type():
    keras.config.set_dtype_policy("bfloat16")
    model = kopt.merge_lora(adapted(dense))
    assert {variable.dtype for variable in model.weights} == {"bfloat16"}


def test_a_model_without_adapters_comes_back_as_it_is():
    model = dense()
    weights = model.get_weights()
    kopt.merge_lora(model)
    for mine, other in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(mine, other)


VERBS = {
    "prune": lambda m: kopt.pruning.prune_low_magnitude(m, kopt.pruning.OneShot(0.5)),
    "cluster": lambda m: kopt.clustering.cluster_weights(m, 2),
    "quantize": lambda m: kopt.quantization.quantize_model(m, calibration_data=data()),
    "equalize": lambda m: kopt.quantization.equalize(m),
}


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_verbs_that_work_on_kernels_say_how_to_merge_first(verb):
    model = adapted(nested)
    weights = len(model.weights)
    with pytest.raises(ValueError, match=r"kopt\.merge_lora"):
        VERBS[verb](model)
    assert len(model.weights) == weights
    VERBS[verb](kopt.merge_lora(model))


def test_a_merged_model_is_pruned_quantized_and_trained():
    model = kopt.merge_lora(adapted(dense))
    VERBS["prune"](model)
    VERBS["quantize"](model)
    model.compile("sgd", "mse")
    model.fit(data(), np.zeros((16, 3)), verbose=0)
    assert kopt.pruning.sparsity_report(model).sparsity >= 0.48


def test_kernels_that_keras_quantized_are_refused():
    model = dense()
    model.layers[0].quantize("int8")
    model.layers[0].enable_lora(2)
    with pytest.raises(ValueError, match="Keras quantized"):
        kopt.merge_lora(model)
    assert model.layers[0].lora_enabled
