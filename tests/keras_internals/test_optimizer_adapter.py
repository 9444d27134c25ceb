"""Canaries: the private names of Keras that optimizers rely on."""

import keras
import pytest

import kopt
from kopt._keras.optimizer_adapter import variables_of

BASE = keras.optimizers.Optimizer


@pytest.mark.parametrize(
    "method",
    [
        "_check_variables_are_known",
        "_filter_empty_gradients",
        "_get_current_learning_rate",
        "_get_variable_index",
        "_overwrite_variable_with_gradient",
        "_overwrite_variables_directly_with_gradients",
        "_var_key",
    ],
)
def test_keras_still_has_the_method(method):
    assert callable(getattr(BASE, method))


@pytest.mark.parametrize(
    "attribute",
    [
        "_iterations",
        "_learning_rate",
        "_trainable_variables",
        "_trainable_variables_indices",
        "_distribution_strategy",
        "_variables",
    ],
)
def test_keras_still_sets_the_attribute(attribute):
    assert hasattr(keras.optimizers.SGD(), attribute)


@pytest.mark.parametrize(
    "attribute", ["_model_variables_moving_average", "_accumulated_gradients"]
)
def test_keras_still_keeps_these_lists_when_built(attribute):
    optimizer = keras.optimizers.SGD(use_ema=True, gradient_accumulation_steps=2)
    optimizer.build([keras.Variable([1.0])])
    assert len(getattr(optimizer, attribute)) == 1


@pytest.mark.parametrize("kind", [keras.optimizers.Adam, kopt.Adam])
def test_a_built_optimizer_tells_the_weights_that_it_keeps_state_for(kind):
    weights, optimizer = [keras.Variable([1.0]), keras.Variable([2.0])], kind()
    optimizer.build(weights)
    assert [id(one) for one in variables_of(optimizer)] == [id(one) for one in weights]
