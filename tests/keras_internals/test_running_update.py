"""Canaries: a constraint finds the optimizer that calls it."""

import keras
import numpy as np
import tensorflow as tf

import kopt
from kopt._keras.running_update import (
    Update,
    evaluated,
    moves_variables,
    running_update,
)
from tests.pruning.nets import mlp


class Spy(keras.constraints.Constraint):
    """Notes what is seen from inside an optimizer's call."""

    def __init__(self, look):
        self.look, self.seen = look, []

    def __call__(self, w):
        self.seen.append(self.look())
        return w


def apply_once(optimizer, variable):
    optimizer.apply([tf.ones_like(variable)], [variable])


def test_a_constraint_knows_the_optimizer_that_calls_it():
    variable = keras.Variable([1.0])
    variable.constraint = Spy(running_update)
    optimizer = keras.optimizers.SGD()
    apply_once(optimizer, variable)
    apply_once(optimizer, variable)
    first, second = variable.constraint.seen
    assert first.optimizer is optimizer
    assert first.call is not second.call


def test_of_wrapped_optimizers_the_innermost_is_the_one_that_moves():
    variable = keras.Variable([1.0])
    variable.constraint = Spy(running_update)
    inner = keras.optimizers.SGD()
    apply_once(keras.optimizers.LossScaleOptimizer(inner), variable)
    assert variable.constraint.seen[0].optimizer is inner


def test_no_optimizer_is_running_outside_of_its_call():
    assert running_update() is None
    with keras.name_scope("scope", caller=mlp()):
        assert running_update() is None


def test_variables_move_at_the_last_of_the_accumulated_batches():
    variable = keras.Variable([1.0])
    optimizer = keras.optimizers.SGD(gradient_accumulation_steps=3)
    variable.constraint = Spy(lambda: bool(moves_variables(optimizer, [variable])))
    values = []
    for _ in range(6):
        apply_once(optimizer, variable)
        values.append(float(variable[0]))
    moved = np.diff([1.0, *values]) != 0
    assert variable.constraint.seen == moved.tolist()
    assert moved.tolist() == [False, False, True] * 2


def test_variables_move_at_every_batch_without_accumulation():
    assert moves_variables(keras.optimizers.SGD(), []) is True


def test_the_moving_average_of_a_variable_is_the_optimizers():
    variables = [keras.Variable([1.0]), keras.Variable([5.0])]
    optimizer = keras.optimizers.SGD(0.0, use_ema=True)
    optimizer.apply([tf.ones_like(v) for v in variables], variables)
    (average,) = evaluated(Update(None, optimizer), variables[1])
    assert float(average[0]) == 5.0
    optimizer.finalize_variable_values(variables)
    average.assign([7.0])
    optimizer.finalize_variable_values(variables)
    assert float(variables[1][0]) == 7.0


def test_what_wrappers_evaluate_at_is_found_from_inside_the_innermost_update():
    class Note(keras.constraints.Constraint):
        def __call__(self, w):
            found.append(evaluated(running_update(), variable))
            return w

    found = []
    variable = keras.Variable([1.0])
    variable.constraint = Note()
    optimizer = kopt.MomentumSAM(kopt.Lookahead(kopt.SGD(0.1, momentum=0.9)))
    lookahead = optimizer.inner_optimizer
    optimizer.apply([tf.ones(1)], [variable])
    expected = [optimizer.state(variable)["weights"], lookahead.state(variable)["slow"]]
    assert [id(v) for v in found[0]] == [id(v) for v in expected]


def test_without_averages_a_model_is_evaluated_at_its_own_weights():
    update = Update(None, keras.optimizers.SGD())
    assert evaluated(update, keras.Variable([1.0])) == []
