"""Canaries: a variable still says where a distribution lays it."""

import keras

from kopt._keras.layouts import layout


def test_a_variable_keeps_the_layout_that_it_was_given():
    variable = keras.Variable([1.0])
    assert hasattr(variable, "_layout")
    assert layout(variable) is None
    variable._layout = "rows"
    assert layout(variable) == "rows"
