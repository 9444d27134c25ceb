"""How a class of layers is quantized, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import keras

from kopt import _checks
from kopt._registry import register
from kopt.quantization import ranges

Role = Literal[
    "compute",
    "arithmetic",
    "activation",
    "batch_norm",
    "same",
    "join",
    "whole",
    "float",
]
Axes = tuple[int, ...]
FixedRange = tuple[float, float]
Inner = Callable[
    [Any, int], tuple[str, ...] | Mapping[str, FixedRange | ranges.AtMost | None]
]

_RULES: dict[type[keras.Operation], Rule] = {}

# Rules of classes that Keras does not export, by the full name of the class: reading
# a name costs no import and cannot fail.
_RULES_BY_NAME: dict[str, Rule] = {}


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
    - `"whole"`: its `compute` rounds everything inside, its outputs included (a
      recurrent cell).
    - `"float"`: stays float on purpose; `note` says why.

    Args:
        role: One of the above.
        weights: The name of each weight to quantize and the axes that number its
            channels, `{"kernel": (-1,)}`, or a function of the layer that returns
            them, None where this layer has no such weight. A name with dots is a
            weight of a part: `"query_dense.kernel"`.
        compute: `function(layer, *args, **kwargs) -> outputs` in place of the
            layer's own `call`, where that converts badly.
        inner: For `compute`: `function(layer, number of inputs) -> names` of the
            ranges inside, or a dict of them with the range that the runtime
            prescribes, or None; `compute` rounds to one by
            `layer.quantizer.rounded(name, values)`.
        inputs: Which inputs need to be on a grid, by position. All, if None.
        masked: Like `inner`, for ranges that a layer has in addition where it is called
            with a mask; `compute` then rounds its inputs itself.
        obstacle: `function(layer, number of inputs) -> reason` why this one layer
            has to stay float, empty if it need not.
        fuses: Whether a ReLU behind it is computed with it.
        note: What the report says of such a layer.
    """

    role: Role
    weights: Mapping[str, Axes | Callable[[Any], Axes | None]] = field(
        default_factory=dict
    )
    compute: Callable[..., Any] | None = None
    inner: Inner | None = None
    inputs: tuple[int, ...] | None = None
    masked: Inner | None = None
    obstacle: Callable[[Any, int], str] | None = None
    fuses: bool = True
    note: str = ""

    def __post_init__(self) -> None:
        _checks.one_of("role", self.role, get_args(Role))
        if self.weights and self.role not in ("compute", "activation", "whole"):
            raise ValueError(
                "`weights` belong to the role 'compute', 'activation' or 'whole'. "
                f"Received: role={self.role!r}, weights={dict(self.weights)!r}."
            )
        if self.role == "whole" and not self.compute:
            raise ValueError(
                "The role 'whole' says that `compute` rounds everything, but there is "
                "no `compute`. Pass one."
            )
        if (self.inner or self.masked) and not self.compute:
            raise ValueError(
                "`inner` and `masked` name ranges that `compute` uses, but there is no "
                "`compute`. Pass it too."
            )

    def weights_of(self, layer: Any) -> dict[str, Axes]:
        """The weights of one layer that are quantized, with their channels' axes."""
        axes = {
            name: one(layer) if callable(one) else one
            for name, one in self.weights.items()
        }
        return {name: one for name, one in axes.items() if one is not None}


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
    if not _is_operation_class(layer_class):
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


def _is_operation_class(thing: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, keras.Operation)


def register_by_name(name: str, rule: Rule) -> None:
    """`register_quantize_rule` for a class that has no public name.

    Args:
        name: Module and class: `f"{OPERATIONS}.numpy.Add"`.
        rule: Its rule.
    """
    _RULES_BY_NAME[name] = rule


def float_class_of(layer: Any) -> type[Any]:
    """The class of a layer as it was before it was quantized."""
    found = type(layer)
    while hasattr(found, "float_class"):
        found = found.float_class
    return found


def rule_for(layer: Any) -> Rule | None:
    """The rule of a layer's class, or of the nearest class whose `call` it keeps."""
    float_class = float_class_of(layer)
    for ancestor in float_class.__mro__:
        if getattr(ancestor, "call", None) is not float_class.call:
            continue
        rule = _RULES.get(ancestor) or _RULES_BY_NAME.get(
            f"{ancestor.__module__}.{ancestor.__qualname__}"
        )
        if rule is not None:
            return rule
    return None
