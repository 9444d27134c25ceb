"""How a class of layers is quantized, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import keras

from kopt import _checks
from kopt._registry import register

Role = Literal["compute", "arithmetic", "activation", "batch_norm", "same", "join"]

_RULES: dict[type[keras.Layer], Rule] = {}


@register("quantization", serializable=False)
@dataclass(frozen=True)
class Rule:
    """What happens to layers of one class when a model is quantized.

    The role says what becomes of a layer in the integer model:

    - `"compute"`: has weights; its output gets a range. A batch normalization and a
      ReLU that follow are computed together with it: the range is then put behind
      them, and nothing is rounded in between.
    - `"arithmetic"`: like it, without weights (`Add`, a mean).
    - `"activation"`: an elementwise function or softmax.
    - `"batch_norm"`: goes into the `"compute"` layer before it; else stands alone.
    - `"same"`: moves or selects values, so its output keeps the range of its input.
    - `"join"`: puts tensors together, so these share the range of its output.

    Args:
        role: One of the above.
        weights: For `"compute"`: the name of each weight to quantize and the axes
            that number its channels, `{"kernel": (-1,)}`.
        compute: `function(layer, *args, **kwargs) -> outputs` in place of the
            layer's own `call`, where that converts badly.
        inner: For `compute`: `function(layer, number of inputs) -> names` of the
            ranges inside; `compute` rounds to one by
            `layer.quantizer.rounded(name, values)`.
    """

    role: Role
    weights: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    compute: Callable[..., Any] | None = None
    inner: Callable[[keras.Layer, int], tuple[str, ...]] | None = None

    def __post_init__(self) -> None:
        _checks.one_of("role", self.role, get_args(Role))
        if self.weights and self.role != "compute":
            raise ValueError(
                "`weights` belong to the role 'compute'. Received: "
                f"role={self.role!r}, weights={dict(self.weights)!r}."
            )
        if self.inner and not self.compute:
            raise ValueError(
                "`inner` names ranges that `compute` uses, but there is no `compute`. "
                "Pass both."
            )


@register("quantization")
def register_quantize_rule(layer_class: type[keras.Layer], rule: Rule) -> None:
    """Say how layers of a class are to be quantized; a second rule replaces the first.

    The rule holds for the class and for those of its subclasses that keep its
    `call`. Where a rule has `compute`, register it also in a program that loads a
    model quantized by it.

    Args:
        layer_class: A layer class.
        rule: Its rule.

    Raises:
        TypeError: If `layer_class` is no layer class, or `rule` no `Rule`.

    Example:

    >>> class Doubled(keras.layers.Dense):
    ...     def call(self, inputs, training=None):
    ...         return 2.0 * super().call(inputs)
    >>> rule = kopt.quantization.Rule("compute", weights={"kernel": (-1,)})
    >>> kopt.quantization.register_quantize_rule(Doubled, rule)
    >>> model = keras.Sequential([keras.Input((4,)), Doubled(2)])
    >>> type(kopt.quantization.quantize_model(model).layers[0]).__name__
    'QuantizedDoubled'
    """
    if not (isinstance(layer_class, type) and issubclass(layer_class, keras.Layer)):
        raise TypeError(
            "`layer_class` must be a subclass of keras.Layer. Received: "
            f"layer_class={layer_class!r}."
        )
    if not isinstance(rule, Rule):
        raise TypeError(
            "`rule` must be a kopt.quantization.Rule, such as Rule('compute', "
            f"weights={{'kernel': (-1,)}}). Received: rule={rule!r}."
        )
    _RULES[layer_class] = rule


def float_class_of(layer: keras.Layer) -> type[keras.Layer]:
    """The class of a layer as it was before it was quantized."""
    return getattr(type(layer), "float_class", type(layer))


def rule_for(layer: keras.Layer) -> Rule | None:
    """The rule of a layer's class, or of the nearest class whose `call` it keeps."""
    float_class = float_class_of(layer)
    for ancestor in float_class.__mro__:
        if ancestor in _RULES and ancestor.call is float_class.call:
            return _RULES[ancestor]
    return None
