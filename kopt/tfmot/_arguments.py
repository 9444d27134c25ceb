"""Constructor arguments in one Keras and in the other."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

from kopt.tfmot._rebuilding import Unsupported

# Without a counterpart and without effect on what a layer computes: how it is computed,
# shapes that were known, and the state of random numbers.
_WITHOUT_EFFECT = {
    "autocast",
    "batch_input_shape",
    "build_config",
    "encoding",
    "flash_attention",
    "implementation",
    "key_shape",
    "quantization_config",
    "query_shape",
    "rng_type",
    "seed",
    "use_cudnn",
    "value_shape",
    "vocabulary_size",
}

# Arguments that tf_keras takes without naming them in a signature.
_UNNAMED = {"zero_output_for_mask"}

# The default of an argument that says "as the configuration of Keras says".
_CHANNELS_LAST = {"data_format": "channels_last"}


@cache
def defaults(kind: type) -> dict[str, Any]:
    """Every argument of a layer's constructor, inherited ones too, and its default."""
    found: dict[str, Any] = {}
    for owner in kind.__mro__:
        if "__init__" not in vars(owner):
            continue
        constructor = vars(owner)["__init__"]
        parameters = list(inspect.signature(constructor).parameters.values())[1:]
        named = [
            p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        ]
        found = {p.name: p.default for p in named} | found
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return found


def translated(
    config: Mapping[str, Any],
    source: type,
    target: type,
    names: Mapping[str, str],
    translate: Callable[[str, Any], Any],
) -> dict[str, Any]:
    """The arguments for `target` from the configuration of a `source`.

    Args:
        config: What `get_config` of the layer returns.
        source: Its class.
        target: The class of its counterpart.
        names: Arguments that the two call differently.
        translate: Turns the value of an argument into that of the counterpart.

    Raises:
        Unsupported: If an argument that is not at its default has no counterpart.
    """
    accepted, known = defaults(target), defaults(source)
    result = {}
    for key, value in config.items():
        name = names.get(key, key)
        if name.endswith("_initializer") or name == "trainable":
            continue  # copied, and set, when the layer is there
        if name in accepted or (name in _UNNAMED and value):
            result[name] = translate(name, value)
        elif not _is_default(name, value, known):
            raise Unsupported(f"its argument {key}={value!r} has no counterpart")
    return result


def _is_default(name: str, value: Any, known: Mapping[str, Any]) -> bool:
    if name in _WITHOUT_EFFECT or value is None or value is False:
        return True
    default = known.get(name, inspect.Parameter.empty)
    return _same(value, default) or _same(value, _CHANNELS_LAST.get(name))


def _same(value: Any, other: Any) -> bool:
    if isinstance(value, (list, tuple)):
        value = tuple(value)
    if isinstance(other, (list, tuple)):
        other = tuple(other)
    return bool(np.array_equal(value, other)) if value is not other else True


def policy_name(dtype: Any) -> str:
    """The name of a type policy, which both Keras understand."""
    if isinstance(dtype, Mapping):
        name = dtype.get("config", {}).get("name")
        if dtype.get("class_name") not in ("DTypePolicy", "FloatDTypePolicy", "Policy"):
            raise Unsupported(
                f"its type policy {dtype.get('class_name')} has no counterpart"
            )
        return str(name)
    return str(dtype)
