"""Tensors of very different size that are put on one range."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from kopt.quantization import calibrate, quantization_report, quantize_model


def joined(rows, join, factor=100.0, **options):
    """A quantized model that joins a tensor with one of another size."""
    keras.utils.set_random_seed(0)
    x = keras.Input((6,))
    small = layers.Dense(4, name="small")(x)
    large = layers.Rescaling(factor, name="large")(layers.Dense(4)(x))
    model = keras.Model(x, layers.Dense(3)(join([small, large])))
    return quantize_model(model, calibration_data=rows, **options)


JOINS = {
    "concatenate": lambda tensors: layers.Concatenate(name="join")(tensors),
    "maximum": lambda tensors: layers.Maximum(name="join")(tensors),
    "operation": lambda tensors: ops.concatenate(tensors, -1),
}


@pytest.mark.parametrize("kind", JOINS)
def test_a_branch_with_few_steps_left_is_said_once(kind, rows):
    with pytest.warns(UserWarning, match=r"bits for input 0, \[") as caught:
        model = joined(rows, JOINS[kind])
    said = [str(one.message) for one in caught if "different size" in str(one.message)]
    assert len(said) == 1 and "sensitivity" in said[0]
    with pytest.warns(UserWarning, match="bits for input 0"):
        calibrate(model, rows)


def test_the_report_says_so_too(rows):
    with pytest.warns(UserWarning):
        model = joined(rows, JOINS["maximum"])
    assert "bits for input 0" in quantization_report(model, rows)["join"].note
    assert quantization_report(model)["join"].note == ""


@pytest.mark.parametrize("factor", [0.1, 1.0, 10.0])
def test_branches_of_about_one_size_are_fine(factor, rows):
    model = joined(rows, JOINS["concatenate"], factor)
    assert quantization_report(model, rows)["join"].note == ""


def test_a_branch_that_is_constant_has_nothing_to_lose(rows):
    x = keras.Input((6,))
    large = layers.Rescaling(1000.0)(layers.Dense(4)(x))
    silent = layers.Dense(4, kernel_initializer="zeros", activation="relu")(x)
    still = layers.Dense(4, kernel_initializer="zeros", bias_initializer="ones")(x)
    model = keras.Model(x, layers.Concatenate()([large, silent, still]))
    quantize_model(model, calibration_data=rows)


def test_nothing_is_watched_afterwards(rows):
    model = joined(rows, JOINS["concatenate"], 1.0)
    assert model.get_layer("join").quantizer.branches is None
    np.testing.assert_array_equal(model(rows), model(rows))
