"""Ranges that stop following the data."""

from __future__ import annotations

from typing import Any

import keras

from kopt import _checks
from kopt._keras.compiled import forget_compiled_functions
from kopt._keras.layer_tree import nested_layers
from kopt._registry import register
from kopt.quantization._layer_quantizer import LayerQuantizer
from kopt.quantization._quantized_container import keep_in_config
from kopt.quantization._quantized_layer import (
    QuantizedLayer,
    attach,
    require_quantized,
)


@register("quantization")
def freeze_ranges(model: keras.Model, *, frozen: bool = True) -> keras.Model:
    """Have the ranges of a quantized model stand still in training, or move again.

    Late in training, ranges that no longer move let the weights settle on them. The
    switch is a variable: it takes effect in the middle of `fit`, from a callback,
    without a new trace, and is saved with the weights.

    Args:
        model: A quantized model; it is changed in place.
        frozen: `False` lets ranges follow the data again.

    Returns:
        The same model.

    Raises:
        ValueError: If the model is not quantized.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> data = np.ones((8, 4), "float32")
    >>> model = kopt.quantization.quantize_model(model, calibration_data=data)
    >>> model = kopt.quantization.freeze_ranges(model)
    >>> _ = model(100 * data, training=True)
    >>> float(model.layers[0].quantizer.ranges["input_0"].high.numpy())
    1.0
    """
    for layer in require_quantized(model):
        for one in layer.quantizer.ranges.values():
            one.set_rate(0.0 if frozen else one.rate)
    return model


@register("quantization")
def freeze_batch_norm(model: keras.Model, *, frozen: bool = True) -> keras.Model:
    """Have batch normalizations use their moving statistics in training, too.

    As the integer model does: in the end a batch's own statistics only add noise to
    what the weights and ranges settle on. Scales and offsets go on training. In the
    middle of `fit` use `FreezeLate`; otherwise a step is traced anew.

    Args:
        model: A quantized model; it is changed in place.
        frozen: `False` goes back to the statistics of the batch.

    Returns:
        The same model.

    Raises:
        ValueError: If the model is not quantized.

    Example:

    >>> norm = keras.layers.BatchNormalization()
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2), norm])
    >>> data = np.ones((8, 4), "float32")
    >>> model = kopt.quantization.quantize_model(model, calibration_data=data)
    >>> model = kopt.quantization.freeze_batch_norm(model)
    >>> bool(np.allclose(model(data, training=True), model(data, training=False)))
    True
    """
    require_quantized(model)
    for layer in nested_layers(model):
        if not isinstance(layer, keras.layers.BatchNormalization):
            continue
        if not isinstance(layer, QuantizedLayer):
            attach(layer, LayerQuantizer(name=f"{layer.name}_quantizer"))
        layer.quantizer.statistics_frozen = frozen
    keep_in_config(model)
    forget_compiled_functions(model)
    return model


@register("quantization", serializable=False)
class FreezeLate(keras.callbacks.Callback):
    """Freezes ranges, then statistics of batch normalization, late in a `fit`.

    Args:
        ranges_at: Share of the epochs after which ranges stand still, 0 to 1; None
            for never.
        batch_norm_at: Share of the epochs after which batch normalizations use their
            moving statistics; None for never. The next step is traced anew.

    Raises:
        ValueError: If a share is not between 0 and 1.

    References:
        - Krishnamoorthi, 2018, Quantizing deep convolutional networks for efficient
          inference: A whitepaper, arXiv:1806.08342

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> data = np.ones((8, 4), "float32")
    >>> model = kopt.quantization.quantize_model(model, calibration_data=data)
    >>> model.compile("sgd", "mse")
    >>> late = kopt.quantization.FreezeLate(ranges_at=0.5)
    >>> _ = model.fit(data, data[:, :2], epochs=4, verbose=0, callbacks=[late])
    >>> float(model.layers[0].quantizer.ranges["output"].current_rate.numpy())
    0.0
    """

    #: A trial of training, which leaves the model as it was, must not run beside it.
    changes_model = True

    def __init__(
        self, ranges_at: float | None = 0.5, batch_norm_at: float | None = 0.75
    ) -> None:
        super().__init__()
        for name, share in (("ranges_at", ranges_at), ("batch_norm_at", batch_norm_at)):
            if share is not None:
                _checks.number(name, share, low=0, high=1)
        self.ranges_at = ranges_at
        self.batch_norm_at = batch_norm_at
        self._statistics_frozen = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._statistics_frozen = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        epochs = self.params["epochs"]
        if self.ranges_at is not None and epoch == round(self.ranges_at * epochs):
            freeze_ranges(self.model)
        if self.batch_norm_at is None:
            return
        if epoch == round(self.batch_norm_at * epochs):
            self._freeze_statistics()

    def get_state(self) -> dict[str, Any]:
        """What is frozen beside ranges, which are so in their variables."""
        return {"statistics_frozen": self._statistics_frozen}

    def set_state(self, state: dict[str, Any]) -> None:
        """Freeze what was frozen in the run that goes on."""
        if state["statistics_frozen"] and not self._statistics_frozen:
            self._freeze_statistics()

    def _freeze_statistics(self) -> None:
        freeze_batch_norm(self.model)
        self._statistics_frozen = True
