"""What every pruning schedule has to do, whichever it is."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from kopt import _registry
from kopt.pruning._schedule import PruningSchedule
from tests.reference import pruning as reference

SCHEDULES = [
    entry
    for name in _registry.names("pruning")
    if inspect.isclass(entry := _registry.entry("pruning", name))
    and issubclass(entry, PruningSchedule)
]
pytestmark = pytest.mark.parametrize("schedule_class", SCHEDULES)


def make(schedule_class, **changes):
    """A schedule with every sparsity it takes between 0 and 1."""
    steps = dict(begin_step=3, end_step=40, frequency=7, step=3)
    parameters = inspect.signature(schedule_class).parameters
    arguments = {name: steps[name] for name in steps if name in parameters}
    for name in parameters:
        if name.endswith("sparsity"):
            arguments[name] = 0.9 if name.startswith("final") else 0.25
    return schedule_class(**{**arguments, **changes})


def test_renews_at_begin_and_every_frequency_steps_until_end(schedule_class):
    schedule = make(schedule_class)
    for step in range(60):
        expected = reference.is_due(
            step, 3, schedule.end_step, frequency=schedule.frequency
        )
        assert bool(schedule(step)[0]) == expected


def test_sparsity_is_a_float32_below_one_at_every_step(schedule_class):
    schedule = make(schedule_class)
    for step in range(60):
        sparsity = keras.ops.convert_to_tensor(schedule(step)[1])
        assert sparsity.dtype == "float32"
        assert 0 <= float(sparsity) < 1


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_graph_gives_the_same_as_python(schedule_class, jit_compile):
    schedule = make(schedule_class)
    step = keras.Variable(0, dtype="int64", trainable=False)
    traced = tf.function(lambda: schedule(step.value), jit_compile=jit_compile)
    for number in (0, 3, 10, 39, 40, 50):
        step.assign(number)
        due, sparsity = traced()
        assert bool(due) == bool(schedule(number)[0])
        np.testing.assert_allclose(sparsity, schedule(number)[1], rtol=1e-6)


def test_comes_back_from_its_config_the_same(schedule_class):
    schedule = make(schedule_class)
    stored = keras.saving.serialize_keras_object(schedule)
    again = keras.saving.deserialize_keras_object(stored)
    assert type(again) is schedule_class
    assert again.get_config() == schedule.get_config()
    assert set(again.get_config()) == set(inspect.signature(schedule_class).parameters)


@pytest.mark.parametrize("value", [1.0, 1.5, -0.1, float("nan"), "0.5", True])
def test_a_sparsity_outside_zero_to_one_is_refused(schedule_class, value):
    for name in inspect.signature(schedule_class).parameters:
        if name.endswith("sparsity"):
            with pytest.raises((ValueError, TypeError), match=f"`{name}` must be"):
                make(schedule_class, **{name: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(begin_step=41), "`end_step` must be a whole number of at least 41"),
        (dict(begin_step=-1), "`begin_step` must be"),
        (dict(end_step=-2), "`end_step` must be"),
        (dict(frequency=0), "`frequency` must be"),
        (dict(step=0), "`step` must be"),
    ],
)
def test_steps_that_make_no_sense_are_refused(schedule_class, changes, message):
    if not set(changes) <= set(inspect.signature(schedule_class).parameters):
        return
    with pytest.raises(ValueError, match=message):
        make(schedule_class, **changes)
