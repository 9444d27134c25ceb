import keras
import matplotlib.pyplot as pyplot
import numpy as np
import pytest

from kopt import pruning
from kopt.pruning import sparsity_report
from tests.pruning.nets import growing, layers, mlp, pruned_mlp


def small():
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(2, name="in"), layers.Dense(4, name="out")],
        name="net",
    )
    first = np.array([[1.0, 0.0], [0.0, -0.0], [2.0, 3.0]])
    model.set_weights([first, np.zeros(2), np.ones((2, 4)), np.ones(4)])
    return model


def test_counts_zeros_weight_by_weight():
    first, second = sparsity_report(small()).weights
    assert (first.path, first.shape, first.size, first.zeros) == (
        "net/in/kernel",
        (3, 2),
        6,
        3,
    )
    assert first.sparsity == 0.5
    assert second.zeros == 0


def test_counts_kernels_together_and_all_weights_together():
    report = sparsity_report(small())
    assert (report.size, report.zeros) == (14, 3)
    assert report.sparsity == pytest.approx(3 / 14)
    assert (report.total_size, report.total_zeros) == (20, 5)
    assert report.total_sparsity == 0.25


def test_says_which_weights_a_mask_holds():
    assert not any(weight.pruned for weight in sparsity_report(mlp()).weights)
    assert all(weight.pruned for weight in sparsity_report(pruned_mlp()).weights)


def test_prints_as_a_table():
    assert str(sparsity_report(small())).splitlines() == [
        "weight                  shape  size  zeros  sparsity",
        "net/in/kernel             3x2     6      3    50.0 %",
        "net/out/kernel            2x4     8      0     0.0 %",
        "kernels and embeddings           14      3    21.4 %",
        "all weights                      20      5    25.0 %",
    ]


def test_a_model_without_kernels_has_no_sparsity():
    model = keras.Sequential([keras.Input((3,)), layers.BatchNormalization()])
    assert sparsity_report(model).sparsity == 0.0


def test_a_model_that_is_not_built_is_refused():
    with pytest.raises(ValueError, match="Build it first"):
        sparsity_report(keras.Sequential([layers.Dense(2)]))


def test_a_plot_has_a_bar_for_each_weight_with_its_share_of_zeros():
    _, axes = pyplot.subplots()
    assert sparsity_report(small()).plot(ax=axes) is axes
    _, zeros = axes.containers
    assert [bar.get_width() for bar in zeros] == [0.5, 0]
    assert [text.get_text() for text in axes.texts] == ["50 % of 6", "0 % of 8"]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["net/in/kernel", "net/out/kernel"]
    pyplot.close(axes.figure)


def test_the_table_has_what_was_asked_for_beside_what_there_is():
    model = pruning.prune_low_magnitude(mlp(), growing(final=0.8))
    lines = str(sparsity_report(model)).splitlines()
    assert lines[0].split()[-1] == "target"
    assert lines[1].endswith("19.8 %  80.0 %")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (dict(scope="global"), (0.5, "all weights")),
        (dict(structure="filters"), (0.5, "units")),
        (dict(sparsity_m_by_n=(1, 4)), (0.25, "")),
        (dict(criterion="magnitude"), (0.5, "")),
    ],
)
def test_the_target_says_what_it_is_a_share_of(arguments, expected):
    model = pruning.prune_low_magnitude(mlp(), growing(), **arguments)
    first = sparsity_report(model).weights[0]
    assert (first.target, first.target_of) == expected


def test_a_weight_without_a_mask_has_no_target():
    model = pruning.prune_low_magnitude(mlp(), growing(), layers=["dense"])
    assert [weight.target for weight in sparsity_report(model).weights] == [0.5, None]
