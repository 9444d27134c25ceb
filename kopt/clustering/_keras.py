"""The private names of Keras that clustering needs, all in one place.

Keras has no public way to read a variable without the cast of mixed
precision. The name has a canary in `tests/clustering/test_keras.py`.
"""

from __future__ import annotations

from keras.src.backend.common.variables import AutocastScope

from kopt._caught_losses import add_again as add_again
from kopt._sublayers import add_sublayer as add_sublayer
from kopt._sublayers import remove_sublayer as remove_sublayer


def uncast() -> AutocastScope:
    """A scope in which variables read in the type that they are stored in."""
    return AutocastScope(None)
