"""Masks that go with a tensor.

A layer that returns vectors in one kind of call and something else in another (as
`ReversibleEmbedding` does) hands its mask on with the tensor, as `_keras_mask`: its
`compute_mask` does not learn which call it was. Keras has no public way to do it.
"""

from __future__ import annotations

from typing import Any


def set_mask(tensor: Any, mask: Any) -> None:
    """Hand a mask on with a tensor; None leaves it without one."""
    if mask is not None:
        tensor._keras_mask = mask
