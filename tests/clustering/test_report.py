"""What the report counts, and how it shows it."""

import zlib

import keras
import matplotlib.pyplot as pyplot
import numpy as np
import pytest

from kopt.clustering import cluster_weights, clustering_report, strip_clustering
from tests.clustering.nets import clustered_mlp, layers, mlp


def small():
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(2, name="in"), layers.Dense(4, name="out")],
        name="net",
    )
    first = np.array([[1, 1], [1, 1], [2, 2], [3, 3]])
    model.set_weights([first, np.zeros(2), np.arange(8).reshape(2, 4), np.ones(4)])
    return model


def test_counts_different_values_and_their_entropy():
    first, second = clustering_report(small()).weights
    assert (first.path, first.shape, first.size) == ("net/in/kernel", (4, 2), 8)
    assert (first.distinct, second.distinct) == (3, 8)
    # A half, a quarter and a quarter.
    assert first.entropy == pytest.approx(1.5)
    assert second.entropy == pytest.approx(3)
    assert clustering_report(small()).entropy == pytest.approx(2.25)


def test_measures_what_compression_leaves():
    model = small()
    report = clustering_report(model)
    raw = [layer.kernel.numpy().tobytes() for layer in model.layers]
    assert [one.byte_size for one in report.weights] == [32, 32]
    sizes = [len(zlib.compress(one)) for one in raw]
    assert [one.compressed_size for one in report.weights] == sizes
    assert (report.byte_size, report.compressed_size) == (64, sum(sizes))
    assert report.size == 16


def test_counts_of_a_clustered_model_what_stripping_leaves():
    model = clustered_mlp()
    before = clustering_report(model)
    after = clustering_report(strip_clustering(model))
    assert [one.clusters for one in before.weights] == [5, 5]
    assert [one.clusters for one in after.weights] == [None, None]
    for mine, other in zip(before.weights, after.weights, strict=True):
        assert mine.distinct == other.distinct == 5
        assert mine.compressed_size == other.compressed_size


def test_prints_as_a_table():
    lines = str(clustering_report(small())).splitlines()
    sizes = [one.compressed_size for one in clustering_report(small()).weights]
    assert lines == [
        "weight                  shape  values  bits  bytes  compressed",
        f"net/in/kernel             4x2       3  1.50     32          {sizes[0]}",
        f"net/out/kernel            2x4       8  3.00     32          {sizes[1]}",
        f"kernels and embeddings                 2.25     64          {sum(sizes)}",
    ]


def test_the_table_says_what_is_clustered_how_and_what_is_not():
    model = keras.Sequential(
        [keras.Input((6, 6, 2)), layers.Conv2D(3, 3), layers.Dense(4), layers.Dense(9)]
    )
    cluster_weights(model, 12, cluster_per_channel=True)
    ends = [line.split("  ")[-1] for line in str(clustering_report(model)).split("\n")]
    assert ends[1:4] == [
        "clustered to 12 in each of 3 channels",
        "too small to cluster",
        "clustered to 12",
    ]


def test_a_model_without_kernels_has_no_bits():
    model = keras.Sequential([keras.Input((3,)), layers.BatchNormalization()])
    assert clustering_report(model).entropy == 0


def test_a_model_that_is_not_built_is_refused():
    with pytest.raises(ValueError, match="Build it first"):
        clustering_report(keras.Sequential([layers.Dense(2)]))


def test_a_plot_has_a_bar_for_each_weight_with_its_bits():
    _, axes = pyplot.subplots()
    assert clustering_report(small()).plot(ax=axes) is axes
    stored, bits = axes.containers
    assert [bar.get_width() for bar in stored] == [32, 32]
    assert [bar.get_width() for bar in bits] == pytest.approx([1.5, 3])
    assert [text.get_text() for text in axes.texts] == [
        "3 values of 8",
        "8 values of 8",
    ]
    pyplot.close(axes.figure)


def test_a_plot_makes_a_figure_of_its_own():
    axes = clustering_report(mlp()).plot()
    assert axes.get_yticklabels()[0].get_text().endswith("dense/kernel")
    pyplot.close(axes.figure)
