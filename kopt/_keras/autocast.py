"""Variables without the cast of mixed precision.

Keras has no public way to read a variable as it is stored inside of a layer's call.
"""

from __future__ import annotations

from keras.src.backend.common.variables import AutocastScope


def uncast() -> AutocastScope:
    """A scope in which variables read in the type that they are stored in."""
    return AutocastScope(None)
