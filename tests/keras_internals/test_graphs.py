"""Canaries: the graph of a model still reads as the calls that made it."""

import keras
import numpy as np

from kopt._keras.graphs import (
    CONCATENATIONS,
    PRODUCTS,
    graph_calls,
    has_graph,
    symbolic_inputs,
)
from tests.pruning.nets import layers, mlp


def test_the_graph_of_a_model_is_its_calls_in_order():
    inputs = keras.Input((4, 3))
    dense = layers.Dense(3)
    outputs = layers.MultiHeadAttention(1, 2)(dense(dense(inputs)), value=inputs)
    calls = graph_calls(keras.Model(inputs, outputs))
    assert [call.operation for call in calls[:2]] == [dense, dense]
    assert calls[0].inputs[0] is inputs
    assert calls[1].inputs == calls[0].outputs
    assert calls[2].outputs[0] is outputs
    given = {id(tensor): number for number, tensor in enumerate(calls[2].inputs)}
    assert calls[2].arguments(given) == ((0,), {"value": 1})


def test_a_sequential_model_has_a_graph_once_it_is_built():
    model = mlp()
    assert [call.operation for call in graph_calls(model)] == model.layers
    assert has_graph(model)
    assert not has_graph(keras.Sequential([layers.Dense(3)]))


def test_a_model_that_computes_in_its_own_call_has_no_graph_to_go_by():
    class Doubled(keras.Model):
        def call(self, x):
            return 2 * super().call(x)

    inputs = keras.Input((3,))
    outputs = layers.Dense(3)(inputs)
    assert has_graph(keras.Model(inputs, outputs))
    assert not has_graph(Doubled(inputs, outputs))
    assert not has_graph(keras.Model())


def test_concatenations_and_products_are_told_apart_from_other_operations():
    x = keras.Input((3,))
    results = [keras.ops.concatenate([x, x]), keras.ops.multiply(x, x), x * x, x + x]
    model = keras.Model(x, results)
    kinds = (CONCATENATIONS, PRODUCTS)
    made = {id(c.outputs[0]): c.operation for c in graph_calls(model)}
    found = [[isinstance(made[id(r)], kind) for kind in kinds] for r in results]
    assert found == [[True, False], [False, True], [False, True], [False, False]]


def test_symbolic_inputs_have_the_structure_of_the_call():
    a, b = keras.Input((2,), name="a"), keras.Input((3,), name="b")
    joined = keras.layers.Concatenate()([a, b])
    as_dict = keras.Model({"b": b, "a": a}, joined)
    assert set(symbolic_inputs(as_dict)) == {"a", "b"}
    assert len(symbolic_inputs(keras.Model([a, b], joined))) == 2
    single = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    assert symbolic_inputs(single).shape == (None, 2)


def test_a_subclassed_model_has_no_symbolic_inputs():
    class Plain(keras.Model):
        def call(self, inputs):
            return inputs

    model = Plain()
    model(np.ones((1, 2)))
    assert symbolic_inputs(model) is None
