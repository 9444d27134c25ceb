"""What `sampler="auto"` takes, and why."""

import optuna
import pytest

import kopt
from kopt._keras.asked_values import AskedHyperParameters
from kopt.tuning._samplers.auto import Auto
from kopt.tuning._samplers.grid_sampler import GridSampler
from kopt.tuning._samplers.sobol_sampler import SobolSampler
from kopt.tuning._trials import records
from kopt.tuning._trials.space import Space
from tests.tuning.analytic import analytic_search

Budget = kopt.tuning.Budget


@pytest.mark.parametrize(
    ("function", "trials", "reason"),
    [
        (lambda hp: [hp.Int("n", 1, 6)], 6, "Grid: the space has 6 configurations"),
        (lambda hp: [hp.Int("n", 1, 9)], 6, "Sobol: 6 trials are too few"),
        (
            lambda hp: [hp.Float("x", -1, 1)],
            9,
            "Bayesian and TPE by turns: the space has no finite number",
        ),
    ],
)
def test_it_says_what_it_chose_and_why(tmp_path, function, trials, reason):
    results = analytic_search(function, tmp_path, budget=Budget(trials=trials))
    assert any(line.startswith(reason) for line in results.why())


def test_it_leaves_the_grid_where_a_branch_turns_out_to_be_endless(tmp_path):
    def branches(hp):
        if hp.Choice("kind", ["finite", "endless"]) == "endless":
            return [hp.Float("x", -1, 1)]
        return [hp.Int("n", 1, 2)]

    budget = Budget(trials=7)
    results = analytic_search(branches, tmp_path, seed=2, budget=budget)
    rows = results.rows()
    assert rows[0]["hp:kind"] == "finite", "the seed has to begin there"
    assert [row["state"] for row in rows] == ["complete"] * 7
    endless = [row["hp:x"] for row in rows if row["hp:kind"] == "endless"]
    assert len(set(endless)) == len(endless) >= 5
    said = [line.split(":")[0] for line in results.why()]
    assert said.index("Grid") < said.index("Sobol")


def test_it_takes_no_grid_of_names_that_are_being_asked_for_elsewhere():
    study = optuna.create_study()
    space = Space(study)
    chooses = Auto(trials=4, space=space, say=lambda text: None)
    beside = study.ask()
    beside.set_user_attr(records.DRAWN, False)
    hp = AskedHyperParameters(lambda asked: space.ask(beside, asked))
    hp.Int("layers", 1, 2)
    # So far two configurations; more names may follow.
    assert isinstance(chooses.sampler(0, 1), SobolSampler)
    beside.set_user_attr(records.DRAWN, True)
    assert isinstance(chooses.sampler(0, 1), GridSampler)
