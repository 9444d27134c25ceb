import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt

TWICE_AS_LONG = [(8, 6), (3, 12), (2, 2, 9)]


def trained(shape, dtype, jit_compile):
    """Where a kernel ends after 12 steps, past the first turn of the basis."""
    generator = np.random.default_rng(0)
    variable = keras.Variable(generator.normal(size=shape), dtype=dtype)
    optimizer = kopt.SOAP(0.01, weight_decay=None)
    optimizer.build([variable])

    @tf.function(jit_compile=jit_compile)
    def step(gradient):
        optimizer.apply([gradient], [variable])

    for gradient in generator.normal(size=(12, *shape)):
        step(tf.constant(gradient, dtype))
    return variable.numpy()


@pytest.mark.parametrize("shape", TWICE_AS_LONG)
def test_rounding_does_not_choose_the_basis_of_a_kernel_that_is_not_square(shape):
    # A step is 0.01 long; where rounding chose, the two ended 0.009 apart.
    exact = trained(shape, "float64", jit_compile=False)
    found = trained(shape, "float32", jit_compile=False)
    np.testing.assert_allclose(found, exact, rtol=0, atol=5e-6)


@pytest.mark.slow
@pytest.mark.parametrize("shape", TWICE_AS_LONG)
def test_xla_ends_where_the_plain_graph_does(shape):
    plain, compiled = (trained(shape, "float32", jit) for jit in (False, True))
    np.testing.assert_allclose(compiled, plain, rtol=0, atol=5e-6)


def test_a_gradient_without_some_of_its_rows_leaves_a_whole_basis():
    # As behind a unit that never fires.
    variable = keras.Variable(np.ones((4, 3), "float32"))
    optimizer = kopt.SOAP(0.01)
    gradient = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    gradient[1:] = 0
    optimizer.apply([tf.constant(gradient)], [variable])
    for axis in (0, 1):
        basis = optimizer.state(variable)[f"basis_{axis}"].numpy()
        np.testing.assert_allclose(basis.T @ basis, np.eye(len(basis)), atol=1e-5)


def test_a_first_gradient_of_zero_is_no_harm():
    variable = keras.Variable(np.ones((4, 3), "float32"))
    optimizer = kopt.SOAP(0.01)
    for gradient in (np.zeros((4, 3)), np.ones((4, 3))):
        optimizer.apply([tf.constant(gradient, tf.float32)], [variable])
    assert np.all(np.isfinite(variable.numpy()))
