"""Values that weights are held to: noted by `apply`, saved with the model, no weights.

An anchor hangs on its variable, so that one regularizer serves many weights, and one
that a layer made anew from its configuration finds the anchor of its weight.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kopt._keras.attached_state import Carrier, own_arrays, put_on, registered, take_off
from kopt._keras.saveable import KerasSaveable
from kopt._keras.scoped_values import variable_read_as
from kopt.regularizers._penalty import Penalty

_ANCHORED: weakref.WeakValueDictionary[int, keras.Variable] = (
    weakref.WeakValueDictionary()
)


class Anchor(tf.Module):
    """Values of one weight, and how much each of them matters.

    Attributes:
        values: The values that the weight is held to.
        importance: Numbers of the same shape, or `None`.
    """

    def __init__(self, values: np.ndarray, importance: np.ndarray | None) -> None:
        super().__init__(name="anchor")
        self.values = tf.Variable(values, trainable=False)
        self.importance = (
            None if importance is None else tf.Variable(importance, trainable=False)
        )

    def arrays(self) -> dict[str, tf.Variable]:
        """Its variables by name."""
        found = {"values": self.values, "importance": self.importance}
        return {name: one for name, one in found.items() if one is not None}


class AnchoredPenalty(Penalty):
    """A penalty on how far a weight is from its anchor."""

    #: Whether it also has to know how much each number of a weight matters.
    needs_importance = False

    def __call__(self, x: Any) -> Any:
        if not isinstance(x, keras.Variable):
            variable = variable_read_as(x, list(_ANCHORED.values()))
            anchor = anchor_of(variable)
        else:
            anchor = anchor_of(x)
        name = type(self).__name__
        if anchor is None or self.needs_importance is not (
            anchor.importance is not None
        ):
            what = getattr(x, "path", "an array")
            raise ValueError(
                f"{name} holds a weight to values that are noted when it is put on a "
                f"model, and for {what!r} none are. Put it on the finished model: "
                f"`kopt.regularizers.apply(model, {{...: {name}(...)}})`, and again on "
                "a clone."
            )
        weights = keras.ops.convert_to_tensor(x)
        wide = keras.ops.cast(weights, anchor.values.dtype)
        penalty = self.penalty(self.distances(wide, anchor))
        return keras.ops.cast(penalty, keras.config.floatx())

    def distances(self, weights: Any, anchor: Anchor) -> Any:
        """What `penalty` takes: how far the weights are from their anchor."""
        return weights - anchor.values


class AnchorState(KerasSaveable, tf.Module):
    """The anchors of one model, in the order of its weights.

    Keras saves and loads it as a part of the model, under a name of its own. As a
    `tf.Module` it is in TensorFlow's checkpoints as well.
    """

    def __init__(self, variables: Sequence[keras.Variable]) -> None:
        super().__init__(name="anchors")
        self._weights = [weakref.ref(variable) for variable in variables]
        found = [anchor_of(variable) for variable in variables]
        self.anchors = [anchor for anchor in found if anchor is not None]

    def get_config(self, model: keras.Model) -> list[dict[str, Any]]:
        """Which weights of a model of the same architecture have anchors."""
        places = {id(variable): i for i, variable in enumerate(own_arrays(model))}
        return [
            {"weight": places[id(weight())], "arrays": list(anchor.arrays())}
            for weight, anchor in zip(self._weights, self.anchors, strict=True)
        ]

    def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
        for key, variable in self._arrays().items():
            store[key] = variable.numpy()

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        arrays = self._arrays()
        shapes = {key: tuple(store[key].shape) for key in store.keys()}
        wanted = {key: tuple(variable.shape) for key, variable in arrays.items()}
        if shapes != wanted:
            raise ValueError(
                "The file does not have the values that this model's weights are held "
                f"to, by `L2SP` or `EWC`. It has: {shapes}. Expected: {wanted}. Load "
                "weights before `kopt.regularizers.apply`, or those of a model with "
                "the same penalties."
            )
        for key, variable in arrays.items():
            variable.assign(store[key])

    def _arrays(self) -> dict[str, tf.Variable]:
        return {
            f"{name}_{index}": variable
            for index, anchor in enumerate(self.anchors)
            for name, variable in anchor.arrays().items()
        }

    def _obj_type(self) -> str:
        # Keras skips the attributes that all objects of a known kind have.
        return "Loss"


class AnchoredModel(Carrier):
    """Mixed into the class of a model whose weights are held to anchors."""

    kept_as = "kopt_anchors"

    @classmethod
    def carried_config(cls, model: keras.Model, carried: AnchorState) -> Any:
        return carried.get_config(model)

    @classmethod
    def carry_again(cls, model: keras.Model, config: Any) -> None:
        if not model.built:
            raise ValueError(
                f"The model {model.name!r}, whose weights are held to values, cannot "
                "be built from its file. Give its class `get_build_config` and "
                "`build_from_config`."
            )
        weights = own_arrays(model)
        held = [weights[entry["weight"]] for entry in config]
        for variable, entry in zip(held, config, strict=True):
            zeros = np.zeros(variable.shape, _dtype(variable))
            _put(variable, Anchor(zeros, zeros if len(entry["arrays"]) > 1 else None))
        put_on(model, cls, AnchorState(held))


def anchor_of(variable: Any) -> Anchor | None:
    """What a weight is held to, if it is."""
    return getattr(variable, "kopt_anchor", None)


def hold(
    model: keras.Model,
    variables: Iterable[keras.Variable],
    importance: Mapping[int, np.ndarray],
) -> None:
    """Note the values that weights have now, for those with such a penalty.

    Args:
        model: The model, which is made to save them.
        variables: Weights that got a regularizer.
        importance: Arrays by the `id` of their weight.
    """
    for variable in variables:
        penalty = variable.regularizer
        if isinstance(penalty, AnchoredPenalty):
            values = keras.ops.convert_to_numpy(variable).astype(_dtype(variable))
            matters = None
            if penalty.needs_importance:
                matters = importance[id(variable)].astype(values.dtype)
            _put(variable, Anchor(values, matters))
    held = [
        variable
        for variable in own_arrays(model)
        if isinstance(variable.regularizer, AnchoredPenalty) and anchor_of(variable)
    ]
    if held:
        put_on(model, AnchoredModel, AnchorState(held))
    elif hasattr(model, AnchoredModel.kept_as):
        take_off(model, AnchoredModel)


def _put(variable: Any, anchor: Anchor) -> None:
    variable.kopt_anchor = anchor
    _ANCHORED[id(variable)] = variable


def _dtype(variable: keras.Variable) -> str:
    return keras.backend.result_type(variable.dtype, "float32")


registered(AnchoredModel, AnchoredModel.__name__)
