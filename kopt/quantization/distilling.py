"""A float teacher for a quantized model."""

from __future__ import annotations

from typing import Any

import keras

from kopt import _checks
from kopt._keras.attached_state import Carrier, put_on, registered, take_off
from kopt._keras.compiled import forget_compiled_functions
from kopt._keras.graphs import has_graph
from kopt._registry import register
from kopt.quantization._lessons import Lessons, check_alike, symbolic_outputs


class TaughtModel(Carrier):
    """A model whose training loss has a part of the distance from a teacher."""

    kept_as = "_kopt_teacher"

    @classmethod
    def carried_config(cls, model: keras.Model, carried: Any) -> None:
        """Nothing: a teacher is not saved with the student."""

    def compute_loss(
        self: Any,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        loss = super().compute_loss(  # type: ignore[misc]
            x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training
        )
        teacher = getattr(self, TaughtModel.kept_as, None)
        if teacher is None or not training:
            return loss
        distance = teacher.distance(self, x, y_pred, sample_weight)
        return (1.0 - teacher.weight) * loss + teacher.weight * distance


# Also in a process in which no model has been taught yet.
registered(TaughtModel, "TaughtModel")


@register("quantization")
def learn_from(
    model: keras.Model,
    teacher: keras.Model | None,
    weight: float = 0.5,
    loss: Any = None,
) -> keras.Model:
    """Have a model train to the outputs of a float teacher, beside its own loss.

    `quantize_model(model, teacher=True)` does this with the model as it was.

    Args:
        model: The model that is trained; it is changed in place. Compile it after.
        teacher: A model with outputs of the same names (or order) and shapes; None
            ends the lessons. It is not saved with the model: call this again after
            loading.
        weight: Share of the distance from the teacher in the loss, 0 to 1. The distance
            is the sum over outputs; sample weights count in it as they do in the loss.
        loss: A Keras loss, `loss(teacher's output, model's output)`, for all outputs,
            or one for each in the structure of the outputs (a dict, a list), None for
            an output that is not taught. Defaults, output by output, to the
            Kullback-Leibler divergence behind a softmax, to binary cross-entropy behind
            a sigmoid, else to the mean of squares.

    Returns:
        The same model.

    Raises:
        TypeError: If `model` or `teacher` is no Keras 3 model.
        ValueError: If `weight` is not between 0 and 1, or the teacher's outputs differ
            from the model's in names, number or shapes (of a model written as a class:
            when it is trained).

    References:
        - Hinton et al., 2015, Distilling the Knowledge in a Neural Network,
          arXiv:1503.02531
        - Polino et al., 2018, Model compression via distillation and quantization,
          arXiv:1802.05668

    Example:

    >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> model = kopt.quantization.learn_from(model, teacher, weight=1.0)
    >>> model.compile(keras.optimizers.Adam(0.05), "mse")
    >>> x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    >>> _ = model.fit(x, np.zeros((64, 2)), epochs=100, verbose=0)
    >>> bool(np.abs(model(x) - teacher(x)).max() < 0.1)
    True
    """
    _checks.keras_model("model", model)
    if teacher is None:
        if isinstance(model, TaughtModel) and hasattr(model, TaughtModel.kept_as):
            take_off(model, TaughtModel)
            forget_compiled_functions(model)
        return model
    _checks.keras_model("teacher", teacher)
    weight = _checks.number("weight", weight, low=0, high=1)
    losses = None if loss is None else _losses(loss)
    if has_graph(model) and has_graph(teacher):
        # Others show their outputs when they are trained.
        theirs, own = symbolic_outputs(teacher), symbolic_outputs(model)
        check_alike(teacher, theirs, model, own)
    put_on(model, TaughtModel, Lessons(teacher, weight, losses))
    forget_compiled_functions(model)
    return model


def _losses(given: Any) -> Any:
    """Losses from what a user may write for them, in the same structure."""
    if isinstance(given, dict):
        return {name: _losses(one) for name, one in given.items()}
    if isinstance(given, (list, tuple)):
        return type(given)(map(_losses, given))
    found = keras.losses.get(given)
    if found is None or isinstance(found, keras.losses.Loss):
        return found
    # A function gives one number a sample and knows nothing of sample weights.
    return _MeanOf(found)


class _MeanOf(keras.losses.Loss):
    """The mean over samples of what a loss function gives."""

    def __init__(self, function: Any) -> None:
        super().__init__(name=getattr(function, "__name__", "loss"))
        self.function = function

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return self.function(y_true, y_pred)
