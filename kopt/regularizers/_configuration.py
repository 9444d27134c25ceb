"""Regularizers that a model's own configuration would forget.

Keras rebuilds a model from its configuration. That of a subclassed model, and of a
layer that makes layers of its own (multi-head attention, a residual block), does not
mention the layers inside, so a regularizer put on one of them would be lost on loading.
Such a model gets a class that saves the regularizers of all weights next to the
configuration of the class it had, and puts them back.
"""

from __future__ import annotations

import contextlib
import warnings
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from kopt._keras.saved_whole import SavedWhole, refuse_h5
from kopt.regularizers._targets import Target, share_with_attentions

_NAME = "KeepsRegularizers"


def keep_where_forgotten(targets: Sequence[Target]) -> None:
    """Let each model that holds targets, and would forget some, save them."""
    depths: dict[int, tuple[int, keras.Model]] = {}
    for target in targets:
        for depth, (_, layer) in enumerate(target.lineage):
            if isinstance(layer, keras.Model):
                depths[id(layer)] = depth, layer
    # The innermost first: what it saves is saved by those around it.
    for _, model in sorted(depths.values(), key=lambda pair: -pair[0]):
        inside = [
            target
            for target in targets
            if any(layer is model for _, layer in target.lineage)
        ]
        if not is_kept(model, inside):
            keep(model)


def is_kept(model: keras.Model, targets: Sequence[Target]) -> bool:
    """Whether the model's configuration mentions the regularizers of all targets."""
    if isinstance(model, KeepsRegularizers):
        return True
    own = {id(target.variable): target.variable.regularizer for target in targets}
    marks: dict[Any, _Mark] = {}
    for target in targets:
        target.regularize(marks.setdefault(_place(target, own), _Mark()))
    share_with_attentions(targets)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.get_config()
    except Exception:
        # A model that cannot be saved at all, which is no matter of ours.
        return True
    finally:
        for target in targets:
            target.regularize(own[id(target.variable)])
        share_with_attentions(targets)
    return all(mark.was_asked for mark in marks.values())


def _place(target: Target, own: dict[int, Any]) -> Any:
    """What a mark is for: one weight, or those of an attention with one regularizer."""
    if target.attention is None:
        return id(target.variable)
    kind = target.variable.name, id(own[id(target.variable)])
    return id(target.attention), *kind


def keep(model: keras.Model) -> None:
    """Let a model save the regularizers of its weights from now on."""
    plain = type(model)
    body = {
        "class_before": plain,
        "kept_by": weakref.ref(model),
        "__module__": plain.__module__,
        "__doc__": plain.__doc__,
    }
    # A class of its own: Keras makes clones by calling it, and says no more than that.
    kind = type(plain.__name__, (KeepsRegularizers, plain), body)
    # All go by one name in files: each can load what any of them has saved.
    model.__class__ = keras.saving.register_keras_serializable("kopt", _NAME)(kind)


class _Mark(keras.regularizers.Regularizer):
    """Notices whether it gets into a configuration."""

    was_asked = False

    def get_config(self) -> dict[str, Any]:
        self.was_asked = True
        return {}


@keras.saving.register_keras_serializable("kopt", _NAME)
class KeepsRegularizers(SavedWhole):
    """Comes before a model's class and saves its regularizers with it."""

    class_before: type
    #: The model whose class it is.
    kept_by: weakref.ref[keras.Model]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        clone = cls.class_before(*args, **kwargs)
        original = cls.kept_by()
        if original is not None:
            _copy(original, clone)
        return clone

    def get_config(self) -> dict[str, Any]:
        refuse_h5(self)
        with _as_plain(self):
            model = keras.saving.serialize_keras_object(self)
        # Compiling is left to Keras, which may have been told not to.
        model.pop("compile_config", None)
        regularizers = [
            {"index": index, "weight": weight.name, "regularizer": weight.regularizer}
            for index, weight in enumerate(self.weights)  # type: ignore[attr-defined]
            if weight.regularizer is not None
        ]
        return {
            "model": model,
            "regularizers": keras.saving.serialize_keras_object(regularizers),
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> keras.Model:
        model = keras.saving.deserialize_keras_object(config["model"], custom_objects)
        saved = keras.saving.deserialize_keras_object(
            config["regularizers"], custom_objects
        )
        if model.built:
            _put_back(model, saved)
        else:
            warnings.warn(
                f"{model.name!r} could not be built from its configuration, so the "
                "penalties that `kopt.regularizers.apply` put on its weights are not "
                "there. Call the model on a batch, then `apply` again.",
                stacklevel=2,
            )
        keep(model)
        return model


def _copy(original: keras.Model, clone: keras.Model) -> None:
    """Give a clone the regularizers of the model that it was made from."""
    names = [weight.name for weight in original.weights]
    if names != [weight.name for weight in clone.weights]:
        warnings.warn(
            f"{original.name!r} has penalties that `kopt.regularizers.apply` put on "
            "weights inside of layers. The model that was made from it has other "
            "weights, so they are not copied: call `apply` on it.",
            stacklevel=4,
        )
        return
    for weight, twin in zip(original.weights, clone.weights, strict=True):
        twin.regularizer = weight.regularizer
    keep(clone)


def _put_back(model: keras.Model, saved: list[dict[str, Any]]) -> None:
    found = {index: weight.name for index, weight in enumerate(model.weights)}
    for entry in saved:
        if found.get(entry["index"]) != entry["weight"]:
            raise ValueError(
                f"The file has a regularizer for weight {entry['index']} of "
                f"{type(model).__name__}, {entry['weight']!r}, but the class now makes "
                f"{found.get(entry['index'])!r} there. Load the file with the code "
                "that it was saved with."
            )
    regularizers = {entry["index"]: entry["regularizer"] for entry in saved}
    for index, weight in enumerate(model.weights):
        weight.regularizer = regularizers.get(index)


@contextlib.contextmanager
def _as_plain(model: Any) -> Iterator[None]:
    current = type(model)
    model.__class__ = current.class_before
    try:
        yield
    finally:
        model.__class__ = current
