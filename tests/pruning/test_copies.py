"""Every way to copy a pruned model keeps its zeros, or gives a plain model."""

import copy
import pickle

import keras
import numpy as np
import pytest

from kopt import pruning
from kopt.pruning import prune_low_magnitude
from tests.pruning.nets import at_once, growing, mlp, sparsities, steps, train
from tests.pruning.test_saving import same_weights, subclassed
from tests.sampling import sampled


def compiled(model):
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model


def from_config(model):
    return type(model).from_config(model.get_config())


def from_json(model):
    return keras.models.model_from_json(model.to_json())


def nested():
    return keras.Sequential([keras.Input((6,)), prune_low_magnitude(mlp(), at_once())])


CASES = [
    (lambda: prune_low_magnitude(mlp(), at_once()), from_config),
    (lambda: prune_low_magnitude(mlp(), at_once()), from_json),
    (lambda: prune_low_magnitude(mlp(), at_once(), scope="global"), from_config),
    (lambda: prune_low_magnitude(mlp(), at_once(), structure="filters"), from_config),
    (lambda: prune_low_magnitude(mlp(), at_once(), block_size=(2, 1)), from_config),
    (lambda: prune_low_magnitude(mlp(), sparsity_m_by_n=(2, 4)), from_config),
    (lambda: prune_low_magnitude(subclassed(), at_once()), keras.models.clone_model),
    (nested, keras.models.clone_model),
    (nested, from_json),
]


@pytest.mark.parametrize(
    ("build", "copied"), sampled(CASES, CASES[:2], pytest.mark.slow)
)
def test_a_copy_with_the_weights_of_the_model_trains_with_its_zeros(build, copied):
    model = train(compiled(build()), epochs=1)
    again = copied(model)
    if not again.built:
        again.build((None, 6))
    again.set_weights(model.get_weights())
    expected = [weight == 0 for weight in model.get_weights()]
    train(compiled(again), epochs=1)
    assert sparsities(again) == sparsities(model)
    for weight, zeros in zip(again.get_weights(), expected, strict=True):
        assert np.mean((weight == 0) == zeros) > 0.95


def test_a_copy_goes_on_in_the_schedule_where_the_model_stood():
    model = train(compiled(prune_low_magnitude(mlp(), growing(end_step=17))), epochs=1)
    again = from_config(model)
    again.set_weights(model.get_weights())
    assert steps(again) == steps(model) == [7, 7]
    same_weights(train(compiled(again), epochs=2), train(compiled(model), epochs=2))


def test_a_file_of_a_copy_has_the_masks_of_the_weights_that_it_was_given(tmp_path):
    model = train(compiled(prune_low_magnitude(mlp(), at_once())), epochs=1)
    again = from_config(model)
    again.set_weights(model.get_weights())
    again.save(tmp_path / "m.keras")
    same_weights(keras.saving.load_model(tmp_path / "m.keras"), model)
    same_weights(pruning.strip_pruning(again), model)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))]
)
@pytest.mark.parametrize("build", sampled([mlp, subclassed], [mlp], pytest.mark.slow))
def test_a_deep_copy_or_pickle_trains_on_bit_for_bit(build, copied):
    model = train(compiled(prune_low_magnitude(build(), growing(end_step=17))), 1)
    again = copied(model)
    assert type(again) is type(model)
    same_weights(train(again, epochs=1), train(model, epochs=1))
