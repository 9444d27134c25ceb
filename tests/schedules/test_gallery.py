import inspect
import sys

import matplotlib.pyplot as pyplot
import pytest

import kopt
from kopt import _registry


def test_every_schedule_has_a_panel_with_examples():
    figure = kopt.schedules.gallery()
    drawn = {ax.get_title(): len(ax.lines) for ax in figure.axes}
    pyplot.close(figure)
    entries = [_registry.entry("schedules", n) for n in _registry.names("schedules")]
    kinds = [entry for entry in entries if inspect.isclass(entry)]
    assert set(drawn) == {kind.__name__ for kind in kinds}
    assert min(drawn.values()) == 1 and max(drawn.values()) == 3


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r'pip install "keras-kopt\[plot\]"'):
        kopt.schedules.gallery()


def test_a_table_needs_to_know_its_length():
    with pytest.raises(ValueError, match=r"`table\(steps=1000\)`"):
        kopt.schedules.Cosine(1.0, steps=0.5).table()
    assert kopt.schedules.Cosine(1.0, steps=4).table(rows=3).splitlines() == [
        "step  of the run  value",
        "   0          0%      1",
        "   2         50%    0.5",
        "   4        100%      0",
    ]
