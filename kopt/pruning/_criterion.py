"""What makes a weight worth keeping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import keras
from keras import ops

from kopt.pruning._pattern import Pattern

if TYPE_CHECKING:
    from kopt.pruning._group import MaskConstraint

Tensor = Any


class Criterion:
    """Scores the weights; those with the smallest scores are pruned.

    A subclass writes `scores`. It may keep variables beside each weight, which are
    saved with the model, and look at each update.
    """

    #: Whether a score below zero is a low one. Else only its magnitude counts.
    signed = False
    #: Whether all weights are scored at once, so that they have to be one group.
    scores_together = False
    #: Whether it has all that it needs; not so before its arrays are read from a file.
    ready = True

    def scores(
        self, members: Sequence[MaskConstraint], candidates: Sequence[Tensor]
    ) -> list[Tensor]:
        """One float32 score for each weight, the larger the more it is worth.

        Args:
            members: The variables with their masks.
            candidates: Their values, as they would be without a mask.
        """
        raise NotImplementedError

    def check(self, pattern: Pattern, schedule: Any) -> None:
        """Raise a `ValueError` where pattern or schedule do not go with this."""

    def bind(self, model: keras.Model) -> None:
        """Get to know the model that is pruned."""

    def memory(self, variable: keras.Variable) -> dict[str, Tensor]:
        """First values of what is kept beside a variable, by name."""
        return {}

    def observe(self, member: MaskConstraint, weights: Tensor) -> None:
        """See a variable after an update, before its mask is renewed."""

    def unmasked(self, member: MaskConstraint, weights: Tensor) -> Tensor:
        """What the weights are where a mask that was renewed lets them."""
        return weights

    def settle(self, member: MaskConstraint, weights: Tensor) -> None:
        """See the values that an update ends with, after an earlier constraint."""

    def arrays(self) -> dict[str, Any]:
        """Arrays to store with the masks, by name."""
        return {}

    def take_arrays(self, arrays: Mapping[str, Any]) -> None:
        """Take up the arrays that were stored."""

    def get_config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config)


@keras.saving.register_keras_serializable(package="kopt")
class Magnitude(Criterion):
    """A weight is worth its absolute value."""

    def scores(
        self, members: Sequence[MaskConstraint], candidates: Sequence[Tensor]
    ) -> list[Tensor]:
        return [ops.cast(values, "float32") for values in candidates]
