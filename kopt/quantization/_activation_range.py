"""The range of one tensor inside a model, and fake-quantization to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import keras
import tensorflow as tf

from kopt._keras.swapped_variables import assignments_last, values_are_real
from kopt.quantization import ranges
from kopt.quantization._relevant_values import AddedMask, NearLargest
from kopt.quantization._replicas import count, extremes_of_all
from kopt.quantization._saturation import Saturation


@keras.saving.register_keras_serializable(package="kopt")
class _AtMostZero(keras.constraints.Constraint):
    """Keeps the lower end of a range from passing zero."""

    def __call__(self, w: Any) -> Any:
        return keras.ops.minimum(w, 0.0)


Limit = ranges.AtMost | NearLargest | AddedMask
_LIMITS = {one.__name__: one for one in (ranges.AtMost, NearLargest, AddedMask)}


@keras.saving.register_keras_serializable(package="kopt")
class ActivationRange(keras.layers.Layer):
    """Rounds a tensor to the grid of a range that follows the training data.

    `calibrate` sets the range. In training each batch moves it by `rate` toward the
    batch's own smallest and largest value, over all replicas; at inference, and in a
    layer that is frozen (`trainable = False`), it stands still.

    Args:
        bits: Bits of the grid.
        rate: Share of a new batch in the moving average, 0 to 1. It is kept in a
            variable, so that it can change in the middle of `fit`.
        learned: Whether the gradient of the loss moves the range, not the average.
        fixed: `(low, high)` of a range that is known beforehand and never moves.
        limit: How far data may move the range, or which of their values may.
        catches_up: Whether the range moves at once to a batch that is far from it.
    """

    def __init__(
        self,
        bits: int = 8,
        rate: float = 0.01,
        fixed: tuple[float, float] | None = None,
        learned: bool = False,
        limit: Limit | None = None,
        catches_up: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.bits = bits
        self.rate = rate
        self.learned = learned and fixed is None
        self.fixed = None if fixed is None else (float(fixed[0]), float(fixed[1]))
        self.limit = limit
        self.catches_up = catches_up
        low, high = self.fixed or (0.0, 0.0)
        self.low = self._end("low", low, _AtMostZero())
        self.high = self._end("high", high, keras.constraints.NonNeg())
        self.current_rate = self._scalar("rate", 0.0 if fixed else rate)
        # Set by `calibrate` for its time: takes each tensor that comes by.
        self.observer: Callable[[Any], None] | None = None
        self._known_calibrated = False
        # A prescribed range, and a limit, cut off what they are meant to.
        self._saturation = Saturation() if fixed is None and limit is None else None

    def _end(self, name: str, value: float, constraint: Any) -> keras.Variable:
        if not self.learned:
            return self._scalar(name, value)
        return self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(value),
            constraint=constraint,
            name=name,
        )

    def _scalar(self, name: str, value: float) -> keras.Variable:
        return self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(value),
            trainable=False,
            name=name,
        )

    @property
    def calibrated(self) -> bool:
        """Whether the range has a width; read from the variables, not the graph."""
        with tf.init_scope():
            return bool(self.high.numpy() > self.low.numpy())

    def grid(self) -> ranges.Grid:
        """The grid of the range as it is now."""
        self._require_calibration()
        return ranges.grid(float(self.low.numpy()), float(self.high.numpy()), self.bits)

    def set_range(self, low: float, high: float) -> None:
        """Set the range to one around `[low, high]` and zero, but for the limit."""
        low, high = ranges.enclosing_range(low, high)
        if isinstance(self.limit, ranges.AtMost):
            low, high = max(low, self.limit.low), min(high, self.limit.high)
        self.low.assign(low)
        self.high.assign(high)
        if self._saturation is not None:
            self._saturation.forget()

    def set_rate(self, rate: float) -> None:
        """Set the share of a new batch; 0 freezes the range."""
        if self.fixed is None:
            self.current_rate.assign(rate)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if self.observer is not None:
            self.observer(self._relevant(inputs))
            return inputs
        self._require_calibration()
        learns = training and self.trainable
        moved = None
        if learns and not self.learned and self.fixed is None:
            moved = self._follow(inputs)
        self._watch(inputs, training)
        if self.learned and learns:
            ends = self.low.value, self.high.value, self.current_rate
            return ranges.fake_quantize_learned(inputs, *ends, self.bits, count())
        low, high = moved or (self.low.value, self.high.value)
        return ranges.fake_quantize(inputs, low, high, bits=self.bits)

    def _watch(self, inputs: Any, training: bool | None) -> None:
        """Note what a training step cuts off; the next use outside of one says it."""
        if self._saturation is None or not values_are_real():
            return
        if training:
            self._saturation.note(inputs, self.low.value, self.high.value)
        else:
            self._saturation.warn(self.path or self.name, self.low, self.high)

    def _follow(self, inputs: Any) -> tuple[Any, Any] | None:
        """Move with the data; the ends, where variables cannot hold them."""
        values = self._relevant(tf.stop_gradient(tf.cast(inputs, tf.float32)))
        low, high = extremes_of_all(tf.reduce_min(values), tf.reduce_max(values))
        low, high = tf.minimum(low, 0.0), tf.maximum(high, 0.0)
        if isinstance(self.limit, ranges.AtMost):
            low = tf.maximum(low, self.limit.low)
            high = tf.minimum(high, self.limit.high)
        old = (self.low.value, self.high.value)
        # A batch of zeros says nothing of the range, and must not make it vanish; nor
        # does one that overflowed, after which no value would be a number.
        width = high - low
        known = tf.logical_and(width > ranges.NARROWEST, width < float("inf"))
        batch = tf.where(known, low, old[0]), tf.where(known, high, old[1])
        moved = ranges.following if self.catches_up else ranges.averaged
        low, high = moved(old, batch, self.current_rate.value)
        if not assignments_last():
            return low, high
        self.low.assign(low)
        self.high.assign(high)
        return None

    def _relevant(self, values: Any) -> Any:
        if self.limit is None or isinstance(self.limit, ranges.AtMost):
            return values
        return self.limit.relevant(values)

    def _require_calibration(self) -> None:
        # Outside of the graph: once for each trace, at no cost for a step.
        if self._known_calibrated or not values_are_real():
            return
        if not self.calibrated:
            raise RuntimeError(
                f"The range {self.path or self.name!r} has not been calibrated. Run "
                "`kopt.quantization.calibrate(model, data)`, pass `calibration_data` "
                "to `quantize_model`, or load weights that hold ranges."
            )
        self._known_calibrated = True

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        limit = None
        if self.limit is not None:
            limit = {"kind": type(self.limit).__name__, **asdict(self.limit)}
        return {
            **super().get_config(),
            "bits": self.bits,
            "rate": self.rate,
            "fixed": self.fixed,
            "learned": self.learned,
            "limit": limit,
            "catches_up": self.catches_up,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ActivationRange:
        limit = config.get("limit")
        if isinstance(limit, dict):
            arguments = dict(limit)
            kind = _LIMITS[arguments.pop("kind", "AtMost")]
            config = {**config, "limit": kind(**arguments)}
        return cls(**config)
