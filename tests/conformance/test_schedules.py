"""What holds for every schedule in the registry.

The cases are the short schedules that each class gives by `examples()`; the expected
values come from `tests/reference/schedules.py`.
"""

import copy
import inspect
import json

import keras
import matplotlib.pyplot as pyplot
import numpy as np
import pytest
import tensorflow as tf

import kopt
from kopt import _registry
from tests.reference import schedules as reference

ENTRIES = [_registry.entry("schedules", name) for name in _registry.names("schedules")]
SCHEDULES = [entry for entry in ENTRIES if inspect.isclass(entry)]
EXAMPLES = [example for schedule in SCHEDULES for example in schedule.examples()]
each_class = pytest.mark.parametrize("schedule", SCHEDULES)
each = pytest.mark.parametrize("schedule", EXAMPLES, ids=repr)


def run_length(schedule):
    """Steps in which everything that the schedule does has happened."""
    return (schedule.duration or 100) + 10


def expected(schedule, steps):
    return np.array([reference.value(schedule, step) for step in steps])


def assert_close(actual, wanted, schedule):
    np.testing.assert_allclose(actual, wanted, rtol=1e-6, atol=1e-9 * schedule.peak)


def through_json(config):
    return json.loads(json.dumps(config))


@each_class
def test_it_gives_examples_of_its_own_class(schedule):
    assert schedule.examples()
    assert all(type(example) is schedule for example in schedule.examples())


@each
def test_it_has_the_values_of_its_definition(schedule):
    steps = [*range(0, run_length(schedule), 4), 10**6]
    values = [float(schedule(step)) for step in steps]
    assert_close(values, expected(schedule, steps), schedule)


@each
@pytest.mark.parametrize("jit_compile", [False, True])
def test_it_compiles_to_the_same_values(schedule, jit_compile):
    compiled = tf.function(schedule, jit_compile=jit_compile)
    steps = range(0, run_length(schedule), 7)
    values = [compiled(tf.constant(step, "int64")).numpy() for step in steps]
    assert_close(values, expected(schedule, steps), schedule)


@each
def test_its_graph_has_no_branches(schedule):
    signature = tf.TensorSpec((), "int64")
    graph = tf.function(schedule).get_concrete_function(signature).graph
    kinds = {operation.type for operation in graph.get_operations()}
    assert not kinds & {"If", "StatelessIf", "While", "StatelessWhile"}


@each_class
@pytest.mark.parametrize(
    "kind",
    [int, float, np.int64, np.float32, tf.constant, keras.Variable],
    ids=lambda kind: kind.__name__,
)
def test_it_takes_a_step_of_any_kind(schedule, kind):
    schedule = schedule.examples()[0]
    value = schedule(kind(3))
    assert value.dtype == "float32" and value.shape == ()
    assert float(value) == float(schedule(3))


@each
def test_it_takes_the_counter_of_an_optimizer(schedule):
    counter = keras.Variable(5, dtype="int64", trainable=False)
    assert float(schedule(counter)) == float(schedule(5))


@each
def test_it_takes_many_steps_at_once(schedule):
    steps = [*range(run_length(schedule)), 10**6]
    values = schedule(np.array(steps))
    assert values.dtype == "float32"
    assert_close(values, expected(schedule, steps), schedule)


@each
def test_it_stays_between_zero_and_its_peak(schedule):
    values = np.asarray(schedule(np.arange(run_length(schedule))))
    assert values.min() >= 0
    assert values.max() <= schedule.peak * (1 + 1e-6)
    assert isinstance(schedule.peak, float)


@each_class
def test_one_of_its_examples_reaches_its_peak(schedule):
    ratios = [
        np.asarray(example(np.arange(run_length(example)))).max() / example.peak
        for example in schedule.examples()
        if example.peak
    ]
    np.testing.assert_allclose(max(ratios), 1.0, rtol=1e-6)


@each
def test_it_is_continuous_where_it_says_so(schedule):
    def widest_jump(parts):
        steps = np.linspace(0, run_length(schedule), parts * run_length(schedule) + 1)
        return abs(np.diff(np.asarray(schedule(steps), "float64"))).max()

    # Steps a 16th as long make jumps at most a quarter as high (where the curve begins
    # like a square root), unless it has gaps.
    assert (widest_jump(64) <= widest_jump(4) / 3) == schedule.continuous


@each
def test_it_holds_its_last_value(schedule):
    if schedule.duration is None:
        assert np.ptp(np.asarray(schedule(np.arange(100, 300)))) > 0
        return
    end = float(schedule(schedule.duration))
    wanted = reference.value(schedule, schedule.duration)
    assert end == wanted if wanted == 0 else end == pytest.approx(wanted, rel=1e-6)
    for later in (1, 1000, 10**9):
        assert float(schedule(schedule.duration + later)) == end


@each
def test_its_configuration_makes_the_same_schedule(schedule):
    config = through_json(keras.optimizers.schedules.serialize(schedule))
    copied = keras.optimizers.schedules.deserialize(config)
    assert type(copied) is type(schedule)
    assert repr(copied) == repr(schedule)
    steps = np.arange(run_length(schedule))
    np.testing.assert_array_equal(copied(steps), schedule(steps))


@each_class
def test_each_argument_is_an_attribute_and_in_the_configuration(schedule):
    example = schedule.examples()[0]
    arguments = set(inspect.signature(schedule).parameters)
    assert set(example.get_config()) == arguments
    assert arguments <= set(vars(example))


@each
def test_it_can_be_deep_copied(schedule):
    assert repr(copy.deepcopy(schedule)) == repr(schedule)


@each
def test_binding_leaves_numbers_of_steps_alone(schedule):
    assert schedule.bound
    assert repr(schedule.bind(10_000)) == repr(schedule)


def fraction_for(schedule, name, last):
    """The first example with a length, or with the last of several, as a fraction."""
    example = schedule.examples()[0]
    value = getattr(example, name)
    if isinstance(value, tuple):
        last = [float(part) for part in np.linspace(0, last, len(value) + 1)[1:]]
    return schedule.from_config({**example.get_config(), name: last})


def last_of(schedule, name):
    value = getattr(schedule, name)
    return value[-1] if isinstance(value, tuple) else value


@each_class
def test_it_counts_in_fractions_of_a_run_once_bound(schedule):
    for name in schedule.lengths:
        fraction = fraction_for(schedule, name, 0.5)
        assert not fraction.bound and fraction.duration is None
        with pytest.raises(ValueError, match=r"FitSchedule.*bind\(total_steps\)"):
            fraction(0)
        bound = fraction.bind(1000)
        assert bound.bound and last_of(bound, name) == 500
        assert last_of(fraction, name) == 0.5
        assert fraction.peak == bound.peak


@each_class
@pytest.mark.parametrize("total_steps", [1, 2, 3])
def test_a_very_short_run_has_values_too(schedule, total_steps):
    for name in schedule.lengths:
        bound = fraction_for(schedule, name, 1.0).bind(total_steps)
        values = np.asarray(bound(np.arange(total_steps + 1)))
        assert np.isfinite(values).all() and values.min() >= 0


@each_class
def test_fractions_survive_saving(schedule):
    # 1.0 is the whole run and 1 a single step, so the float must stay one.
    for name in schedule.lengths:
        fraction = fraction_for(schedule, name, 1.0)
        copied = schedule.from_config(through_json(fraction.get_config()))
        assert isinstance(last_of(copied, name), float)


@each
def test_its_table_has_the_values_of_the_run(schedule):
    steps = run_length(schedule)
    head, *rows = schedule.table(steps, rows=6).splitlines()
    assert head.split() == ["step", "of", "the", "run", "value"]
    assert rows[-1].split()[:2] == [str(steps), "100%"]
    shown = [(int(row.split()[0]), float(row.split()[2])) for row in rows]
    for step, value in shown:
        np.testing.assert_allclose(value, reference.value(schedule, step), rtol=1e-5)


@each
def test_it_draws_itself(schedule):
    ax = schedule.plot(run_length(schedule))
    (line,) = ax.lines
    steps, values = line.get_data()
    assert (steps[0], steps[-1]) == (0, run_length(schedule))
    assert_close(values, expected(schedule, steps), schedule)
    pyplot.close(ax.figure)


@each_class
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("optimizer", [keras.optimizers.SGD, kopt.SGD])
def test_it_drives_an_optimizer(schedule, optimizer, jit_compile):
    schedule = schedule.examples()[-1]
    weight = keras.Variable(0.0)
    sgd = optimizer(learning_rate=schedule)
    sgd.build([weight])

    @tf.function(jit_compile=jit_compile)
    def step():
        sgd.apply([tf.constant(-1.0)], [weight])

    steps = 12
    for _ in range(steps):
        step()
    assert step.experimental_get_tracing_count() == 1
    total = expected(schedule, range(steps)).sum()
    np.testing.assert_allclose(weight.numpy(), total, rtol=1e-5)


def small_model(optimizer):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(optimizer, loss="mse", run_eagerly=True)
    return model


@each_class
def test_a_saved_model_goes_on_along_the_schedule(schedule, tmp_path):
    example = schedule.examples()[-1]
    x = np.random.default_rng(0).normal(size=(24, 3)).astype("float32")
    y = x @ np.ones((3, 2), "float32")
    model = small_model(keras.optimizers.Adam(learning_rate=example))
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.learning_rate == np.float32(example(6))
    for half in (model, loaded):
        half.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    for weight, same in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(weight.numpy(), same.numpy())
