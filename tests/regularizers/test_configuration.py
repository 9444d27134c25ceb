"""Penalties survive what rebuilds a model from its configuration."""

import keras
import numpy as np
import pytest

from kopt import pruning
from kopt.regularizers import L1, L2, apply
from tests.sampling import sampled

layers = keras.layers


def functional(layer, shape=(5, 8), twice=False):
    x = keras.Input(shape)
    return keras.Model(x, layer(x, x) if twice else layer(x))


def nested(layer):
    x = keras.Input((5, 8))
    inner = functional(layer, twice=True)
    return keras.Model(x, inner(x))


def lstm():
    return layers.LSTM(3)


@keras.saving.register_keras_serializable("tests")
class Block(layers.Layer):
    """Makes a layer of its own, which its configuration does not tell of."""

    def __init__(self, **options):
        super().__init__(**options)
        self.dense = layers.Dense(3)

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        return self.dense(x)


MODELS = {
    "Dense": lambda: functional(layers.Dense(2)),
    "EinsumDense": lambda: functional(layers.EinsumDense("abc,cd->abd", (5, 2))),
    "SeparableConv1D": lambda: functional(layers.SeparableConv1D(2, 2)),
    "DepthwiseConv1D": lambda: functional(layers.DepthwiseConv1D(2)),
    "MultiHeadAttention": lambda: functional(
        layers.MultiHeadAttention(2, 4), (5, 8), True
    ),
    "GroupQueryAttention": lambda: functional(
        layers.GroupQueryAttention(4, 4, 2), (5, 8), True
    ),
    "a nested attention": lambda: nested(layers.MultiHeadAttention(2, 4)),
    "LSTM": lambda: functional(lstm()),
    "Bidirectional": lambda: functional(layers.Bidirectional(lstm())),
    "a row of cells": lambda: functional(
        layers.RNN([layers.GRUCell(3), layers.LSTMCell(2)])
    ),
    "TimeDistributed": lambda: functional(layers.TimeDistributed(layers.Dense(2))),
    "a layer of one's own": lambda: functional(Block()),
    "a sequence": lambda: keras.Sequential(
        [keras.Input((5, 8)), layers.Dense(4), layers.Bidirectional(lstm())]
    ),
}


def rebuilt(model, tmp_path):
    yield "clone_model", keras.models.clone_model(model)
    yield "from_config", type(model).from_config(model.get_config())
    model.save(tmp_path / "model.keras")
    yield "save", keras.saving.load_model(tmp_path / "model.keras")


def penalties(model):
    return [getattr(weight.regularizer, "l2", None) for weight in model.weights]


@pytest.mark.parametrize(
    "name", sampled(MODELS, ["Dense", "MultiHeadAttention", "LSTM"], pytest.mark.slow)
)
def test_penalties_survive_whatever_rebuilds_a_model(name, tmp_path):
    model = apply(MODELS[name](), {layers.Layer: L2(0.5)})
    wanted = penalties(model)
    assert 0.5 in wanted
    for way, other in rebuilt(model, tmp_path):
        assert penalties(other) == wanted, way
        assert len(other.losses) == len(model.losses), way
        for again, twice in rebuilt(other, tmp_path):
            assert penalties(twice) == wanted, (way, again)


def test_a_penalty_on_one_projection_of_an_attention_survives(tmp_path):
    model = functional(layers.MultiHeadAttention(2, 4), (5, 8), True)
    apply(model, {"query": L2(0.5)})
    wanted = penalties(model)
    assert wanted.count(0.5) == 1
    for way, other in rebuilt(model, tmp_path):
        assert penalties(other) == wanted, way


def test_an_attention_that_gets_one_penalty_keeps_its_class():
    model = functional(layers.MultiHeadAttention(2, 4), (5, 8), True)
    kind = type(model)
    apply(model, {"multi_head": L2(0.5)})
    assert type(model) is kind
    attention = model.layers[-1]
    assert attention.get_config()["kernel_regularizer"]["config"]["l2"] == 0.5


def test_a_penalty_that_was_taken_off_one_projection_does_not_come_back(tmp_path):
    attention = layers.MultiHeadAttention(2, 4, kernel_regularizer=L2(0.5))
    model = functional(attention, (5, 8), True)
    apply(model, {"query": None})
    wanted = penalties(model)
    assert wanted.count(0.5) == 3
    for way, other in rebuilt(model, tmp_path):
        assert penalties(other) == wanted, way


def test_the_biases_of_an_attention_have_a_penalty_of_their_own(tmp_path):
    model = functional(layers.MultiHeadAttention(2, 4), (5, 8), True)
    apply(model, {"multi_head": L2(0.5)})
    apply(model, {"multi_head": L2(0.25)}, weights="bias")
    for way, other in rebuilt(model, tmp_path):
        assert sorted(penalties(other)) == [0.25] * 4 + [0.5] * 4, way


def test_a_model_inside_of_another_one_keeps_its_penalties_by_itself(tmp_path):
    model = nested(layers.MultiHeadAttention(2, 4))
    apply(model, {"query": L2(0.5)})
    inner = model.layers[-1]
    wanted = penalties(inner)
    assert wanted.count(0.5) == 1
    for way, other in rebuilt(inner, tmp_path):
        assert penalties(other) == wanted, way
    for way, other in rebuilt(model, tmp_path):
        assert penalties(other) == wanted, way


def test_a_clone_has_the_factors_of_now():
    model = functional(Block())
    penalty = L2(0.5)
    apply(model, {"block": penalty})
    penalty.l2 = 0.125
    assert 0.125 in penalties(keras.models.clone_model(model))


def test_a_model_of_the_same_class_with_other_weights_gets_a_warning():
    model = apply(functional(Block()), {"block": L2(0.5)})
    x = keras.Input((2,))
    with pytest.warns(UserWarning, match="call `apply` on it"):
        other = type(model)(x, layers.PReLU()(x))
    assert type(other) is not type(model)


def test_a_model_that_cannot_be_built_from_its_configuration_warns():
    @keras.saving.register_keras_serializable("tests")
    class Pair(keras.Model):
        def __init__(self, **options):
            super().__init__(**options)
            self.dense = layers.Dense(1)

        def call(self, inputs):
            return self.dense(inputs["a"] + inputs["b"])

    model = Pair()
    x = np.ones((2, 3), "float32")
    model({"a": x, "b": x})
    apply(model, {"dense": L1(0.5)})
    config = model.get_config()
    config["model"].pop("build_config", None)
    with pytest.warns(UserWarning, match="then `apply` again"):
        type(model).from_config(config)


def test_a_pruned_model_keeps_its_penalties_and_gives_its_class_back():
    model = apply(functional(Block()), {"block": L2(0.5)})
    kind = type(model)
    pruning.prune_low_magnitude(model, pruning.OneShot(0.5))
    assert 0.5 in penalties(keras.models.clone_model(model))
    pruning.strip_pruning(model)
    assert type(model) is kind
