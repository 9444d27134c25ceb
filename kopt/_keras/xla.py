"""Whether XLA compiles what is being traced, which TensorFlow says in no public name.

An op that XLA has not, or one that is slow there, has to be left out of such a trace.
"""

from __future__ import annotations

import tensorflow as tf


def within_xla() -> bool:
    """Whether what is being traced belongs to a function with `jit_compile=True`."""
    # Without this name only speed is lost.
    try:
        from tensorflow.python.ops import control_flow_util
    except ImportError:
        return False
    graph = tf.compat.v1.get_default_graph()
    return bool(control_flow_util.GraphOrParentsInXlaContext(graph))
