import keras
import numpy as np
import pytest

from kopt.pruning._layout import kernel_layout

layers = keras.layers

CASES = {
    "dense": (layers.Dense(5), (4, 5), (1, 4, 5)),
    "convolution": (layers.Conv2D(5, 3), (3, 3, 4, 5), (9, 4, 5)),
    "convolution 1D": (layers.Conv1D(5, 3), (3, 4, 5), (3, 4, 5)),
    "transposed": (layers.Conv2DTranspose(5, 3), (3, 3, 5, 4), (9, 4, 5)),
    "depthwise": (layers.DepthwiseConv2D(3), (3, 3, 4, 2), (9, 4, 2)),
    "heads out": (layers.EinsumDense("abc,cde->abde", (2, 3)), (4, 2, 3), (1, 4, 6)),
    "heads in": (layers.EinsumDense("abcd,cde->abe", 5), (2, 3, 5), (1, 6, 5)),
    "scale": (layers.EinsumDense("ab,bc->abc", (3, 5)), (3, 5), (1, 3, 5)),
}


@pytest.mark.parametrize("name", CASES)
def test_matrices_hold_positions_inputs_and_outputs(name):
    layer, shape, matrices = CASES[name]
    assert kernel_layout(layer, shape).matrices == matrices


@pytest.mark.parametrize("name", CASES)
def test_a_mask_comes_back_to_its_places(name):
    layer, shape, _ = CASES[name]
    layout = kernel_layout(layer, shape)
    mask = np.random.default_rng(0).random(shape) < 0.5
    there = np.asarray(layout.to_matrices(mask.astype("float32"))) > 0
    np.testing.assert_array_equal(layout.mask_from_matrices(there), mask)


def test_inputs_of_a_transposed_convolution_run_along_its_last_axis():
    layout = kernel_layout(layers.Conv2DTranspose(2, 1), (1, 1, 2, 3))
    kernel = np.arange(6.0).reshape(1, 1, 2, 3)
    np.testing.assert_array_equal(layout.to_matrices(kernel)[0], kernel[0, 0].T)


def test_inputs_of_an_attention_output_are_heads_and_their_dimensions():
    layout = kernel_layout(layers.EinsumDense("abcd,cde->abe", 5), (2, 3, 5))
    kernel = np.arange(30.0).reshape(2, 3, 5)
    np.testing.assert_array_equal(layout.to_matrices(kernel)[0], kernel.reshape(6, 5))
