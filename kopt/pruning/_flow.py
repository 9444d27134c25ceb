"""Where the channels of a functional model come from, go to, and what they are.

A `Flow` follows every tensor's last axis through the graph. It notes which axis of
which weight belongs to which channels, which channels can only go together, which are
constant whatever the input, and where channels end: in a layer that mixes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import keras
import numpy as np

from kopt._keras.graphs import GraphCall, graph_calls, has_graph
from kopt.pruning._probing import of_each_channel
from kopt.pruning._slots import Slots

Read = Callable[[keras.Variable], np.ndarray]

# Some of their inputs are positions or masks, of a length that may be unknown.
_TAKES_ANY = (
    keras.layers.Embedding,
    keras.layers.MultiHeadAttention,
    keras.layers.GroupQueryAttention,
)


class Channels(NamedTuple):
    """The last axis of a tensor.

    Args:
        slots: The slot of each channel; none where the axis cannot be followed.
        values: What each channel is at every place, NaN where that is not constant.
    """

    slots: np.ndarray
    values: np.ndarray


class Axis(NamedTuple):
    """An axis of a weight along which channels lie.

    Args:
        variable: The weight.
        axis: The axis, counted from the front.
        slots: The slot of each place on it.
        is_own: Whether zeros there make the channels zero: the outputs of a kernel
            and what is added to them or scales them, not the inputs.
        is_scored: Whether these numbers tell how much a channel is worth.
    """

    variable: keras.Variable
    axis: int
    slots: np.ndarray
    is_own: bool
    is_scored: bool


class End(NamedTuple):
    """A place where channels end.

    Args:
        layer: The layer that mixes them.
        channels: The channels.
        used: Whether any weight looks at each channel.
        shares: What one unit of each constant channel adds to the outputs, of shape
            `(channels, outputs)`; `None` where only zeros can be left out.
        bias: What takes these up, or `None` where the layer is to be given one.
    """

    layer: keras.Layer
    channels: Channels
    used: np.ndarray
    shares: np.ndarray | None = None
    bias: keras.Variable | None = None


@dataclass
class Use:
    """What the flow knows of one layer.

    Args:
        layer: The layer.
        vectors: The slots of its outputs, heads or inputs, by name.
        axes: The axes of its weights along which channels lie.
        resized: From a function that counts the slots that stay to the entries of the
            layer's configuration that follow from it.
    """

    layer: keras.Layer
    vectors: dict[str, np.ndarray] = field(default_factory=dict)
    axes: dict[tuple[int, int], Axis] = field(default_factory=dict)
    resized: Callable[[Callable[[np.ndarray], int]], dict[str, Any]] | None = None


Rule = Callable[["Flow", GraphCall, list[Channels]], "list[Channels] | None"]


class Flow:
    """The channels of one model.

    Args:
        model: A functional or sequential model.
        rules: How to follow the layers of each class. A rule returns the channels of
            the layer's outputs, or `None` where it cannot follow this one.
        read: The values of a weight.
    """

    def __init__(self, model: Any, rules: Mapping[type, Rule], read: Read) -> None:
        self.rules, self.read = rules, read
        self.slots = Slots()
        self.uses: dict[int, Use] = {}
        self.ends: list[End] = []
        inputs = [self.unknown([t], "an input of the model")[0] for t in model.inputs]
        for output in self._through(model, inputs):
            self.slots.pin(output.slots, "an output of the model")

    def unknown(
        self, tensors: Sequence[keras.KerasTensor], reason: str
    ) -> list[Channels]:
        """Channels of which nothing is known but that they stay."""
        found = []
        for tensor in tensors:
            size = tensor.shape[-1] if len(tensor.shape) > 1 else None
            channels = varying(self.slots.new(size or 0))
            self.slots.pin(channels.slots, reason)
            found.append(channels)
        return found

    def use(self, layer: keras.Layer) -> Use:
        """What is known of a layer."""
        return self.uses.setdefault(id(layer), Use(layer))

    def made(self, layer: keras.Layer, name: str, count: int) -> np.ndarray:
        """The slots that a layer makes; the same ones at each of its calls."""
        vectors = self.use(layer).vectors
        if name not in vectors:
            vectors[name] = self.slots.new(count)
        return vectors[name]

    def met(self, layer: keras.Layer, name: str, slots: np.ndarray) -> None:
        """Note slots that a layer meets: at each of its calls the same have to go."""
        known = self.use(layer).vectors.setdefault(name, slots)
        self.slots.join(known, slots)

    def along(
        self,
        layer: keras.Layer,
        variable: keras.Variable | None,
        axis: int,
        slots: np.ndarray,
        *,
        is_own: bool = False,
        is_scored: bool = False,
    ) -> None:
        """Note that channels lie along an axis of a weight, if there is the weight."""
        if variable is None:
            return
        axis %= len(variable.shape)
        axes = self.use(layer).axes
        key = (id(variable), axis)
        if key in axes:
            self.slots.join(axes[key].slots, slots)
        else:
            # What is frozen is not pruned.
            is_own = is_own and layer.trainable
            axes[key] = Axis(variable, axis, slots, is_own, is_scored)

    def _through(self, model: Any, inputs: list[Channels]) -> list[Channels]:
        known = {id(t): c for t, c in zip(model.inputs, inputs, strict=True)}
        for call in graph_calls(model):
            given = [known[id(tensor)] for tensor in call.inputs]
            outputs = self._called(call, given)
            known |= {id(t): c for t, c in zip(call.outputs, outputs, strict=True)}
        return [known[id(tensor)] for tensor in model.outputs]

    def _called(self, call: GraphCall, inputs: list[Channels]) -> list[Channels]:
        layer = call.operation
        outputs = None
        if not (all(len(c.slots) for c in inputs) or isinstance(layer, _TAKES_ANY)):
            pass
        elif isinstance(layer, keras.Model):
            sizes = [len(channels.slots) for channels in inputs]
            if has_graph(layer) and sizes == [t.shape[-1] for t in layer.inputs]:
                for index, channels in enumerate(inputs):
                    self.met(layer, f"input_{index}", channels.slots)
                outputs = self._through(layer, inputs)
        elif is_plain(layer):
            if type(layer) in self.rules:
                outputs = self.rules[type(layer)](self, call, inputs)
            elif not getattr(layer, "weights", ()):
                outputs = self._merged(call, inputs)
        if outputs is not None:
            return outputs
        reason = f"{type(layer).__name__} {layer.name!r}, which needs them all"
        for channels in inputs:
            self.slots.pin(channels.slots, reason)
        return self.unknown(call.outputs, f"what comes from {reason}")

    def _merged(self, call: GraphCall, inputs: list[Channels]) -> list[Channels] | None:
        """The channels of what works on each channel by itself."""
        values = of_each_channel(call, [channels.values for channels in inputs])
        if values is None:
            return None
        wide = [c for c in inputs if len(c.slots) == len(values)]
        for channels in inputs:
            if len(channels.slots) == len(values):
                self.slots.join(wide[0].slots, channels.slots)
            else:
                reason = f"one channel for all in {call.operation.name!r}"
                self.slots.pin(channels.slots, reason)
        return [Channels(wide[0].slots, values)]


def varying(slots: np.ndarray) -> Channels:
    """Channels that depend on the input."""
    return Channels(slots, np.full(len(slots), np.nan))


def is_plain(layer: Any) -> bool:
    """Whether a layer keeps channels last and has its weights as they are."""
    # A shape of noise may have the number of channels in it.
    return (
        getattr(layer, "noise_shape", None) is None
        and getattr(layer, "data_format", None) != "channels_first"
        and getattr(layer, "quantization_mode", None) is None
        and not getattr(layer, "lora_enabled", False)
    )
