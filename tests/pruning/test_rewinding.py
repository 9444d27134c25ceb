import keras
import numpy as np
import pytest

from kopt import pruning
from kopt.pruning import prune_low_magnitude, rewind
from tests.pruning.nets import at_once, layers, mlp, sparsities, train


def trained(**arguments):
    """A pruned model that was trained, and its weights from before."""
    model = mlp()
    early = model.get_weights()
    model.compile(keras.optimizers.SGD(0.2), "mse")
    prune_low_magnitude(train(model), at_once(), **arguments)
    return train(model), early


def test_the_masks_stay_and_the_weights_are_the_early_ones():
    model, early = trained()
    zeros = [weight == 0 for weight in model.get_weights()]
    assert rewind(model, early) is model
    for weight, old, zero in zip(model.get_weights(), early, zeros, strict=True):
        if weight.ndim == 2:
            np.testing.assert_array_equal(weight, np.where(zero, 0, old))
        else:
            np.testing.assert_array_equal(weight, old)


def test_training_goes_on_with_the_masks():
    model, early = trained()
    zeros = [weight == 0 for weight in model.get_weights()[::2]]
    train(rewind(model, early))
    for weight, zero in zip(model.get_weights()[::2], zeros, strict=True):
        np.testing.assert_array_equal(weight == 0, zero)


def test_scores_begin_anew():
    model = mlp()
    early = model.get_weights()
    schedule = pruning.OneShot(0.5, step=4)
    prune_low_magnitude(model, schedule, criterion="movement")
    model.compile(keras.optimizers.SGD(0.2), "mse")
    rewind(train(model), early)
    for member, old in zip(model.kopt_pruning.members, early[::2], strict=True):
        assert not member.memory["score"].numpy().any()
        np.testing.assert_array_equal(member.memory["weights"].numpy(), old)
    assert sparsities(model) == [0.5, 0.5]


def test_a_pruned_model_inside_another_is_found():
    inner, _ = trained()
    model = keras.Sequential([keras.Input((6,)), inner, layers.Dense(1)])
    rewind(model, [np.ones_like(weight) for weight in model.get_weights()])
    assert sparsities(model) == [0.5, 0.5]


def test_a_model_that_is_not_pruned_is_refused():
    model = mlp()
    with pytest.raises(ValueError, match="not pruned, so there are no masks"):
        rewind(model, model.get_weights())


def test_weights_of_another_model_are_refused_and_nothing_changes():
    model, early = trained()
    before = model.get_weights()
    with pytest.raises(ValueError, match="the model's are"):
        rewind(model, early[:-1])
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)
