"""Canaries: these fail when Keras changes what kopt relies on."""

import keras
import numpy as np
import pytest

from kopt.quantization import _tracking


@pytest.fixture
def built():
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    return layer


def test_keras_still_locks_a_built_layer(built):
    with pytest.raises(ValueError, match="cannot add new elements of state"):
        built.extra = keras.layers.Dense(1)


def test_a_sublayer_added_later_is_counted_saved_and_restored(built, tmp_path):
    model = keras.Sequential([keras.Input((3,)), built])
    extra = keras.layers.Dense(1)
    extra.build((None, 1))
    _tracking.add_sublayer(built, "extra", extra)
    assert id(extra.kernel) in [id(one) for one in model.weights]
    extra.kernel.assign([[7.0]])
    model.save_weights(tmp_path / "all.weights.h5")
    extra.kernel.assign([[0.0]])
    model.load_weights(tmp_path / "all.weights.h5")
    assert extra.kernel.numpy() == 7.0


def test_the_lock_is_back_afterwards(built):
    _tracking.add_sublayer(built, "extra", keras.layers.Dense(1))
    with pytest.raises(ValueError, match="cannot add new elements of state"):
        built.another = keras.layers.Dense(1)


def test_a_removed_sublayer_leaves_nothing(built):
    weights = [id(one) for one in built.weights]
    extra = keras.layers.Dense(1)
    extra.build((None, 1))
    _tracking.add_sublayer(built, "extra", extra)
    _tracking.remove_sublayer(built, "extra")
    assert [id(one) for one in built.weights] == weights
    assert not hasattr(built, "extra")
    assert _tracking.sublayers(built) == []


def test_sublayers_are_found_at_any_depth():
    inner = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="deep")])
    outer = keras.Sequential([keras.Input((3,)), inner])
    attention = keras.layers.MultiHeadAttention(1, 2)
    attention.build((None, 2, 3), (None, 2, 3))
    assert "deep" in [one.name for one in _tracking.sublayers(outer)]
    assert "query" in [one.name for one in _tracking.sublayers(attention)]
    assert "deep" not in [one.name for one in _tracking.own_layers(outer)]


def test_symbolic_inputs_have_the_structure_of_the_call():
    a, b = keras.Input((2,), name="a"), keras.Input((3,), name="b")
    joined = keras.layers.Concatenate()([a, b])
    as_dict = keras.Model({"b": b, "a": a}, joined)
    assert set(_tracking.symbolic_inputs(as_dict)) == {"a", "b"}
    assert len(_tracking.symbolic_inputs(keras.Model([a, b], joined))) == 2
    single = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    assert _tracking.symbolic_inputs(single).shape == (None, 2)


def test_a_subclassed_model_has_no_symbolic_inputs():
    class Plain(keras.Model):
        def call(self, inputs):
            return inputs

    model = Plain()
    model(np.ones((1, 2)))
    assert _tracking.symbolic_inputs(model) is None
