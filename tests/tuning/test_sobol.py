import numpy as np
import optuna
import pytest
from scipy.stats import qmc

import kopt
from kopt.tuning._samplers.seeded import SeededSampler


def drawn(objective, trials, seed=0):
    study = optuna.create_study()
    study.sampler = SeededSampler(kopt.tuning.Sobol(), seed, study)
    study.optimize(objective, trials)
    return [trial.params for trial in study.trials]


def plane(trial):
    return trial.suggest_float("x", 0, 1) + trial.suggest_float("y", 0, 1)


def test_points_are_spread_more_evenly_than_random_ones():
    points = np.array([[one["x"], one["y"]] for one in drawn(plane, 64)])
    random = np.random.default_rng(0).random((64, 2))
    assert qmc.discrepancy(points) < qmc.discrepancy(random) / 3


@pytest.mark.parametrize("name", ["x", "y"])
def test_each_coordinate_has_one_point_in_each_of_as_many_parts(name):
    values = [one[name] for one in drawn(plane, 16)]
    assert sorted(int(16 * value) for value in values) == list(range(16))


def test_choices_are_drawn_equally_often():
    params = drawn(lambda t: len(t.suggest_categorical("c", ["a", "bb"])), 16)
    # More than two: no configuration comes twice in a search, so another name is there.
    assert {one["c"] for one in params[:2]} == {"a", "bb"}


def test_another_seed_gives_other_points():
    assert drawn(plane, 4) == drawn(plane, 4)
    assert drawn(plane, 4) != drawn(plane, 4, seed=1)


def test_whole_numbers_and_logarithms_have_equal_shares():
    def objective(trial):
        trial.suggest_float("far", 0, 1)
        return trial.suggest_int("n", 1, 4) * trial.suggest_float(
            "r", 1e-4, 1, log=True
        )

    params = drawn(objective, 64)
    counts = np.bincount([one["n"] for one in params])[1:]
    assert counts.tolist() == [16] * 4
    decades = np.bincount([int(-np.log10(one["r"])) for one in params])
    assert decades.tolist() == [16] * 4
