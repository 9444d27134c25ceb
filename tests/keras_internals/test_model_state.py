"""Canaries: what a pass through a model reads and moves."""

import keras
import numpy as np

from kopt._keras.model_state import make_unseeded_generator, other_variables
from tests.sharpness.nets import mlp


def test_seeds_and_statistics_are_among_the_other_variables():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
        ]
    )
    found = {id(v) for v in other_variables(model)}
    normal, dropout = model.layers
    expected = [normal.moving_mean, normal.moving_variance]
    assert found >= {id(v) for v in [*expected, dropout.seed_generator.state]}


def test_unseeded_random_numbers_move_one_of_them():
    make_unseeded_generator()
    *_, unseeded = other_variables(mlp())
    before = unseeded.numpy()
    keras.random.uniform((1,))
    assert np.any(unseeded.numpy() != before)
