"""How a class of layers is quantized, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import keras

from kopt import _checks
from kopt._registry import register

Role = Literal["compute", "arithmetic", "activation", "batch_norm", "same", "join"]

_ROLES = ("compute", "arithmetic", "activation", "batch_norm", "same", "join")

_RULES: dict[type[keras.Layer], Rule] = {}


@register("quantization", serializable=False)
@dataclass(frozen=True)
class Rule:
    """What happens to layers of one class when a model is quantized.

    Roles:
        - `"compute"`: has weights; its output gets a range. A batch normalization
          and a ReLU that follow are computed together with it at inference: the
          range is then put behind them, and no rounding happens in between.
        - `"arithmetic"`: like it, without weights (`Add`, a mean).
        - `"activation"`: an elementwise function or softmax.
        - `"batch_norm"`: goes into the `"compute"` layer before it.
        - `"same"`: moves or selects values, so its output keeps the input's range.
        - `"join"`: puts tensors together, so these share the range of its output.

    Args:
        role: One of the above.
        weights: For `"compute"`: the name of each weight to quantize and the axes
            that number its channels, `{"kernel": (-1,)}`.
        compute: `function(layer, *args, **kwargs) -> outputs` in place of the
            layer's own `call`, for one whose `call` converts badly.
    """

    role: Role
    weights: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    compute: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        _checks.one_of("role", self.role, _ROLES)
        if self.weights and self.role != "compute":
            raise ValueError(
                "`weights` belong to the role 'compute'. Received: "
                f"role={self.role!r}, weights={dict(self.weights)!r}."
            )


@register("quantization")
def register_quantize_rule(layer_class: type[keras.Layer], rule: Rule) -> None:
    """Say how layers of a class are to be quantized; a second rule replaces the first.

    The rule holds for the class and for its subclasses that keep its `call`. A model
    that was quantized with a rule that has `compute` needs it registered again
    before it is loaded.

    Args:
        layer_class: A layer class.
        rule: Its rule.

    Raises:
        TypeError: If `layer_class` is no layer class, or `rule` no `Rule`.

    Example:

    >>> class Scaled(keras.layers.Dense):
    ...     def call(self, inputs, training=None):
    ...         return 2.0 * super().call(inputs)
    >>> kopt.quantization.register_quantize_rule(
    ...     Scaled, kopt.quantization.Rule("compute", weights={"kernel": (-1,)})
    ... )
    """
    if not (isinstance(layer_class, type) and issubclass(layer_class, keras.Layer)):
        raise TypeError(
            "`layer_class` must be a subclass of keras.Layer. Received: "
            f"layer_class={layer_class!r}."
        )
    if not isinstance(rule, Rule):
        raise TypeError(
            "`rule` must be a kopt.quantization.Rule. Received: "
            f"rule={rule!r}. Write for example Rule('compute', "
            "weights={'kernel': (-1,)})."
        )
    _RULES[layer_class] = rule


def rule_for(layer: keras.Layer) -> Rule | None:
    """The rule of a layer's class, or of the nearest class whose `call` it keeps."""
    float_class = getattr(layer, "float_class", type(layer))
    for ancestor in float_class.__mro__:
        if ancestor in _RULES and ancestor.call is float_class.call:
            return _RULES[ancestor]
    return None
