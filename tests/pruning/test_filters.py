"""The report on filters tells what can go, and what holds the rest."""

import pytest

from kopt.pruning import filter_report, prune_low_magnitude, remove_filters
from tests.pruning.channel_nets import empty, layers
from tests.pruning.nets import at_once
from tests.pruning.test_removal import conv, head, model_of, residual
from tests.pruning.test_structure import chain, transformer


def rows(model):
    return {layer.layer: layer for layer in filter_report(model).layers}


def test_zero_and_removable_filters_are_counted():
    model = empty(model_of((6, 6, 2), chain), "first bn", [1, 2])
    report = filter_report(model)
    counts = [(x.layer, x.count, x.zero, x.removable) for x in report.layers]
    assert counts == [("first", 8, 2, 2), ("second", 6, 0, 0), ("out", 3, 0, 0)]
    assert (report.count, report.zero, report.removable) == (17, 2, 2)


def test_what_is_counted_as_removable_is_removed():
    model = prune_low_magnitude(
        model_of((6, 6, 2), residual), at_once(), structure="filters"
    )
    smaller = remove_filters(model)
    for name, row in rows(model).items():
        assert smaller.get_layer(name).kernel.shape[-1] == row.count - row.removable


@pytest.mark.parametrize(
    ("build", "names", "held", "reason"),
    [
        (residual, "outer", "outer", "channels that it is added to or goes with"),
        (chain, "out", "out", "an output of the model"),
        (
            lambda x: head(conv("second")(conv("first", activation="sigmoid")(x))),
            "first",
            "first",
            "a constant that 'second' needs",
        ),
        (
            lambda x: head(layers.LayerNormalization(name="norm")(conv("first")(x))),
            "first",
            "first",
            "LayerNormalization 'norm', which needs them all",
        ),
    ],
)
def test_what_holds_a_zero_filter_is_named(build, names, held, reason):
    row = rows(empty(model_of((6, 6, 2), build), names, [0]))[held]
    assert (row.zero, row.removable, row.held_by) == (1, 0, reason)


def test_heads_have_a_row_of_their_own():
    model = model_of((5, 6), transformer)
    prune_low_magnitude(model, at_once(), structure="heads")
    (row,) = [x for x in filter_report(model).layers if x.kind == "heads"]
    assert (row.layer, row.count, row.zero, row.removable) == ("attend", 4, 2, 2)


def test_the_report_prints_as_a_table():
    model = empty(model_of((6, 6, 2), chain), "first bn", [1, 2])
    lines = str(filter_report(model)).splitlines()
    assert lines[0].split() == "layer kind count zero removable held by".split()
    assert lines[1].split() == ["first", "filters", "8", "2", "2"]
    assert lines[-1].split() == ["all", "17", "2", "2"]
