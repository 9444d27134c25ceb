"""Whether a configuration is asked for by the writer of `.h5` files.

Keras writes these files as its earlier versions did: the class of a model by its bare
name, and no state but the weights of layers. It says so to nobody but a global
attribute of its own.
"""

from keras.src.backend.common.global_state import get_global_attribute


def writes_h5() -> bool:
    """Whether `get_config` is called for an `.h5` file."""
    return bool(get_global_attribute("use_legacy_config", False))
