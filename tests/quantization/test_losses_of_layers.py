import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from kopt.quantization import Rule, quantize_model, register_quantize_rule
from kopt.quantization import rule as rules


@pytest.fixture(autouse=True)
def rules_as_before(monkeypatch):
    monkeypatch.setattr(rules, "_RULES", dict(rules._RULES))


class Penalized(layers.Dense):
    """Adds the mean square of what it gives, in its own call."""

    def call(self, inputs):
        outputs = keras.ops.matmul(inputs, self.kernel) + self.bias
        self.add_loss(keras.ops.mean(outputs**2))
        return outputs


def _of_its_call():
    register_quantize_rule(Penalized, Rule("compute", weights={"kernel": (-1,)}))
    return Penalized(3)


def _of_its_activity():
    return layers.Dense(3, activity_regularizer=keras.regularizers.L2(0.1))


def _losses(model, rows, way):
    def total(x):
        model(x)
        assert len(model.losses) == 1
        return model.losses[0] + 0.0

    if way == "eager":
        return float(total(tf.constant(rows)))
    return float(tf.function(total, jit_compile=way == "xla")(tf.constant(rows)))


@pytest.mark.parametrize("way", ["eager", "graph", "xla"])
@pytest.mark.parametrize("make", [_of_its_call, _of_its_activity])
def test_a_quantized_layer_keeps_the_loss_that_it_adds(make, way, rows):
    model = keras.Sequential([keras.Input((6,)), make()])
    exact = _losses(model, rows, "eager")
    quantize_model(model, calibration_data=rows)
    found = _losses(model, rows, way)
    assert found != exact
    np.testing.assert_allclose(found, exact, rtol=0.05)
