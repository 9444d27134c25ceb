"""Steps that a model compiled before it changed.

`Model.train_function` and its two siblings are public but documented nowhere; setting
them to None is how Keras itself has them made again.
"""

from __future__ import annotations

import keras

from kopt._keras.layer_tree import with_nested_layers


def forget_compiled_functions(model: keras.Model) -> None:
    """Have a model, and models inside it, trace their steps again.

    The steps that `fit`, `evaluate` and `predict` traced before hold the layers as
    they were then. The optimizer and its state stay.
    """
    for one in with_nested_layers(model):
        if isinstance(one, keras.Model):
            one.train_function = one.test_function = one.predict_function = None
