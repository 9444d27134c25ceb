"""What stands between a model and the other Keras."""

from __future__ import annotations

from collections.abc import Mapping

from kopt._registry import register


@register("tfmot", serializable=False)
class UnsupportedLayerError(ValueError):
    """Layers of a model have no counterpart in the other Keras.

    Args:
        target: The Keras that the model was to go to: `"tf_keras"` or `"Keras 3"`.
        reasons: Why, by the path of the layer in the model. All layers are in it, not
            only the first.
    """

    def __init__(self, target: str, reasons: Mapping[str, str]) -> None:
        listed = "\n".join(f"- {path}: {reason}" for path, reason in reasons.items())
        super().__init__(
            f"{len(reasons)} of the model's layers cannot go to {target}:\n{listed}\n"
            "Replace them, or say with `converters` what to build in their place: a "
            "dict from a layer's class to a function that takes the layer and returns "
            f"a layer of {target}."
        )
        self.target = target
        self.reasons = dict(reasons)
