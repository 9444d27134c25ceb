import keras
import numpy as np
import pytest

from kopt.pruning._layout import kernel_layout
from kopt.pruning._pattern import Pattern
from tests.reference import pruning as reference

random = np.random.default_rng(2)
DENSE = keras.layers.Dense(1)
CONV = keras.layers.Conv2D(1, 1)


def masks(pattern, kernels, sparsity, layer=DENSE):
    scores = [np.abs(kernel).astype("float32") for kernel in kernels]
    layouts = [kernel_layout(layer, kernel.shape) for kernel in kernels]
    return [np.asarray(m) for m in pattern.masks(scores, layouts, sparsity)]


@pytest.mark.parametrize("shape", [(6, 5), (3, 3, 4, 5), (2, 3, 4)])
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.77, 0.999])
def test_single_weights_go_by_magnitude(shape, sparsity):
    kernel = random.normal(size=shape)
    (mask,) = masks(Pattern(), [kernel], sparsity)
    np.testing.assert_array_equal(mask, reference.unstructured(kernel, sparsity))


@pytest.mark.parametrize("pooling", ["AVG", "MAX"])
@pytest.mark.parametrize("block_size", [(4, 1), (1, 5), (2, 5)])
def test_blocks_of_a_matrix_go_by_their_pooled_magnitude(block_size, pooling):
    kernel = random.normal(size=(8, 10))
    (mask,) = masks(Pattern(block_size, pooling), [kernel], 0.6)
    pool = np.mean if pooling == "AVG" else np.max
    expected = reference.blocks(kernel, block_size, pool, 0.6)
    np.testing.assert_array_equal(mask, expected)


def test_blocks_of_a_convolution_share_one_budget_over_its_window():
    kernel = random.normal(size=(2, 2, 4, 3))
    kernel[0, 0] *= 100
    (mask,) = masks(Pattern((4, 1)), [kernel], 0.75, CONV)
    assert mask[0, 0].all()
    assert not mask[0, 1:].any()
    assert not mask[1].any()


def test_m_of_n_goes_along_the_input_channels_of_each_place():
    kernel = random.normal(size=(2, 2, 8, 3))
    (mask,) = masks(Pattern(sparsity_m_by_n=(2, 4)), [kernel], 0.0, CONV)
    for row, column in np.ndindex(2, 2):
        expected = reference.m_of_n(kernel[row, column], 2, 4)
        np.testing.assert_array_equal(mask[row, column], expected)


def test_kernels_with_one_budget_are_pruned_like_one_vector():
    kernels = [random.normal(size=(5, 4)), 3 * random.normal(size=(2, 7))]
    together = np.concatenate([kernel.ravel() for kernel in kernels])
    kept = reference.unstructured(together, 0.5)
    first, second = masks(Pattern(), kernels, 0.5)
    np.testing.assert_array_equal(first.ravel(), kept[:20])
    np.testing.assert_array_equal(second.ravel(), kept[20:])


def test_a_block_that_divides_no_side_does_not_fit():
    layout = kernel_layout(DENSE, (6, 4))
    assert Pattern((3, 2)).fits(layout)
    assert not Pattern((4, 1)).fits(layout)
    assert not Pattern((1, 3)).fits(layout)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(block_size=4), "two whole numbers"),
        (dict(block_size=(1, 2, 3)), "two whole numbers"),
        (dict(block_size=(0, 1)), "at least 1"),
        (dict(block_pooling_type="MIN"), "'AVG', 'MAX'"),
        (dict(sparsity_m_by_n=(4, 4)), "m less than n"),
        (dict(sparsity_m_by_n="24"), "two whole numbers"),
        (dict(sparsity_m_by_n=(2, 4), block_size=(4, 1)), "choose one"),
    ],
)
def test_a_pattern_that_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Pattern(**arguments)
