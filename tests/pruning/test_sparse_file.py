"""What zeros save in a file, without gzip."""

import keras
import pytest

from kopt import evaluation, export, pruning
from tests.pruning.nets import at_once, layers


@pytest.mark.parametrize("pattern", [{}, dict(block_size=(4, 1))])
def test_a_sparse_file_of_80_percent_zeros_is_a_third_of_the_dense_one(
    pattern, tmp_path
):
    model = keras.Sequential([keras.Input((256,)), layers.Dense(256), layers.Dense(8)])
    pruning.prune_low_magnitude(model, at_once(0.8), **pattern)
    dense = export.tflite(model, tmp_path / "dense.tflite")
    sparse = export.tflite(model, tmp_path / "sparse.tflite", sparse=True)
    assert dense.size_bytes > 3 * sparse.size_bytes
    assert sparse.verified
    assert sparse.max_difference < 1e-5
    zeros = [evaluation.measure(r.path, runs=1).sparsity for r in (dense, sparse)]
    assert zeros == pytest.approx([0.8, 0.8], abs=0.01)
