"""What every penalty shares."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import keras
from keras import ops

from kopt._keras.scoped_values import variable_read_as


@dataclass(frozen=True)
class Traits:
    """What a regularizer promises; the conformance suite holds it to that.

    The suite compares each with the function of the same name in
    `tests/reference/regularizers.py`, which takes the weights and the configuration.

    Attributes:
        configs: Constructor arguments to try; a model is trained with the first.
        shapes: Shapes of weights that the regularizer takes.
        penalizes: `"weights"`, `"activations"`, or `"distances"` of weights from values
            that `kopt.regularizers.apply` notes.
        values: Which numbers to try: `"normal"`, or `"unit"` for ones between 0 and 1.
        is_flat_at_zero: Whether zeros have the slope zero.
        tolerance: Relative error in float32. Above 1e-6 only where the formula takes a
            difference of near numbers.
    """

    configs: tuple[dict[str, Any], ...]
    shapes: tuple[tuple[int, ...], ...] = field(
        default=((), (7,), (5, 3), (3, 3, 4, 6))
    )
    penalizes: str = "weights"
    values: str = "normal"
    is_flat_at_zero: bool = True
    tolerance: float = 1e-6


class Penalty(keras.regularizers.Regularizer):
    """A penalty that is one formula on an array of weights, or of activations.

    A subclass gives `penalty`, its numbers as `LiveFloat` attributes, and `get_config`.
    """

    _traits: ClassVar[Traits]

    def __call__(self, x: Any) -> Any:
        """The penalty on one variable or tensor, a scalar of type `floatx`."""
        # Sums of many small terms vanish in half precision.
        weights = ops.convert_to_tensor(x)
        wide = ops.cast(weights, keras.backend.result_type(weights.dtype, "float32"))
        is_variable = isinstance(x, keras.Variable)
        wide = self.arranged(wide, x if is_variable else variable_read_as(x))
        # The loss that Keras adds it to has this type, whatever type the layer has.
        return ops.cast(self.penalty(wide), keras.config.floatx())

    def arranged(self, weights: Any, variable: keras.Variable | None) -> Any:
        """The weights of a variable in the order that `penalty` takes them in.

        Args:
            weights: Its values in float32 or float64.
            variable: The variable, or `None` for an array that belongs to none.
        """
        return weights

    @abstractmethod
    def penalty(self, weights: Any) -> Any:
        """The penalty on an array of float32 or float64."""

    @abstractmethod
    def get_config(self) -> dict[str, Any]:
        """The constructor arguments, with each number as it is now."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies and pickles go by the configuration: a variable cannot be pickled.
        return self.from_config, (self.get_config(),)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({arguments})"
