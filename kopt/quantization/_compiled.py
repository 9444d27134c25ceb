"""Steps that a model compiled before its layers changed."""

from __future__ import annotations

import keras

from kopt.quantization._tracking import sublayers


def forget_compiled_functions(model: keras.Model) -> None:
    """Have a model, and models inside it, trace their steps anew.

    The steps that `fit`, `evaluate` and `predict` traced before hold the layers as
    they were then. The optimizer and its state stay.
    """
    for one in [model, *sublayers(model)]:
        if isinstance(one, keras.Model):
            one.train_function = one.test_function = one.predict_function = None
