"""What a report says of zeros holds: it is compared with the files that it means."""

import gzip

import keras
import numpy as np
import pytest
from keras import layers

from kopt import export, pruning
from tests.sampling import sampled


def dense():
    return keras.Sequential([keras.Input((256,)), layers.Dense(300), layers.Dense(8)])


def convolutions():
    return keras.Sequential(
        [
            keras.Input((10, 10, 8)),
            layers.Conv2D(64, 3),
            layers.DepthwiseConv2D(3),
            layers.Conv2D(64, 1),
            layers.Flatten(),
            layers.Dense(16),
        ]
    )


def exported(model, folder, **arguments):
    return export.tflite(model, folder / "m.tflite", verify=False, **arguments)


@pytest.mark.parametrize("build", [dense, convolutions])
@pytest.mark.parametrize("sparsity", sampled([0.4, 0.9], [0.9], pytest.mark.slow))
@pytest.mark.parametrize(
    "quantization", sampled([None, "int8"], ["int8"], pytest.mark.slow)
)
def test_sizes_are_those_that_gzip_and_a_sparse_file_have(
    build, sparsity, quantization, tmp_path
):
    model = build()
    pruning.prune_low_magnitude(model, pruning.OneShot(sparsity))
    x = np.random.default_rng(0).normal(size=(8, *model.input_shape[1:]))
    data = {} if quantization is None else {"representative_data": x.astype("float32")}
    arguments = {"quantization": quantization, **data}
    report = exported(model, tmp_path, **arguments)
    assert report.zeros.zeros / report.zeros.weights >= sparsity - 0.01
    zipped = len(gzip.compress(report.path.read_bytes()))
    assert report.zeros.gzip_size_bytes == pytest.approx(zipped, rel=0.01)
    sparse = exported(model, tmp_path, sparse=True, **arguments)
    expected = report.zeros.sparse_size_bytes or report.size_bytes
    smallest = min(sparse.size_bytes, report.size_bytes)
    assert expected == pytest.approx(smallest, rel=0.08, abs=1500)
    assert sparse.zeros.zeros == report.zeros.zeros
    assert sparse.zeros.sparse_size_bytes is None


def test_blocks_of_four_save_their_indices(tmp_path):
    model = pruning.prune_low_magnitude(
        keras.Sequential([keras.Input((256,)), layers.Dense(256), layers.Dense(8)]),
        pruning.OneShot(0.8),
        block_size=(4, 1),
    )
    report = exported(model, tmp_path)
    sparse = exported(model, tmp_path, sparse=True)
    assert report.zeros.sparse_size_bytes == pytest.approx(sparse.size_bytes, rel=0.05)


def test_the_text_has_a_row_for_them(tmp_path):
    model = pruning.prune_low_magnitude(dense(), pruning.OneShot(0.8))
    text = str(exported(model, tmp_path))
    assert "zeros in weights" in text
    assert "63,360 of 79,200 (80.0%)" in text
    assert "after gzip; about" in text and "with sparse=True" in text


def test_a_model_without_zeros_is_not_compressed_for_nothing(tmp_path):
    report = exported(dense(), tmp_path)
    assert report.zeros.gzip_size_bytes is None
    assert str(report.zeros) == "0 of 79,200 (0.0%)"
