"""kopt's search behind the tuners of Keras Tuner."""

import keras
import keras_tuner
import numpy as np
import optuna
import pytest

import kopt
from kopt.tuning import Oracle

X = np.linspace(0, 1, 32, dtype="float32").reshape(-1, 1)


def build(hp):
    model = keras.Sequential([keras.Input((1,))])
    if hp.Boolean("deep"):
        with hp.conditional_scope("deep", [True]):
            model.add(keras.layers.Dense(hp.Int("units", 1, 4), activation="relu"))
    model.add(keras.layers.Dense(1))
    rate = hp.Float("rate", 1e-3, 1.0, sampling="log")
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


class Square(keras_tuner.Tuner):
    """As in Keras Tuner's guide: anything that returns a number."""

    def run_trial(self, trial, *args, **kwargs):
        hp = trial.hyperparameters
        kind = hp.Choice("kind", ["near", "far"])
        with hp.conditional_scope("kind", ["near"]):
            if kind == "near":
                return hp.Float("x", -1.0, 1.0) ** 2
        with hp.conditional_scope("kind", ["far"]):
            return 2.0 + hp.Int("steps", 1, 3)


def square(folder, **options):
    options = {"max_trials": 8, **options}
    return Square(Oracle(**options), directory=folder, project_name="p", logger=None)


def search(tuner, **arguments):
    tuner.search(verbose=0, **arguments)
    trials = tuner.oracle.study.trials
    again = {trial.user_attrs.get("kopt:retry_of") for trial in trials}
    return [trial.params for trial in trials if trial.number not in again]


def test_names_are_searched_from_the_first_trial_on(tmp_path):
    asked = search(square(tmp_path, sampler=kopt.tuning.Random()))
    assert len(asked) == 8
    for params in asked:
        assert ("x" in params) == (params["kind"] == "near")
        assert ("steps" in params) == (params["kind"] == "far")
    assert len({params.get("x") for params in asked}) > 2


@pytest.mark.parametrize("sampler", ["auto", "Random", "TPE", "Bayesian", "Sobol"])
def test_every_sampler_proposes_the_same_again(sampler, tmp_path):
    first = search(square(tmp_path / "a", sampler=sampler))
    assert search(square(tmp_path / "b", sampler=sampler)) == first
    assert search(square(tmp_path / "c", sampler=sampler, seed=1)) != first


def test_the_study_holds_what_keras_tuner_holds(tmp_path):
    tuner = square(tmp_path)
    search(tuner)
    ended = [tuner.oracle.trials[name] for name in tuner.oracle.end_order]
    told = tuner.oracle.study.trials
    assert [trial.score for trial in ended] == [trial.value for trial in told]
    results = kopt.tuning.Results(tmp_path / "p")
    assert results.best_score == min(trial.score for trial in ended)
    assert results.best_values == tuner.get_best_hyperparameters()[0].values


def test_a_finite_space_is_not_searched_twice(tmp_path):
    class Three(keras_tuner.Tuner):
        def run_trial(self, trial, **kwargs):
            return float(trial.hyperparameters.Int("x", 1, 3))

    oracle = Oracle("Random", max_trials=20)
    tuner = Three(oracle, directory=tmp_path, logger=None)
    assert sorted(one["x"] for one in search(tuner)) == [1, 2, 3]


@pytest.mark.parametrize("after", [1, 3, 5])
def test_an_interrupted_search_goes_on_as_if_it_had_not_been(after, tmp_path):
    straight = search(square(tmp_path / "straight"))

    class Interrupted(Square):
        def run_trial(self, trial, *args, **kwargs):
            result = super().run_trial(trial, *args, **kwargs)
            if len(self.oracle.trials) > after:
                raise KeyboardInterrupt
            return result

    place = {"directory": tmp_path, "project_name": "p", "logger": None}
    with pytest.raises(KeyboardInterrupt):
        Interrupted(Oracle(max_trials=8), **place).search(verbose=0)
    assert search(square(tmp_path)) == straight


def test_what_ended_before_the_study_was_told_is_told(tmp_path, monkeypatch):
    tuner = square(tmp_path, max_trials=1)
    monkeypatch.setattr(Oracle, "_tell", lambda *arguments: None)
    search(tuner)
    assert tuner.oracle.study.trials[0].state == optuna.trial.TrialState.RUNNING
    monkeypatch.undo()
    again = square(tmp_path, max_trials=1)
    assert again.oracle.study.trials[0].value == again.oracle.trials["0"].score


def test_a_model_is_searched_and_loaded_by_a_stock_tuner(tmp_path):
    oracle = Oracle(objective="val_loss", max_trials=4)
    tuner = keras_tuner.Tuner(oracle, build, directory=tmp_path, logger=None)
    search(tuner, x=X, y=3 * X, epochs=2, validation_split=0.25)
    model = tuner.get_best_models()[0]
    best = tuner.oracle.get_best_trials()[0]
    loss = model.evaluate(X[24:], 3 * X[24:], verbose=0)
    assert loss == pytest.approx(best.score, rel=1e-5)
    assert [trial.value for trial in oracle.study.best_trials] == [best.score]


@pytest.mark.slow
def test_hopeless_trials_are_stopped(tmp_path):
    def linear(hp):
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        rate = hp.Choice("rate", [0.5, 0.4, 0.3, 0.2, 1e-5, 1e-6, 1e-7, 1e-8])
        model.compile(keras.optimizers.SGD(rate), "mse")
        return model

    oracle = Oracle("Random", kopt.tuning.Median(), objective="loss", max_trials=8)
    tuner = keras_tuner.Tuner(oracle, linear, directory=tmp_path, logger=None)
    search(tuner, x=X, y=3 * X, epochs=6, callbacks=[oracle.pruning_callback()])
    trials = oracle.study.trials
    stopped = [one for one in trials if one.state == optuna.trial.TrialState.PRUNED]
    assert stopped and all(len(one.intermediate_values) < 6 for one in stopped)
    assert oracle.study.best_params["rate"] in range(4)


def test_a_trial_that_fails_is_told_as_failed_with_its_reason(tmp_path):
    class Failing(keras_tuner.Tuner):
        def run_trial(self, trial, **kwargs):
            if trial.hyperparameters.Int("x", 0, 3) == 1:
                raise keras_tuner.errors.FailedTrialError("too large")
            return 1.0

    tuner = Failing(Oracle(max_trials=8), directory=tmp_path, logger=None)
    search(tuner)
    failed = [one for one in tuner.oracle.study.trials if one.value is None]
    assert [one.params["x"] for one in failed] == [1]
    assert "too large" in failed[0].user_attrs["kopt:reason"]


def test_names_that_were_not_listed_keep_their_defaults(tmp_path):
    hp = keras_tuner.HyperParameters()
    hp.Choice("kind", ["far"])
    oracle = Oracle("Random", hyperparameters=hp, tune_new_entries=False)
    tuner = Square(oracle, directory=tmp_path, logger=None)
    assert search(tuner) == [{"kind": "far"}]


@pytest.mark.parametrize("wrong", [{"max_trials": 0}, {"seed": -1}])
def test_numbers_outside_of_their_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Oracle(**wrong)


def test_a_study_about_something_else_is_refused(tmp_path):
    search(square(tmp_path, max_trials=1))
    with pytest.raises(RuntimeError, match="another objective"):
        square(tmp_path, objective="val_loss")


def test_scikit_learn_is_tuned(tmp_path):
    from sklearn import datasets, ensemble, metrics, model_selection

    def forest(hp):
        return ensemble.RandomForestClassifier(
            n_estimators=hp.Int("n_estimators", 2, 12), random_state=0
        )

    # The example of Keras Tuner's documentation of `SklearnTuner`.
    tuner = keras_tuner.tuners.SklearnTuner(
        Oracle("Sobol", objective=keras_tuner.Objective("score", "max"), max_trials=3),
        forest,
        scoring=metrics.make_scorer(metrics.accuracy_score),
        cv=model_selection.StratifiedKFold(2),
        directory=tmp_path,
    )
    x, y = datasets.load_iris(return_X_y=True)
    tuner.search(x, y)
    assert tuner.oracle.study.best_value > 0.9
    assert tuner.get_best_models()[0].predict(x).shape == (150,)
