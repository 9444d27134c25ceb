"""A model built again with fewer channels."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from kopt._keras.graphs import graph_calls, has_graph
from kopt.pruning._flow import End, Flow, Use
from kopt.pruning._following import Removal


class Rebuilding:
    """Builds models without the channels that go.

    Layers are made again from their configurations, so that the model they come from
    stays as it is.

    Args:
        flow: The channels of the model.
        removal: Which of them go.
    """

    def __init__(self, flow: Flow, removal: Removal) -> None:
        self.flow, self.removal = flow, removal
        # A shared layer is rebuilt once.
        self._rebuilt: dict[int, tuple[Any, Any]] = {}

    def model(self, model: Any) -> keras.Model:
        """The smaller model, with its weights."""
        rebuilt = self._model(model)
        for layer, smaller in list(self._rebuilt.values()):
            if isinstance(layer, keras.Layer) and not isinstance(layer, keras.Model):
                smaller.set_weights(self._weights(layer))
            elif isinstance(layer, keras.Model) and not has_graph(layer):
                smaller.set_weights(layer.get_weights())
        return rebuilt

    def _model(self, model: Any) -> keras.Model:
        use = self.flow.uses.get(id(model))
        inputs = []
        for index, tensor in enumerate(model.inputs):
            shape = tensor.shape
            if use is not None and f"input_{index}" in use.vectors:
                slots = use.vectors[f"input_{index}"]
                shape = (*shape[:-1], self._count(slots))
            options = {"dtype": tensor.dtype, "name": tensor.name}
            inputs.append(keras.Input(batch_shape=shape, **options))
        if isinstance(model, keras.Sequential):
            layers = [self._layer(layer) for layer in model.layers]
            return keras.Sequential([inputs[0], *layers], name=model.name)
        tensors = dict(zip(map(id, model.inputs), inputs, strict=True))
        for call in graph_calls(model):
            positional, named = call.arguments(tensors)
            outputs = self._layer(call.operation)(*positional, **named)
            flat = keras.tree.flatten(outputs)
            tensors |= dict(zip(map(id, call.outputs), flat, strict=True))

        def new(tensor: Any) -> Any:
            return tensors[id(tensor)]

        ends = (keras.tree.map_structure(new, t) for t in (model.input, model.output))
        return keras.Model(*ends, name=model.name)

    def _layer(self, layer: Any) -> Any:
        if id(layer) not in self._rebuilt:
            self._rebuilt[id(layer)] = layer, self._made_again(layer)
        return self._rebuilt[id(layer)][1]

    def _made_again(self, layer: Any) -> Any:
        if isinstance(layer, keras.Model) and has_graph(layer):
            return self._model(layer)
        changes = self._changes(layer)
        try:
            return type(layer).from_config({**layer.get_config(), **changes})
        except (TypeError, ValueError, NotImplementedError) as error:
            if not getattr(layer, "variables", None):
                # It holds nothing that two models could not share.
                return layer
            raise ValueError(
                f"The layer {layer.name!r} cannot be made again from its "
                f"configuration. Give {type(layer).__name__} a `get_config` that "
                f"returns the arguments of its constructor. ({error})"
            ) from error

    def _changes(self, layer: keras.Layer) -> dict[str, Any]:
        use = self.flow.uses.get(id(layer))
        if use is None or all(self._stays(v).all() for v in _slots(use)):
            return {}
        changes = use.resized(self._count) if use.resized else {}
        if self._new_bias(layer) is not None:
            changes["use_bias"] = True
        return changes

    def _weights(self, layer: keras.Layer) -> list[np.ndarray]:
        use = self.flow.uses.get(id(layer))
        weights = [keras.ops.convert_to_numpy(v.value) for v in layer.weights]
        if use is None:
            return weights
        places = {id(v): index for index, v in enumerate(layer.weights)}
        for end in self._folded(layer):
            if end.bias is not None:
                bias = weights[places[id(end.bias)]]
                moved = bias + self._moved(end)
                weights[places[id(end.bias)]] = moved.astype(bias.dtype)
        for variable, axis, slots, *_ in use.axes.values():
            place = places[id(variable)]
            weights[place] = np.compress(self._stays(slots), weights[place], axis)
        new_bias = self._new_bias(layer)
        if new_bias is not None:
            weights.append(new_bias[self._stays(use.vectors["outputs"])])
        return weights

    def _new_bias(self, layer: keras.Layer) -> np.ndarray | None:
        """The bias of a layer that had none and gets a constant to add."""
        moved = [self._moved(end) for end in self._folded(layer) if end.bias is None]
        moved = [share for share in moved if share.any()]
        return moved[0] if moved else None

    def _folded(self, layer: keras.Layer) -> list[End]:
        """Where constants go into a layer's biases: each is the same at every call."""
        ends = {
            id(end.bias): end
            for end in self.flow.ends
            if end.layer is layer and end.shares is not None
        }
        return list(ends.values())

    def _moved(self, end: End) -> np.ndarray:
        """What the constants that go have added to the outputs of a layer."""
        goes = ~self._stays(end.channels.slots) & end.used
        values = np.where(goes, end.channels.values, 0.0)
        return values @ end.shares

    def _stays(self, slots: np.ndarray) -> np.ndarray:
        return self.removal.kept(slots)

    def _count(self, slots: np.ndarray) -> int:
        return int(self._stays(slots).sum())


def _slots(use: Use) -> list[np.ndarray]:
    return [*use.vectors.values(), *(axis.slots for axis in use.axes.values())]
