"""Models that went through several verbs, in any order, load as they were saved."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers

import kopt

X = np.random.default_rng(0).normal(size=(32, 6, 6, 2)).astype("float32")
VERBS = {
    "prune": lambda model: kopt.pruning.prune_low_magnitude(
        model, kopt.pruning.OneShot(0.5)
    ),
    "cluster": lambda model: kopt.clustering.cluster_weights(model, 4),
    "quantize": lambda model: kopt.quantization.quantize_model(
        model, calibration_data=X
    ),
    "sharpen": kopt.sharpness_aware,
}
ORDERS = list(itertools.permutations(VERBS, 3))
# What comes last is saved first: each of two that were put on a quantized model.
QUICK = [("prune", "quantize", "cluster"), ("cluster", "quantize", "prune")]


@keras.saving.register_keras_serializable("kopt-tests")
class ByHand(keras.Model):
    """A model written as a class."""

    def __init__(self, **options):
        super().__init__(**options)
        self.convolution = layers.Conv2D(4, 3, activation="relu")
        self.pool = layers.GlobalAveragePooling2D()
        self.scores = layers.Dense(3)

    def call(self, x):
        return self.scores(self.pool(self.convolution(x)))


def by_hand():
    model = ByHand()
    model(X)
    return model


def functional():
    model = ByHand()
    inputs = keras.Input(X.shape[1:])
    return keras.Model(inputs, model.call(inputs))


def carried(model):
    return (
        hasattr(model, "kopt_clustering"),
        kopt.pruning.sparsity_report(model).sparsity,
        kopt.quantization.is_quantized(model),
    )


@pytest.mark.parametrize(
    "verbs",
    [
        one if one in QUICK else pytest.param(one, marks=pytest.mark.slow)
        for one in ORDERS
    ],
    ids="-".join,
)
@pytest.mark.parametrize("make", [functional, by_hand])
def test_a_model_that_went_through_verbs_loads_as_it_was(make, verbs, tmp_path):
    keras.utils.set_random_seed(0)
    model = make()
    for verb in verbs:
        VERBS[verb](model)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again).__mro__ == type(model).__mro__
    assert carried(again) == carried(model)
    np.testing.assert_array_equal(
        again.predict(X, verbose=0), model.predict(X, verbose=0)
    )


def test_what_was_put_on_one_model_changes_nothing_for_others(tmp_path):
    for verbs in QUICK:
        model = by_hand()
        for verb in verbs:
            VERBS[verb](model)
    for verb in VERBS:
        plain = functional()
        VERBS[verb](plain)
        plain.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        assert carried(again) == carried(plain)
