"""Canaries: Keras's classes still stand where they were."""

import importlib

import keras

from kopt._keras.origins import APPLICATIONS, OPERATIONS, RELU_OPERATION


def name_of(kind):
    return f"{kind.__module__}.{kind.__qualname__}"


def test_operations_stand_in_the_package_of_operations():
    x = keras.Input((3,))
    model = keras.Model(x, x + 1.0)
    assert name_of(type(model.operations[-1])) == f"{OPERATIONS}.numpy.Add"


def test_a_relu_with_a_bound_is_an_operation_of_its_own():
    x = keras.Input((3,))
    model = keras.Model(x, keras.activations.relu(x, max_value=2.0))
    assert name_of(type(model.operations[-1])) == RELU_OPERATION


def test_the_layers_of_applications_stand_beside_them():
    assert importlib.import_module(f"{APPLICATIONS}.convnext").LayerScale
