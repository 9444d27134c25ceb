"""Canaries: models with something of kopt's on them are copied and saved whole."""

import copy
import pickle

import numpy as np
import pytest

import kopt
from tests.pruning.nets import mlp


def pruned():
    return kopt.pruning.prune_low_magnitude(mlp(), kopt.pruning.OneShot(0.5))


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))]
)
def test_a_copy_has_the_weights_and_the_masks(copied):
    model = pruned()
    twin = copied(model)
    for one, other in zip(model.weights, twin.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    masks = [weight.constraint is not None for weight in model.weights]
    assert any(masks)
    assert [weight.constraint is not None for weight in twin.weights] == masks


def test_an_h5_file_is_refused_before_it_is_touched(tmp_path):
    with pytest.raises(ValueError, match=r"cannot be saved as \.h5"):
        pruned().save(tmp_path / "model.h5")
    assert not (tmp_path / "model.h5").exists()


def test_an_h5_file_of_weights_is_written(tmp_path):
    pruned().save_weights(tmp_path / "model.weights.h5")
    assert (tmp_path / "model.weights.h5").exists()
