import keras
import numpy as np
import pytest
import tensorflow as tf

from kopt.optimizers._fingerprints import Fingerprints

SHAPES = [(), (5,), (0, 3), (7, 5), (300, 40), (3, 3, 64, 512), (2000,), (2, 5000)]


def made(shapes, **options):
    variables = [keras.Variable(np.random.normal(size=s)) for s in shapes]
    count = tf.Variable(3)
    return Fingerprints(variables, lambda: count, **options), variables, count


def test_nothing_is_known_before_it_was_noted():
    prints, variables, _ = made(SHAPES)
    variables[3].assign(np.zeros((7, 5)))
    assert not np.any(prints.changed())


@pytest.mark.parametrize("place", [i for i, s in enumerate(SHAPES) if np.prod(s)])
def test_a_variable_that_was_set_is_noticed_and_no_other(place):
    prints, variables, _ = made(SHAPES)
    prints.note()
    variables[place].assign(np.random.normal(size=SHAPES[place]))
    np.testing.assert_array_equal(prints.changed(), np.arange(len(SHAPES)) == place)
    prints.note()
    assert not np.any(prints.changed())


@pytest.mark.parametrize(
    "shape", [(200, 30), (30, 200), (100, 100), (3, 3, 16, 64), (3000, 8), (8, 3000)]
)
@pytest.mark.parametrize("axis", [0, 1])
def test_one_unit_or_one_input_that_was_set_is_noticed(shape, axis):
    # Any row and any column, where neither are more than can be noted.
    rows, columns = int(np.prod(shape[:-1])), shape[-1]
    prints, (variable,), _ = made([shape])
    matrix = variable.numpy().reshape(rows, columns)
    for place in range(0, (rows, columns)[axis], 7 if max(rows, columns) < 300 else 97):
        prints.note()
        matrix[(slice(None), place) if axis else place] += 1
        variable.assign(matrix.reshape(shape))
        assert np.all(prints.changed()), place


def test_the_smallest_change_is_noticed_unless_there_is_a_tolerance():
    for tolerance, noticed in ((0.0, True), (1e-3, False)):
        prints, (variable,), _ = made([(50,)], tolerance=tolerance)
        prints.note()
        variable.assign(np.nextafter(variable.numpy(), np.float32(9)))
        assert bool(prints.changed()[0]) == noticed
        variable.assign(variable * 0.5)
        assert prints.changed()[0]


def test_weights_that_are_no_numbers_are_not_foreign():
    prints, (variable,), _ = made([(4,)])
    variable.assign(np.full(4, np.nan))
    prints.note()
    assert not prints.changed()[0]


def test_a_state_that_was_restored_is_known_by_the_count_of_updates():
    prints, (variable,), count = made([(4,)])
    prints.note()
    variable.assign(np.zeros(4))
    count.assign(9)
    assert not prints.changed()[0]
    # A counter that was set back by hand says nothing about the weights.
    count.assign(0)
    assert prints.changed()[0]
