"""A float teacher for a quantized model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from kopt import _checks
from kopt._keras.attached_state import Carrier, put_on, registered, take_off
from kopt._keras.compiled import forget_compiled_functions
from kopt._registry import register


@dataclass(frozen=True)
class _Teacher:
    # A plain object, so that the teacher's weights are not counted as the student's.
    model: keras.Model
    weight: float
    loss: Any

    def __call__(self, x: Any, y_pred: Any) -> Any:
        target = keras.ops.stop_gradient(self.model(x, training=False))
        return self.loss(target, y_pred)


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
        return (1.0 - teacher.weight) * loss + teacher.weight * teacher(x, y_pred)


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
        teacher: A model with outputs of the same shape; None ends the lessons. It is
            not saved with the model: call this again after loading.
        weight: Share of the distance from the teacher in the loss, 0 to 1.
        loss: A Keras loss, `loss(teacher's output, model's output)`. Defaults to the
            Kullback-Leibler divergence behind a softmax, else to the mean of squares.

    Returns:
        The same model.

    Raises:
        TypeError: If `model` or `teacher` is no Keras 3 model.
        ValueError: If `weight` is not between 0 and 1.

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
    found = keras.losses.get(loss) if loss is not None else _default_loss(model)
    put_on(model, TaughtModel, _Teacher(teacher, weight, found))
    forget_compiled_functions(model)
    return model


def _default_loss(model: keras.Model) -> Any:
    last = model.layers[-1]
    softmax = isinstance(last, keras.layers.Softmax)
    if softmax or getattr(last, "activation", None) is keras.activations.softmax:
        return keras.losses.KLDivergence()
    return keras.losses.MeanSquaredError()
