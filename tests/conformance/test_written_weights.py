"""What optimizers that keep copies of the weights do when others write or freeze them.

The laws hold for every wrapper of the registry, and for `use_ema`: at a learning rate
of zero the weights that were written are where the model stays, at both points.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from tests.conformance.test_wrappers import WRAPPERS
from tests.sampling import sampled

# None with a momentum that goes on by itself where the rate is zero.
MAKERS = {
    "WeightAverage": lambda: kopt.WeightAverage(kopt.SGD(0.1)),
    "an average from the third step on": lambda: kopt.WeightAverage(
        kopt.Adam(0.1), momentum=0.9, start=2, every=2
    ),
    "Lookahead": lambda: kopt.Lookahead(kopt.SGD(0.1), sync_period=3),
    "ScheduleFree": lambda: kopt.ScheduleFree(kopt.SGD(0.1)),
    "ScheduleFreeSGD": lambda: kopt.ScheduleFreeSGD(0.1),
    "ScheduleFreeAdamW": lambda: kopt.ScheduleFreeAdamW(0.1),
    "MomentumSAM": lambda: kopt.MomentumSAM(kopt.Adam(0.1)),
    "Mechanic": lambda: kopt.Mechanic(kopt.SGD(1.0)),
    "use_ema": lambda: kopt.Adam(0.1, use_ema=True),
    "MomentumSAM around an average": lambda: kopt.MomentumSAM(
        kopt.WeightAverage(kopt.Adam(0.1))
    ),
    "Lookahead around Mechanic": lambda: kopt.Lookahead(
        kopt.Mechanic(kopt.SGD(1.0)), sync_period=2
    ),
    "around Keras": lambda: kopt.WeightAverage(keras.optimizers.Adam(0.1)),
}
each = pytest.mark.parametrize(
    "kind",
    sampled(
        MAKERS,
        ["WeightAverage", "Lookahead", "ScheduleFree", "use_ema"],
        others=pytest.mark.slow,
    ),
)
SHAPES = [(5, 3), (3,)]


class Run:
    """An optimizer that trains variables of its own by one compiled function."""

    def __init__(self, kind):
        generator = np.random.default_rng(0)
        first = [generator.normal(size=shape) for shape in SHAPES]
        self.variables = [keras.Variable(value) for value in first]
        self.optimizer = MAKERS[kind]()
        self.optimizer.build(self.variables)
        self.count = 0

        @tf.function
        def step(gradients):
            self.optimizer.apply(gradients, self.variables)

        self.step = step

    def train(self, steps):
        for _ in range(steps):
            self.count += 1
            generator = np.random.default_rng(self.count)
            values = [generator.normal(size=shape) for shape in SHAPES]
            self.step([tf.constant(v, "float32") for v in values])

    def halt(self):
        """From here on steps go nowhere."""
        self.optimizer.learning_rate = 0.0

    def values(self):
        return [variable.numpy() for variable in self.variables]

    def at_both_points(self):
        self.optimizer.swap_to_train()
        trained = self.values()
        self.optimizer.swap_to_eval()
        evaluated = self.values()
        self.optimizer.swap_to_train()
        # MomentumSAM trains at a distance from its weights.
        displaces = type(self.optimizer) is kopt.MomentumSAM
        return [evaluated] if displaces else [trained, evaluated]


def started(kind):
    run = Run(kind)
    run.train(7)
    return run


def written():
    return [np.full(shape, 7.0, "float32") for shape in SHAPES]


def set_values(run, values):
    for variable, value in zip(run.variables, values, strict=True):
        variable.assign(value)


def assert_close(found, wanted):
    for one, two in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-6)


def test_every_wrapper_is_here():
    assert set(WRAPPERS) <= {type(maker()).__name__ for maker in MAKERS.values()}


@each
@pytest.mark.parametrize("place", ["training", "evaluation"])
def test_training_goes_on_from_weights_that_were_set(kind, place):
    run = started(kind)
    if place == "evaluation":
        run.optimizer.finalize_variable_values(run.variables)
    set_values(run, written())
    run.halt()
    run.train(5)
    for found in run.at_both_points():
        assert_close(found, written())
    assert run.step.experimental_get_tracing_count() == 1


@each
@pytest.mark.parametrize("place", ["training", "evaluation"])
def test_weights_that_were_set_are_not_swapped_away(kind, place):
    run = started(kind)
    if place == "evaluation":
        run.optimizer.finalize_variable_values(run.variables)
    set_values(run, written())
    for swap in (run.optimizer.swap_to_eval, run.optimizer.swap_to_train) * 2:
        swap()
        assert_close(run.values(), written())


@each
def test_one_variable_that_was_set_leaves_the_copies_of_others(kind):
    runs = [started(kind), started(kind)]
    runs[1].variables[1].assign(written()[1])
    for run in runs:
        run.halt()
        run.train(2)
    for one, other in zip(*[run.at_both_points() for run in runs], strict=True):
        assert_close([other[1]], [written()[1]])
        # The scale that Mechanic learns is one for all.
        np.testing.assert_allclose(other[0], one[0], rtol=1e-4)


@each
def test_a_frozen_variable_stays_at_what_fit_left(kind):
    run = started(kind)
    run.optimizer.finalize_variable_values(run.variables)
    kernel, bias = run.variables
    bias.trainable = False
    before = bias.numpy()

    @tf.function
    def step():
        run.optimizer.apply([tf.ones(SHAPES[0])], [kernel])

    for _ in range(2):
        step()
        np.testing.assert_array_equal(bias.numpy(), before)
        run.optimizer.finalize_variable_values([kernel])
        np.testing.assert_array_equal(bias.numpy(), before)
    bias.trainable = True
    run.optimizer.swap_to_train()
    np.testing.assert_array_equal(bias.numpy(), before)


@each
def test_a_variable_frozen_while_it_trains_stays_there(kind):
    run = started(kind)
    kernel, bias = run.variables
    bias.trainable = False
    before = bias.numpy()
    for _ in range(7):
        run.optimizer.apply([tf.ones(SHAPES[0])], [kernel])
    run.optimizer.finalize_variable_values([kernel])
    np.testing.assert_array_equal(bias.numpy(), before)


@each
def test_a_variable_without_gradients_for_a_while_stays(kind):
    run = started(kind)
    kernel, bias = run.variables
    before = bias.numpy()
    for _ in range(7):
        run.optimizer.apply([tf.ones(SHAPES[0])], [kernel])
        np.testing.assert_array_equal(bias.numpy(), before)


@pytest.mark.parametrize(
    "build",
    [
        lambda inner: kopt.WeightAverage(inner),
        lambda inner: kopt.WeightAverage(inner, momentum=0.5, start=1, every=2),
        lambda inner: kopt.Lookahead(inner, sync_period=2),
        lambda inner: kopt.Lookahead(inner, sync_period=3),
        lambda inner: kopt.ScheduleFree(inner),
    ],
)
def test_variables_in_turns_fare_as_together(build):
    # Each has steps of its own; the common number counts those of both lists.
    runs = []
    for in_turns in (False, True):
        generator = np.random.default_rng(1)
        variables = [keras.Variable(generator.normal(size=s)) for s in SHAPES]
        optimizer = build(kopt.SGD(0.1, momentum=0.5))
        optimizer.build(variables)
        for _ in range(13):
            values = [generator.normal(size=s) for s in SHAPES]
            pairs = [
                (tf.constant(g, "float32"), v)
                for g, v in zip(values, variables, strict=True)
            ]
            for some in [[pair] for pair in pairs] if in_turns else [pairs]:
                optimizer.apply(*zip(*some, strict=True))
        trained = [variable.numpy() for variable in variables]
        optimizer.swap_to_eval()
        runs.append([*trained, *[variable.numpy() for variable in variables]])
    for one, two in zip(*runs, strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-6)
