"""Canaries: a trace still knows whether XLA is going to compile it."""

import pytest
import tensorflow as tf

from kopt._keras.xla import within_xla


@pytest.mark.parametrize("jit_compile", [True, False])
def test_a_trace_knows_whether_xla_compiles_it(jit_compile):
    seen = []

    @tf.function(jit_compile=jit_compile)
    def step(x):
        seen.append(within_xla())
        return x

    step(tf.ones(2))
    assert seen == [jit_compile]


def test_what_runs_at_once_is_not_compiled():
    assert not within_xla()
