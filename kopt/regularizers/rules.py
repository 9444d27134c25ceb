from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kopt import _checks, _registry
from kopt._keras.compiled import forget_compiled_functions
from kopt._registry import register
from kopt.regularizers import _anchors, _configuration
from kopt.regularizers._activations import ActivityPenalty
from kopt.regularizers._targets import Target, share_with_attentions, targets_of

_MAIN_WEIGHTS = ("kernel", "depthwise_kernel", "pointwise_kernel", "embeddings")
_LISTED = 20

Rules = Mapping[Any, Any] | Sequence[tuple[Any, Any]]


@register("regularizers")
def apply(
    model: keras.Model,
    rules: Rules,
    weights: str | Sequence[str] = _MAIN_WEIGHTS,
    *,
    fisher: Sequence[Any] | None = None,
) -> keras.Model:
    """Put regularizers on the weights of a model that already exists.

    For a model from `keras.applications`, from a file, or from other people's code,
    whose layers were made without regularizers. Works in place, on sequential,
    functional, nested and subclassed models. The next `fit` traces its step again, with
    the penalties in it, as do models around this one.

    `model.save` and `model.from_config(model.get_config())` keep the penalties of all
    layers; `keras.models.clone_model` keeps them in functional models, and in
    sequential and subclassed ones where the configuration of a layer has a place for
    them. It has in all layers of Keras, attention included if all of its kernels get
    the same one. It has not in layers of your own whose `get_config` does not tell of
    the layers and weights inside, nor for single projections of an attention: call
    `apply` again on a clone of a sequential model, or of a single layer, with these.

    Args:
        model: A built Keras model.
        rules: Pairs of match and regularizer, as a dict or a list. A match is

            - a string: a regular expression, searched for in the layer's path inside
              the model, such as `"encoder/dense_1"`;
            - a layer class;
            - a layer;
            - a function that takes a layer and returns whether it matches.

            A layer that matches takes all layers inside it along. A regularizer is an
            object, a name from `kopt.regularizers`, or `None` to remove the one that
            is there. Where several rules mean the same weight, the last one counts.
            Layers that get the same object share it: moving its factor moves it for
            all, until the model is saved and loaded and each has one of its own.
        weights: Names of the weights that get regularizers. Defaults to kernels and
            embeddings; `"bias"`, `"recurrent_kernel"` and `("gamma", "beta")` are
            others. As always in Keras, weights that are frozen are not penalized.

        fisher: For `EWC`: how much each weight matters, as `estimate_fisher` gives it:
            one array for each of `model.weights`.

    `L2SP` and `EWC` hold weights to the values that these have when `apply` is called.
    The values are saved with the model; a clone has none, so call `apply` on it.

    Returns:
        The same model.

    Raises:
        ValueError: If a rule matches no weight of those names, if a regularizer is for
            what layers put out, or if `fisher` is missing for `EWC`, given without it
            or of other shapes than the weights. Nothing is changed then.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> model.layers[0].set_weights([np.full((2, 3), 0.5), np.zeros(3)])
    >>> penalty = kopt.regularizers.L2(2.0)
    >>> model = kopt.regularizers.apply(model, {"dense": penalty})
    >>> [float(loss) for loss in model.losses]
    [3.0]
    """
    _checks.keras_model("model", model)
    names = (weights,) if isinstance(weights, str) else tuple(weights)
    targets = targets_of(model)
    plan = [
        (target, regularizer)
        for match, regularizer in _checked(rules)
        for target in _matching(match, targets, names)
    ]
    final = {id(target.variable): regularizer for target, regularizer in plan}
    importance = _importance(model, final, fisher)
    for target, regularizer in plan:
        target.regularize(regularizer)
    share_with_attentions(targets)
    _configuration.keep_where_forgotten([target for target, _ in plan])
    changed = [weight for weight in model.weights if id(weight) in final]
    _anchors.hold(model, changed, importance)
    # A step that was traced before knows nothing of the new penalties.
    forget_compiled_functions(model)
    return model


def _checked(rules: Rules) -> list[tuple[Any, Callable[..., Any] | None]]:
    if isinstance(rules, Mapping):
        pairs = list(rules.items())
    else:
        pairs = [tuple(rule) for rule in rules]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise ValueError(
            "`rules` must be a dict, or a list of pairs, of a match and a regularizer. "
            f"Received: rules={rules!r}."
        )
    return [(_checked_match(match), _regularizer(given)) for match, given in pairs]


def _checked_match(match: Any) -> Any:
    if not isinstance(match, str):
        if callable(match):
            return match
        raise TypeError(
            "A match in `rules` must be a regular expression, a layer class, a layer, "
            f"or a function of a layer. Received: {match!r}."
        )
    try:
        re.compile(match)
    except re.error as error:
        raise ValueError(
            f"A match in `rules` is no regular expression: {match!r} ({error}). Put a "
            "backslash before characters that are meant as they are."
        ) from error
    return match


def _regularizer(given: Any) -> Callable[..., Any] | None:
    if isinstance(given, str):
        given = _registry.get("regularizers", given)
    regularizer = keras.regularizers.get(given)
    if isinstance(regularizer, ActivityPenalty):
        name = type(regularizer).__name__
        raise ValueError(
            "A rule puts penalties on weights. Received: "
            f"{regularizer!r}, a penalty on what a layer puts out. Set it on the "
            f"layers before you compile: `layer.activity_regularizer = {name}(...)`."
        )
    return regularizer


def _importance(
    model: keras.Model, regularizers: Mapping[int, Any], fisher: Sequence[Any] | None
) -> dict[int, np.ndarray]:
    """How much each number of a weight matters, by the `id` of the weight."""
    held = {
        key
        for key, one in regularizers.items()
        if isinstance(one, _anchors.AnchoredPenalty)
    }
    scalars = [w.path for w in model.weights if id(w) in held and not len(w.shape)]
    if scalars:
        raise ValueError(
            f"Single numbers cannot be held to a value. Received: {scalars}. Name "
            "weights with axes in `weights`."
        )
    needing = {key for key in held if regularizers[key].needs_importance}
    if bool(needing) is not (fisher is not None):
        raise ValueError(
            "`fisher` says what matters to `EWC`: give both or none. Received: "
            f"{'no `fisher`' if needing else '`fisher` without `EWC`'}. Measure it "
            "with `kopt.regularizers.estimate_fisher(model, data)`."
        )
    if fisher is None:
        return {}
    arrays = [np.asarray(array, "float32") for array in fisher]
    shapes = [array.shape for array in arrays]
    if shapes != [tuple(weight.shape) for weight in model.weights]:
        raise ValueError(
            "`fisher` must have one array for each of `model.weights`, of its shape. "
            f"Received: arrays of the shapes {shapes}. Measure it on this model."
        )
    if any(not np.isfinite(array).all() or (array < 0).any() for array in arrays):
        raise ValueError(
            "`fisher` must be finite and at least 0, for it is a mean of squares. "
            "Measure it with `kopt.regularizers.estimate_fisher(model, data)`."
        )
    pairs = zip(model.weights, arrays, strict=True)
    return {id(weight): array for weight, array in pairs if id(weight) in needing}


def _matching(
    match: Any, targets: list[Target], names: tuple[str, ...]
) -> list[Target]:
    found = [
        target
        for target in targets
        if target.variable.name in names and target.matches(match)
    ]
    if not found:
        raise ValueError(
            f"The rule {match!r} matches no layer with a weight named "
            f"{' or '.join(map(repr, names))}. The layers with weights are: "
            f"{_listing(targets)}."
        )
    return found


def _listing(targets: list[Target]) -> str:
    weights: dict[str, list[str]] = {}
    for target in targets:
        weights.setdefault(target.path, []).append(target.variable.name)
    lines = [f"{path!r} ({', '.join(names)})" for path, names in weights.items()]
    more = len(lines) - _LISTED
    return ", ".join(lines[:_LISTED]) + (f" and {more} more" if more > 0 else "")
