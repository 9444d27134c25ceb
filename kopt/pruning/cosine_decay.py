from __future__ import annotations

import math
from typing import Any

from keras import ops

from kopt._registry import register
from kopt.pruning._schedule import Ramp


@register("pruning")
class CosineDecay(Ramp):
    """Sparsity that grows slowly at first and at its end, fast in between.

    The network has time to get used to the first zeros and to the last ones. At step
    `t` the sparsity is

        final + (initial - final) * (1 + cos(pi (t - begin) / (end - begin))) / 2

    The last renewal falls on `end_step` only if `end_step - begin_step` is a multiple
    of `frequency`; if not, the sparsity stays a little below `final_sparsity`.

    Args:
        initial_sparsity: The sparsity at `begin_step`, from 0 to below 1.
        final_sparsity: The sparsity at `end_step`, from 0 to below 1.
        begin_step: The first step that prunes. Steps count from 1; with 0 the first
            pruning is at step `frequency`.
        end_step: The last step that renews the masks; they stay in force after it.
        frequency: Steps from one renewal to the next. Defaults to 100.

    Raises:
        ValueError: If a sparsity is not in [0, 1), if `end_step` comes before
            `begin_step`, or if `frequency` is less than 1.

    References:
        The curve is that of Loshchilov & Hutter, 2016, arXiv:1608.03983, put to the
        use of Zhu & Gupta, 2017, arXiv:1710.01878.

    Example:

    >>> schedule = kopt.pruning.CosineDecay(0.0, 0.8, begin_step=0, end_step=1000)
    >>> [round(float(schedule(step)[1]), 3) for step in (0, 250, 500, 1000)]
    [0.0, 0.117, 0.4, 0.8]
    """

    def ahead(self, progress: Any) -> Any:
        return (1.0 + ops.cos(math.pi * progress)) / 2
