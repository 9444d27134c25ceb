"""What the layers that drop blocks of a map share, whatever the map's rank."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kopt import _checks
from kopt.layers import _drop
from kopt.layers._random_layer import RandomLayer


class DropBlock(RandomLayer):
    """Drops blocks of a map; a subclass says how many axes the map has."""

    #: How many axes a map has beside samples and channels.
    map_rank: ClassVar[int]

    def __init__(
        self,
        rate: float = 0.1,
        block_size: int | Sequence[int] = 7,
        seed: int | None = None,
        *,
        couple_channels: bool = True,
        scale_by_count: bool = False,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(rate=rate, seed=seed, **kwargs)
        self.block_size = _checked_size(block_size, self.map_rank)
        self.couple_channels = bool(couple_channels)
        self.scale_by_count = bool(scale_by_count)
        self.data_format = _checks.one_of(
            "data_format",
            data_format or keras.config.image_data_format(),
            ("channels_last", "channels_first"),
        )
        self.supports_masking = True

    def build(self, input_shape: Sequence[int | None]) -> None:
        name, rank = type(self).__name__, self.map_rank + 2
        if len(input_shape) != rank:
            raise ValueError(
                f"{name} takes inputs of {rank} axes: samples, {self.map_rank} of the "
                f"map, and channels. Received: inputs of shape {tuple(input_shape)}."
            )
        first = 1 if self._channels_last else 2
        sizes = input_shape[first : first + self.map_rank]
        pairs = zip(sizes, self.block_size, strict=True)
        if any(size is not None and size < block for size, block in pairs):
            raise ValueError(
                "`block_size` must be at most the size of the map. Received: "
                f"block_size={self.block_size} for a map of {tuple(sizes)}, in inputs "
                f"of shape {tuple(input_shape)} with data_format={self.data_format!r}. "
                "Give a smaller block."
            )
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training:
            return inputs
        keep = self._keep(ops.shape(inputs))
        if not self.scale_by_count:
            return _drop.drop(inputs, keep, self._rate)
        # The share that is dropped here, of each sample, in the place of the rate.
        kept = ops.cast(keep, "float32")
        share = ops.mean(kept, axis=tuple(range(1, len(keep.shape))), keepdims=True)
        return _drop.drop(inputs, keep, 1 - share)

    def _keep(self, shape: Sequence[Any]) -> Any:
        """Booleans like the inputs, with an axis of size 1 for coupled channels."""
        samples, *rest = shape
        *sizes, channels = rest if self._channels_last else [*rest[1:], rest[0]]
        # Blocks that stick out at the edges are drawn too: then each place is in
        # equally many blocks, and is dropped with the same probability.
        places = [
            size + block - 1 for size, block in zip(sizes, self.block_size, strict=True)
        ]
        layers = 1 if self.couple_channels else channels
        if self._channels_last:
            return self._uncovered((samples, *places, layers))
        # Processors pool only with channels last, and each channel is on its own.
        flat = self._uncovered((samples * layers, *places, 1))
        return ops.reshape(flat, (samples, layers, *sizes))

    def _uncovered(self, places: Sequence[Any]) -> Any:
        """Where no block lies, of those that begin at places drawn at random."""
        # 1 - (1 - rate)^(1 / size), which is lost in the digits when written so.
        size = math.prod(self.block_size)
        rate = -ops.expm1(ops.log1p(-ops.convert_to_tensor(self._rate)) / size)
        free = _drop.keep_mask(places, rate, self.seed_generator)
        begun = ops.cast(ops.logical_not(free), "float32")
        covered = ops.max_pool(
            begun, self.block_size, strides=1, data_format="channels_last"
        )
        return covered == 0

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "block_size": self.block_size,
            "couple_channels": self.couple_channels,
            "scale_by_count": self.scale_by_count,
            "data_format": self.data_format,
        }

    @property
    def _channels_last(self) -> bool:
        return self.data_format == "channels_last"


def _checked_size(given: Any, rank: int) -> tuple[int, ...]:
    if isinstance(given, Sequence) and not isinstance(given, str):
        sizes = tuple(_checks.integer("block_size", one, low=1) for one in given)
    else:
        hint = f"Or give a tuple of {rank}, one for each axis of the map."
        sizes = (_checks.integer("block_size", given, low=1, hint=hint),) * rank
    if len(sizes) != rank:
        raise ValueError(
            f"`block_size` must be one number or {rank}, one for each axis of the map. "
            f"Received: block_size={given}."
        )
    return sizes
