from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from kopt import _checks
from kopt._registry import register
from kopt.layers import _drop
from kopt.layers._random_layer import RandomLayer, Traits


@register("layers")
class DropPath(RandomLayer):
    """Stochastic depth: drops a whole residual branch at random in training.

    Put it at the end of a branch, before the addition: `x + DropPath(0.1)(branch(x))`.
    Where the branch is dropped the block is the identity, so a deep network trains as
    an ensemble of shallower ones. At inference the inputs come back untouched.

    Args:
        rate: Probability of dropping, from 0 to 1. `layer.rate = 0.3` moves it, for
            compiled steps too. It is saved with the configuration (a `.keras` file
            keeps the current rate) and is not one of the layer's weights.
        mode: `"row"` drops for each sample on its own, `"batch"` for all samples of
            the batch together, as the paper does.
        seed: Integer seed. Defaults to a new one for each layer. XLA draws other
            numbers from it than the uncompiled or plainly traced layer.
        scale_by_keep: Whether a branch that is kept is scaled by `1 / (1 - rate)`, so
            that its expected output is the one at inference. Without it the branch
            counts more at inference than it did on average in training.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Floating-point tensor, samples along its first axis.
        training: Whether to drop.

    Raises:
        ValueError: If `rate` is outside 0 to 1, or `mode` is unknown.

    References:
        Huang, Sun, Liu, Sedra, Weinberger: Deep Networks with Stochastic Depth, 2016,
        arXiv:1603.09382. Larsson, Maire, Shakhnarovich: FractalNet, 2016,
        arXiv:1605.07648.

    Example:

    >>> layer = kopt.layers.DropPath(0.5, seed=1)
    >>> outputs = np.array(layer(np.ones((1000, 3)), training=True))
    >>> sorted(set(map(tuple, outputs.tolist())))
    [(0.0, 0.0, 0.0), (2.0, 2.0, 2.0)]
    >>> kopt.layers.DropPath.linear_rates(depth=3, rate=0.2)
    [0.0, 0.1, 0.2]
    """

    _traits = Traits(variants=(dict, lambda: {"mode": "batch"}))

    def __init__(
        self,
        rate: float = 0.1,
        mode: str = "row",
        seed: int | None = None,
        *,
        scale_by_keep: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(rate=rate, seed=seed, **kwargs)
        self.mode = _checks.one_of("mode", mode, ("row", "batch"))
        self.scale_by_keep = bool(scale_by_keep)
        self.supports_masking = True

    @staticmethod
    def linear_rates(depth: int, rate: float, first: float = 0.0) -> list[float]:
        """Rates that rise evenly from the first block to the last.

        Early blocks extract what all later ones need, so they are dropped least.

        Args:
            depth: Number of blocks.
            rate: Rate of the last block, and of the only one where `depth` is 1.
            first: Rate of the first block. The default, 0, is what ConvNeXt uses;
                Huang et al. use `rate / depth`.

        Raises:
            ValueError: If `depth` is less than 1, or a rate outside 0 to 1.
        """
        depth = _checks.integer("depth", depth, low=1)
        rate = _checks.number("rate", rate, low=0.0, high=1.0)
        first = _checks.number("first", first, low=0.0, high=1.0)
        if depth == 1:
            return [rate]
        steps = depth - 1
        return [
            (first * (steps - block) + rate * block) / steps for block in range(depth)
        ]

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training:
            return inputs
        samples = ops.shape(inputs)[0] if self.mode == "row" else 1
        shape = (samples, *[1] * (len(inputs.shape) - 1))
        keep = _drop.keep_mask(shape, self._rate, self.seed_generator)
        if self.scale_by_keep:
            return _drop.drop(inputs, keep, self._rate)
        return _drop.select(inputs, keep)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        own = {"mode": self.mode, "scale_by_keep": self.scale_by_keep}
        return {**super().get_config(), **own}
