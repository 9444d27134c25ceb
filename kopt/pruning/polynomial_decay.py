from __future__ import annotations

from typing import Any

from keras import ops

from kopt import _checks
from kopt._registry import register
from kopt.pruning._schedule import Ramp


@register("pruning")
class PolynomialDecay(Ramp):
    """Sparsity that grows fast at first and slowly towards its end.

    Most weights go while there are many to spare and much training is left to make
    good for them. At step `t` the sparsity is

        final + (initial - final) * (1 - (t - begin) / (end - begin)) ** power

    The last renewal falls on `end_step` only if `end_step - begin_step` is a multiple
    of `frequency`; if not, the sparsity stays a little below `final_sparsity`.

    Args:
        initial_sparsity: The sparsity at `begin_step`, from 0 to below 1.
        final_sparsity: The sparsity at `end_step`, from 0 to below 1.
        begin_step: The first step that prunes. Steps count from 1; with 0 the first
            pruning is at step `frequency`.
        end_step: The last step that renews the masks; they stay in force after it.
        power: The exponent. 1 grows linearly. Defaults to 3.
        frequency: Steps from one renewal to the next. Defaults to 100.

    Raises:
        ValueError: If a sparsity is not in [0, 1), if `end_step` comes before
            `begin_step`, or if `frequency` is less than 1.

    References:
        Zhu & Gupta, 2017, "To prune, or not to prune: exploring the efficacy of
        pruning for model compression", arXiv:1710.01878.

    Example:

    >>> schedule = kopt.pruning.PolynomialDecay(0.0, 0.8, begin_step=0, end_step=1000)
    >>> [round(float(schedule(step)[1]), 3) for step in (0, 250, 500, 1000)]
    [0.0, 0.463, 0.7, 0.8]
    """

    def __init__(
        self,
        initial_sparsity: float,
        final_sparsity: float,
        begin_step: int,
        end_step: int,
        power: float = 3,
        frequency: int = 100,
    ) -> None:
        super().__init__(
            initial_sparsity, final_sparsity, begin_step, end_step, frequency
        )
        self.power = _checks.number("power", power, low=0.0, low_open=True)

    def ahead(self, progress: Any) -> Any:
        return ops.power(1.0 - progress, self.power)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "power": self.power}
