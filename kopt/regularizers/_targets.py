"""Finding the weights of a model that a regularizer can be put on."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from kopt._keras.attention import saved_regularizer_of
from kopt._keras.layer_tree import own_layers

_ATTENTIONS = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)


@dataclass(frozen=True)
class Target:
    """One weight of a model, with the layer that owns it.

    Attributes:
        variable: The weight.
        layer: Its owner.
        lineage: The layers from the model down to the owner, each with its path inside
            the model: `"encoder/dense"`. The model's own path is `""`.
    """

    variable: keras.Variable
    layer: keras.layers.Layer
    lineage: tuple[tuple[str, keras.layers.Layer], ...]

    @property
    def path(self) -> str:
        """The owner's path inside the model."""
        return self.lineage[-1][0]

    @property
    def slot(self) -> str | None:
        """The attribute in which the owner's configuration keeps the regularizer."""
        name = self.variable.name
        slots = [f"{name}_regularizer", f"{name.removesuffix('_kernel')}_regularizer"]
        if name == "kernel":
            slots.append("depthwise_regularizer")
        return next((slot for slot in slots if hasattr(self.layer, slot)), None)

    def regularize(self, regularizer: Callable[..., Any] | None) -> None:
        """Put a regularizer on the weight, and into its owner's configuration."""
        self.variable.regularizer = regularizer
        if self.slot is not None:
            # A layer that reads its configuration from elsewhere may not let itself
            # be set.
            with contextlib.suppress(AttributeError):
                setattr(self.layer, self.slot, regularizer)

    @property
    def attention(self) -> keras.layers.Layer | None:
        """The attention that the owner is a projection of."""
        holder = self.lineage[-2][1] if len(self.lineage) > 1 else None
        return holder if isinstance(holder, _ATTENTIONS) else None

    def matches(self, match: Any) -> bool:
        """Whether a rule means this weight's owner, or a layer that holds it."""
        if isinstance(match, str):
            return any(path and re.search(match, path) for path, _ in self.lineage)
        layers = [layer for _, layer in self.lineage]
        if isinstance(match, type):
            return any(isinstance(layer, match) for layer in layers)
        if isinstance(match, keras.layers.Layer):
            return any(layer is match for layer in layers)
        return any(match(layer) for layer in layers)


def targets_of(model: keras.Model) -> list[Target]:
    """All weights of a model; one in a shared layer comes once for each path to it."""
    return list(_walk((("", model),)))


def share_with_attentions(targets: Sequence[Target]) -> None:
    """Write what all kernels, or biases, of an attention have into its configuration.

    An attention makes its projections itself, with one regularizer for all. What they
    do not have in common has no place there.
    """
    attentions = {id(target.attention): target.attention for target in targets}
    for attention in filter(None, attentions.values()):
        weights = [weight for one in own_layers(attention) for weight in one.weights]
        for name in ("kernel", "bias"):
            found = [weight.regularizer for weight in weights if weight.name == name]
            is_common = all(one is found[0] for one in found)
            common = found[0] if found and is_common else None
            saved_regularizer_of(attention, name, common)


def _walk(lineage: tuple[tuple[str, keras.layers.Layer], ...]) -> Iterator[Target]:
    path, layer = lineage[-1]
    inside = _children(layer)
    theirs = {id(weight) for child in inside for weight in child.weights}
    for weight in layer.weights:
        if id(weight) not in theirs:
            yield Target(weight, layer, lineage)
    for child in inside:
        child_path = f"{path}/{child.name}" if path else child.name
        yield from _walk((*lineage, (child_path, child)))


def _children(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    if isinstance(layer, keras.Model):
        return layer.layers
    return own_layers(layer)
