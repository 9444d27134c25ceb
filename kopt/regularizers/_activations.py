"""What penalties on the outputs of a layer share."""

from __future__ import annotations

from typing import Any

from keras import ops

from kopt.regularizers._penalty import Penalty


class ActivityPenalty(Penalty):
    """A penalty on what a layer puts out, given to it as `activity_regularizer`.

    `penalty` is the formula, which is what training adds to the loss.
    """

    def __call__(self, x: Any) -> Any:
        """The formula times the size of the batch, a scalar of type `floatx`.

        Keras divides what an activity regularizer gives by the size of the batch, which
        means over samples have been already.
        """
        value = super().__call__(x)
        return value * ops.cast(ops.shape(x)[0], value.dtype)

    def arranged(self, weights: Any, variable: Any) -> Any:
        if variable is not None:
            name = type(self).__name__
            raise ValueError(
                f"{name} is a penalty on what a layer puts out, not on weights. "
                f"Received: the weight {variable.path!r}. Give it to a layer as "
                f"`activity_regularizer={name}(...)`."
            )
        return weights


def by_sample(activations: Any) -> Any:
    """Activations of shape (samples, units).

    Places of an image and steps of a sequence count as samples.

    Raises:
        ValueError: If they have fewer than 2 axes.
    """
    if len(activations.shape) < 2:
        raise ValueError(
            "The penalty is on activations of shape (batch, ..., units). Received: "
            f"activations of shape {tuple(activations.shape)}. Give it to a layer "
            "whose output has a last axis of units."
        )
    return ops.reshape(activations, (-1, activations.shape[-1]))
