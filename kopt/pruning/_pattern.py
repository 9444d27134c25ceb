"""Which zeros a mask may have: single weights, blocks, or m of every n."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from keras import ops

from kopt import _checks
from kopt.pruning import _masks
from kopt.pruning._layout import Layout

Tensor = Any

POOLINGS = ("AVG", "MAX")


@dataclass(frozen=True)
class Pattern:
    """The shape of the zeros.

    Args:
        block_size: Inputs and outputs to a block that stays or goes as one.
        block_pooling_type: How a block's scores become one: `"AVG"` or `"MAX"`.
        sparsity_m_by_n: `(m, n)` for m zeros in every n consecutive inputs, or `None`.
    """

    block_size: tuple[int, int] = (1, 1)
    block_pooling_type: str = "AVG"
    sparsity_m_by_n: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name in ("block_size", "sparsity_m_by_n"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _checked_pair(name, getattr(self, name)))
        _checks.one_of("block_pooling_type", self.block_pooling_type, POOLINGS)
        if self.sparsity_m_by_n is None:
            return
        zeros, group = self.sparsity_m_by_n
        if zeros >= group:
            raise ValueError(
                "`sparsity_m_by_n` must be (m, n) with m less than n, for m zeros in "
                f"every n weights. Received: sparsity_m_by_n={self.sparsity_m_by_n}."
            )
        if self.block_size != (1, 1):
            raise ValueError(
                "`sparsity_m_by_n` and `block_size` are two patterns; choose one. "
                f"Received: sparsity_m_by_n={self.sparsity_m_by_n}, "
                f"block_size={self.block_size}."
            )

    @property
    def is_scheduled(self) -> bool:
        """Whether the sparsity may change; m of n fixes it."""
        return self.sparsity_m_by_n is None

    def fits(self, layout: Layout) -> bool:
        """Whether a kernel divides into whole blocks."""
        _, inputs, outputs = layout.matrices
        height, width = self.block_size
        return inputs % height == 0 and outputs % width == 0

    def masks(
        self,
        scores: Sequence[Tensor],
        layouts: Sequence[Layout],
        sparsity: Tensor,
        *,
        signed: bool = False,
    ) -> list[Tensor]:
        """Masks over kernels that share one budget of weights.

        Args:
            scores: What each weight of each kernel is worth, float32.
            layouts: One layout for each kernel.
            sparsity: The share of all weights, or of all blocks, to drop.
            signed: Whether a score below zero is a low one. Else its sign is ignored.
        """
        if not signed and self != Pattern():
            # Else the selection ignores signs, without another array of this size.
            scores = [ops.abs(score) for score in scores]
        if self.sparsity_m_by_n is not None:
            return [self._m_of_n(*pair) for pair in zip(scores, layouts, strict=True)]
        scores = [self._pooled(*pair) for pair in zip(scores, layouts, strict=True)]
        vectors = [ops.reshape(score, (-1,)) for score in scores]
        everything = ops.concatenate(vectors) if len(vectors) > 1 else vectors[0]
        if signed:
            everything = _masks.without_sign(everything)
        count = _masks.kept_count(everything.shape[0], sparsity)
        kept = _masks.keep_largest(everything, count)
        masks, start = [], 0
        for score, layout, vector in zip(scores, layouts, vectors, strict=True):
            end = start + vector.shape[0]
            masks.append(self._spread(kept[start:end], score.shape, layout))
            start = end
        return masks

    def get_config(self) -> dict[str, Any]:
        return asdict(self)

    def _pooled(self, scores: Tensor, layout: Layout) -> Tensor:
        if self.block_size == (1, 1):
            return scores
        matrices = layout.to_matrices(scores)
        return _masks.block_scores(matrices, self.block_size, self.block_pooling_type)

    def _spread(self, kept: Tensor, shape: Sequence[int], layout: Layout) -> Tensor:
        kept = ops.reshape(kept, shape)
        if self.block_size == (1, 1):
            return kept
        return layout.mask_from_matrices(_masks.spread_blocks(kept, self.block_size))

    def _m_of_n(self, scores: Tensor, layout: Layout) -> Tensor:
        matrices = layout.to_matrices(scores)
        zeros, group = self.sparsity_m_by_n or (0, 1)
        return layout.mask_from_matrices(_masks.drop_m_of_n(matrices, zeros, group))


def _checked_pair(name: str, value: Any) -> tuple[int, int]:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise ValueError(
            f"`{name}` must be two whole numbers, such as (2, 4). Received: "
            f"{name}={value!r}."
        )
    first, second = (_checks.integer(name, item, low=1) for item in value)
    return first, second
