import keras
import numpy as np
import pytest

from kopt.pruning import ConstantSparsity, prune_low_magnitude, strip_pruning
from tests.pruning.nets import at_once, data, growing, layers, mlp, train


def test_the_zeros_stay_and_the_masks_go():
    model = prune_low_magnitude(mlp(), at_once())
    zeros = [variable.numpy() == 0 for variable in model.weights]
    assert strip_pruning(model) is model
    for variable, before in zip(model.weights, zeros, strict=True):
        np.testing.assert_array_equal(variable.numpy() == 0, before)
        assert variable.constraint is None


def test_the_model_has_its_own_class_again():
    model = strip_pruning(prune_low_magnitude(mlp(), at_once()))
    assert type(model) is keras.Sequential
    assert not hasattr(model, "kopt_pruning")


def test_an_earlier_constraint_comes_back():
    model = mlp("non_neg")
    constraint = model.layers[0].kernel.constraint
    strip_pruning(prune_low_magnitude(model, at_once()))
    assert model.layers[0].kernel.constraint is constraint


def test_weights_that_were_filled_since_are_masked_once_more():
    model = prune_low_magnitude(mlp(), at_once())
    zeros = model.layers[0].kernel.numpy() == 0
    model.layers[0].kernel.assign(np.ones((6, 16)))
    with pytest.warns(UserWarning, match="Weights from before they were pruned"):
        kernel = strip_pruning(model).layers[0].kernel.numpy()
    np.testing.assert_array_equal(kernel == 0, zeros)


def test_training_fills_the_zeros_again():
    model = prune_low_magnitude(mlp(), at_once())
    model.compile("sgd", "mse")
    train(model, epochs=1)
    train(strip_pruning(model), epochs=1)
    assert np.all(model.layers[0].kernel.numpy() != 0)


def test_a_pruned_model_inside_another_is_stripped_too():
    inner = prune_low_magnitude(mlp(), at_once())
    outer = keras.Sequential([keras.Input((6,)), inner, layers.Dense(2)])
    strip_pruning(outer)
    assert type(inner) is keras.Sequential


def test_a_model_that_is_not_pruned_comes_back_as_it_is():
    model = mlp()
    weights = model.get_weights()
    assert strip_pruning(model) is model
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_it_can_be_pruned_again():
    model = prune_low_magnitude(
        strip_pruning(prune_low_magnitude(mlp(), at_once())), at_once(0.75)
    )
    assert np.mean(model.layers[0].kernel.numpy() == 0) == 0.75


def test_stripping_before_the_schedules_end_is_said_with_both_sparsities():
    model = prune_low_magnitude(mlp(), growing(final=0.8, end_step=9))
    model.compile("sgd", "mse")
    train(model, epochs=1)
    with pytest.warns(UserWarning, match="80% .* step 9, and the next step is 7"):
        strip_pruning(model)


def test_stripping_a_model_in_which_nothing_was_pruned_is_said():
    model = prune_low_magnitude(mlp(), ConstantSparsity(0.5, begin_step=10))
    model.compile("sgd", "mse")
    model.train_on_batch(*data())
    with pytest.warns(UserWarning, match="Nothing is pruned yet"):
        strip_pruning(model)


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match="must be a Keras 3 model"):
        strip_pruning(layers.Dense(2))
