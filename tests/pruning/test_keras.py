"""Canaries: the private names of Keras still mean what pruning takes them to mean."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from kopt.pruning import _keras
from kopt.pruning._keras import KerasSaveable
from tests.pruning.nets import layers, mlp


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
    variable.constraint = Spy(_keras.running_update)
    optimizer = keras.optimizers.SGD()
    apply_once(optimizer, variable)
    apply_once(optimizer, variable)
    first, second = variable.constraint.seen
    assert first.optimizer is optimizer
    assert first.call is not second.call


def test_of_wrapped_optimizers_the_innermost_is_the_one_that_moves():
    variable = keras.Variable([1.0])
    variable.constraint = Spy(_keras.running_update)
    inner = keras.optimizers.SGD()
    apply_once(keras.optimizers.LossScaleOptimizer(inner), variable)
    assert variable.constraint.seen[0].optimizer is inner


def test_no_optimizer_is_running_outside_of_its_call():
    assert _keras.running_update() is None
    with keras.name_scope("scope", caller=mlp()):
        assert _keras.running_update() is None


def test_variables_move_at_the_last_of_the_accumulated_batches():
    variable = keras.Variable([1.0])
    optimizer = keras.optimizers.SGD(gradient_accumulation_steps=3)
    variable.constraint = Spy(lambda: bool(_keras.moves_variables(optimizer)))
    values = []
    for _ in range(6):
        apply_once(optimizer, variable)
        values.append(float(variable[0]))
    moved = np.diff([1.0, *values]) != 0
    assert variable.constraint.seen == moved.tolist()
    assert moved.tolist() == [False, False, True] * 2


def test_variables_move_at_every_batch_without_accumulation():
    assert _keras.moves_variables(keras.optimizers.SGD()) is True


def test_the_moving_average_of_a_variable_is_the_optimizers():
    variables = [keras.Variable([1.0]), keras.Variable([5.0])]
    optimizer = keras.optimizers.SGD(0.0, use_ema=True)
    optimizer.apply([tf.ones_like(v) for v in variables], variables)
    (average,) = _keras.evaluated(_keras.Update(None, optimizer), variables[1])
    assert float(average[0]) == 5.0
    optimizer.finalize_variable_values(variables)
    average.assign([7.0])
    optimizer.finalize_variable_values(variables)
    assert float(variables[1][0]) == 7.0


def test_what_wrappers_evaluate_at_is_found_from_inside_the_innermost_update():
    class Note(keras.constraints.Constraint):
        def __call__(self, w):
            found.append(_keras.evaluated(_keras.running_update(), variable))
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
    update = _keras.Update(None, keras.optimizers.SGD())
    assert _keras.evaluated(update, keras.Variable([1.0])) == []


def test_nested_layers_come_after_what_holds_them():
    attention, inputs = layers.MultiHeadAttention(1, 2), keras.Input((4, 2))
    inner = keras.Sequential([layers.LSTM(2)])
    model = keras.Model(inputs, inner(attention(inputs, inputs)))
    found = _keras.nested_layers(model)
    for layer in (attention._query_dense, inner.layers[0].cell):
        assert layer in found
    assert found.index(inner) < found.index(inner.layers[0])
    assert found.index(attention) < found.index(attention._query_dense)


@pytest.mark.parametrize("name", ["model.keras", "model.weights.h5"])
def test_an_attribute_that_is_saveable_is_saved_with_its_model(name, tmp_path):
    class State(KerasSaveable):
        saved = 0

        def _obj_type(self):
            return "Loss"

        def save_own_variables(self, store):
            self.saved += 1
            store["value"] = np.ones(1)

    model = mlp()
    model.state = State()
    if name.endswith(".keras"):
        model.save(tmp_path / name)
    else:
        model.save_weights(tmp_path / name)
    assert model.state.saved == 1


def test_the_graph_of_a_model_is_its_calls_in_order():
    inputs = keras.Input((4, 3))
    dense = layers.Dense(3)
    outputs = layers.MultiHeadAttention(1, 2)(dense(dense(inputs)), value=inputs)
    calls = _keras.graph_calls(keras.Model(inputs, outputs))
    assert [call.operation for call in calls[:2]] == [dense, dense]
    assert calls[0].inputs[0] is inputs
    assert calls[1].inputs == calls[0].outputs
    assert calls[2].outputs[0] is outputs
    given = {id(tensor): number for number, tensor in enumerate(calls[2].inputs)}
    assert calls[2].arguments(given) == ((0,), {"value": 1})


def test_a_sequential_model_has_a_graph_once_it_is_built():
    model = mlp()
    assert [call.operation for call in _keras.graph_calls(model)] == model.layers
    assert _keras.has_graph(model)
    assert not _keras.has_graph(keras.Sequential([layers.Dense(3)]))


def test_a_model_that_computes_in_its_own_call_has_no_graph_to_go_by():
    class Doubled(keras.Model):
        def call(self, x):
            return 2 * super().call(x)

    inputs = keras.Input((3,))
    outputs = layers.Dense(3)(inputs)
    assert _keras.has_graph(keras.Model(inputs, outputs))
    assert not _keras.has_graph(Doubled(inputs, outputs))
    assert not _keras.has_graph(keras.Model())


def test_concatenations_and_products_are_told_apart_from_other_operations():
    x = keras.Input((3,))
    results = [keras.ops.concatenate([x, x]), keras.ops.multiply(x, x), x * x, x + x]
    model = keras.Model(x, results)
    kinds = (_keras.CONCATENATIONS, _keras.PRODUCTS)
    made = {id(c.outputs[0]): c.operation for c in _keras.graph_calls(model)}
    found = [[isinstance(made[id(r)], kind) for kind in kinds] for r in results]
    assert found == [[True, False], [False, True], [False, True], [False, False]]
