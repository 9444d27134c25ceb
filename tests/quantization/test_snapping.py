import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from kopt.quantization import is_quantized, quantize_model, ranges, snapped


@pytest.fixture
def quantized(cnn, images):
    return quantize_model(cnn, calibration_data=images)


def is_changed(layer):
    return hasattr(layer, "quantizer")


def values(model):
    return [one.value.numpy() for one in model.variables]


def test_is_quantized_sees_layers_at_any_depth(cnn, images):
    outer = keras.Sequential([keras.Input((8, 8, 3)), cnn])
    assert not is_quantized(outer)
    quantize_model(cnn, calibration_data=images)
    assert is_quantized(outer)


def test_inside_weights_and_ranges_lie_on_their_grids_and_all_else_is_untouched(
    quantized,
):
    expected = {id(one): one.value.numpy() for one in quantized.variables}
    for name in ("conv", "depthwise", "pointwise", "head"):
        kernel = quantized.get_layer(name).kernel
        axes = (-2, -1) if name == "depthwise" else (-1,)
        expected[id(kernel)] = ranges.fake_quantize_weights(kernel, axes).numpy()
    for layer in quantized.layers:
        for one in layer.quantizer.ranges.values() if is_changed(layer) else ():
            expected[id(one.low)] = np.float32(one.grid().low)
            expected[id(one.high)] = np.float32(one.grid().high)
    with snapped(quantized):
        for variable in quantized.variables:
            np.testing.assert_array_equal(variable.numpy(), expected[id(variable)])


def test_inside_the_model_computes_the_same(quantized, images):
    outside = quantized(images, training=False).numpy()
    with snapped(quantized):
        graph = tf.function(lambda x: quantized(x, training=False))
        inside = graph(images).numpy()
    np.testing.assert_allclose(inside, outside, atol=1e-6)


def test_inside_a_fresh_trace_rounds_no_weights(quantized, images):
    def kinds():
        graph = tf.function(lambda x: quantized(x, training=False))
        concrete = graph.get_concrete_function(tf.TensorSpec((1, 8, 8, 3)))
        definition = concrete.graph.as_graph_def()
        nodes = [*definition.node]
        for function in definition.library.function:
            nodes += function.node_def
        return [node.op for node in nodes if node.op.startswith("FakeQuant")]

    assert kinds().count("FakeQuantWithMinMaxVarsPerChannel") == 4
    with snapped(quantized):
        assert set(kinds()) == {"FakeQuantWithMinMaxVars"}
        assert len(kinds()) == 5
    assert kinds().count("FakeQuantWithMinMaxVarsPerChannel") == 4


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_restored_to_the_bit(quantized, images, fails):
    before, outputs = values(quantized), quantized(images).numpy()
    try:
        with snapped(quantized):
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert fails
    for new, old in zip(values(quantized), before, strict=True):
        np.testing.assert_array_equal(new, old)
    np.testing.assert_array_equal(quantized(images), outputs)


def test_snapping_inside_of_snapping_restores_in_order(quantized):
    before = values(quantized)
    with snapped(quantized):
        inside = values(quantized)
        with snapped(quantized):
            pass
        for new, old in zip(values(quantized), inside, strict=True):
            np.testing.assert_array_equal(new, old)
        assert all(
            layer.quantizer.snapped for layer in quantized.layers if is_changed(layer)
        )
    for new, old in zip(values(quantized), before, strict=True):
        np.testing.assert_array_equal(new, old)


def test_a_weight_of_two_layers_is_snapped_once(rows):
    first = layers.Dense(6)
    first.build((None, 6))

    class Tied(layers.Dense):
        def build(self, shape):
            self._kernel = first.kernel
            self.bias = self.add_weight(shape=(6,), name="bias")

    second = Tied(6)
    model = keras.Sequential([keras.Input((6,)), first, second])
    quantize_model(model, calibration_data=rows)
    before = first.kernel.numpy()
    with snapped(model):
        np.testing.assert_array_equal(
            first.kernel.numpy(), ranges.fake_quantize_weights(before, [-1])
        )
    np.testing.assert_array_equal(first.kernel.numpy(), before)


def test_an_uncalibrated_model_is_refused_and_left_as_it_was(mlp):
    quantize_model(mlp)
    before = values(mlp)
    with pytest.raises(RuntimeError, match="has not been calibrated"), snapped(mlp):
        pass
    for new, old in zip(values(mlp), before, strict=True):
        np.testing.assert_array_equal(new, old)
    assert not mlp.layers[0].quantizer.snapped


def test_a_float_model_is_refused(mlp):
    with pytest.raises(ValueError, match="not quantized"), snapped(mlp):
        pass
