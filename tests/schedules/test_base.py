import sys

import matplotlib.pyplot as pyplot
import numpy as np
import pytest

from kopt.schedules import (
    WSD,
    Cosine,
    CosineRestarts,
    Cyclical,
    InverseSqrt,
    Linear,
    Scale,
    Schedule,
    Sequential,
    Warmup,
)


@pytest.mark.parametrize(
    ("fraction", "total_steps", "steps"),
    [(1.0, 1000, 1000), (0.05, 1000, 50), (0.3, 11, 3), (0.4, 11, 4), (0.01, 7, 1)],
)
def test_a_fraction_becomes_the_nearest_number_of_steps_and_at_least_one(
    fraction, total_steps, steps
):
    assert Cosine(1.0, steps=fraction).bind(total_steps).steps == steps


@pytest.mark.parametrize("total_steps", [0, -1])
def test_a_run_has_at_least_one_step(total_steps):
    for schedule in (Cosine(1.0, steps=10), Warmup(1.0, steps=0.5)):
        with pytest.raises(ValueError, match="`total_steps` must be"):
            schedule.bind(total_steps)


def test_one_is_a_step_and_one_point_zero_the_whole_run():
    assert Cosine(1.0, steps=1).bind(100).steps == 1
    assert Cosine(1.0, steps=1.0).bind(100).steps == 100


def test_numpys_numbers_are_lengths_too():
    assert Cosine(1.0, steps=np.int64(10)).bound
    assert Cosine(1.0, steps=np.float32(0.5)).bind(10).steps == 5


def test_it_shows_how_it_was_made():
    schedule = Warmup(Cosine(1e-3, steps=0.5), steps=10)
    assert eval(repr(schedule)).get_config() == schedule.get_config()


def test_the_base_has_to_be_completed():
    with pytest.raises(TypeError, match="abstract"):
        Schedule()


def test_a_plot_goes_into_the_axes_it_is_given():
    figure, axes = pyplot.subplots()
    assert Cosine(1e-3, steps=0.5).plot(1000, ax=axes) is axes
    assert Cosine(1e-3, steps=500).plot(ax=axes) is axes
    assert [line.get_xdata()[-1] for line in axes.lines] == [1000, 500]
    pyplot.close(figure)


def test_a_plot_of_a_long_run_has_few_points():
    axes = Cosine(1e-3, steps=10**7).plot()
    assert len(axes.lines[0].get_xdata()) < 3000
    pyplot.close(axes.figure)


@pytest.mark.parametrize("schedule", [Cosine(1e-3, steps=1.0), Warmup(0.1, steps=0)])
def test_a_plot_needs_to_know_its_length(schedule):
    with pytest.raises(ValueError, match=r"plot\(steps=1000\)"):
        schedule.plot()


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r'pip install "keras-kopt\[plot\]"'):
        Cosine(1e-3, steps=10).plot()


@pytest.mark.parametrize(
    "schedule",
    [
        Cosine(1.0, steps=0.5),
        Warmup(Cosine(1.0, steps=1.0), steps=0.2),
        WSD(1.0, steps=1.0),
        CosineRestarts(1.0, steps=1.0, cycles=4, warmup=0.25),
        InverseSqrt(1.0, warmup=0.1, steps=1.0, cooldown=0.5),
        Sequential([0.5, Linear(1.0, steps=1.0)], [0.25]),
        Scale(Linear(1.0, steps=0.5), 2.0),
        Cyclical(0.0, 1.0, steps=0.25),
    ],
    ids=repr,
)
def test_a_schedule_that_counts_no_steps_has_one_shape_for_any_run(schedule):
    assert not schedule.counts_steps
    short, long = schedule.bind(10_000), schedule.bind(40_000)
    # Past the first step of each, for a warm-up is a step ahead.
    at = np.arange(99, 10_000, 100)
    np.testing.assert_allclose(short(at), long(4 * at), atol=3e-3 * schedule.peak)
    assert short.counts_steps
