import keras
import numpy as np
import pytest
from keras import layers

from kopt.quantization import (
    Rule,
    quantization_report,
    quantize_model,
    register_quantize_rule,
)
from kopt.quantization import rule as rules
from kopt.quantization.rule import rule_for


@pytest.fixture(autouse=True)
def rules_as_before(monkeypatch):
    monkeypatch.setattr(rules, "_RULES", dict(rules._RULES))


class Matrix(layers.Layer):
    """Two matrices, one of which is to be quantized."""

    def build(self, shape):
        self.first = self.add_weight(shape=(shape[-1], 4), name="first")
        self.second = self.add_weight(shape=(4, 4), name="second")

    def call(self, inputs):
        return inputs @ self.first @ self.second


def test_a_registered_rule_quantizes_a_layer_of_ones_own(rows):
    register_quantize_rule(Matrix, Rule("compute", weights={"first": (-1,)}))
    model = keras.Sequential([keras.Input((6,)), Matrix()])
    exact = model(rows).numpy()
    quantize_model(model, calibration_data=rows)
    rounded = model(rows).numpy()
    assert 0 < np.abs(rounded - exact).max() < 0.05 * np.ptp(exact)
    (entry,) = quantization_report(model).layers
    assert [one.name for one in entry.weights] == ["first"]


def test_the_latest_rule_of_a_class_holds(rows):
    register_quantize_rule(Matrix, Rule("compute", weights={"first": (-1,)}))
    latest = Rule("compute", weights={"second": (-1,)})
    register_quantize_rule(Matrix, latest)
    assert rule_for(Matrix()) is latest


def test_a_rule_holds_for_a_subclass_that_keeps_the_call():
    class Named(layers.Dense):
        """Dense with another name."""

    assert rule_for(Named(2)) is rule_for(layers.Dense(2))


def test_a_rule_does_not_hold_for_a_subclass_with_a_call_of_its_own():
    class Squared(layers.Dense):
        def call(self, inputs, training=None):
            return super().call(inputs) ** 2

    assert rule_for(Squared(2)) is None


def test_a_layer_can_be_computed_in_another_way(rows):
    def twice(layer, inputs):
        half = layer.quantizer.rounded("half", inputs @ layer.first)
        return half @ layer.second

    register_quantize_rule(
        Matrix,
        Rule(
            "compute",
            weights={"first": (-1,), "second": (-1,)},
            compute=twice,
            inner=lambda layer, inputs: ("half",),
        ),
    )
    model = keras.Sequential([keras.Input((6,)), Matrix()])
    exact = model(rows).numpy()
    quantize_model(model, calibration_data=rows)
    half = model.layers[0].quantizer.ranges["half"]
    low = (rows @ model.layers[0].first.numpy()).min()
    assert float(half.low.numpy()) == pytest.approx(low, rel=0.02)
    rounded = model(rows).numpy()
    assert 0 < np.abs(rounded - exact).max() < 0.05 * np.ptp(exact)
    model.compile("adam", "mse")
    model.fit(rows, exact, verbose=0)


@pytest.mark.parametrize("wrong", ["Dense", layers.Dense(2), dict])
def test_what_is_no_layer_class_is_refused(wrong):
    with pytest.raises(TypeError, match=r"subclass of keras\.Layer"):
        register_quantize_rule(wrong, Rule("same"))


def test_what_is_no_rule_is_refused():
    with pytest.raises(TypeError, match=r"must be a kopt\.quantization\.Rule"):
        register_quantize_rule(Matrix, {"kernel": (-1,)})


def test_an_unknown_role_lists_those_there_are():
    with pytest.raises(ValueError, match="'batch_norm'"):
        Rule("convolution")


def test_weights_need_a_role_that_computes_with_them():
    with pytest.raises(ValueError, match="belong to the role 'compute', 'activation'"):
        Rule("same", weights={"kernel": (-1,)})


def test_inner_ranges_need_a_compute_that_uses_them():
    with pytest.raises(ValueError, match="there is no `compute`"):
        Rule("arithmetic", inner=lambda layer, inputs: ("half",))
