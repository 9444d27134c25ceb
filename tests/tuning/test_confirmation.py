"""The leading configurations are trained again, and the best of their means wins."""

import collections
import json

import numpy as np
import optuna
import pytest

import kopt
from kopt.tuning._trials import records
from kopt.tuning._trials.errors import SearchError
from tests.tuning.analytic import Analytic, Killed, MortalStorage, analytic_search
from tests.tuning.test_workers import slow_square, together

Budget = kopt.tuning.Budget


class Noisy(Analytic):
    """A square whose value depends on the seed of the trial, as a training does."""

    def __init__(self, noise=0.5, function=None):
        super().__init__(function or self._square)
        self._noise = noise

    def _square(self, hp):
        x = hp.Float("x", -1, 1)
        return [(x - 0.3) ** 2 + self._noise * np.random.normal()]


def search(tmp_path, trials=20, confirm=2, model=None, **arguments):
    arguments.setdefault("storage", optuna.storages.InMemoryStorage())
    return analytic_search(
        model or Noisy(),
        tmp_path,
        budget=arguments.pop("budget", Budget(trials=trials)),
        sampler=arguments.pop("sampler", kopt.tuning.Random()),
        confirm=confirm,
        **arguments,
    )


def repeats(results):
    """The scores of repeats by the number of the trial that they repeat."""
    found = collections.defaultdict(list)
    for row in results.rows():
        if row["repeat_of"] is not None and row["state"] == "complete":
            found[row["repeat_of"]].append(row["score"])
    return dict(found)


def first_scores(results):
    rows = [row for row in results.rows() if row["repeat_of"] is None]
    return {row["number"]: row["score"] for row in rows if row["score"] is not None}


def test_the_leading_three_are_repeated_within_the_budget(tmp_path):
    results = search(tmp_path, trials=20)
    assert len(results.rows()) == 20
    searched = first_scores(results)
    assert len(searched) == 14
    leading = sorted(searched, key=searched.get)[:3]
    assert {
        one: len(scores) for one, scores in repeats(results).items()
    } == dict.fromkeys(leading, 2)
    rows = results.rows()
    for row in rows[14:]:
        assert row["hp:x"] == rows[row["repeat_of"]]["hp:x"]


def test_the_best_mean_wins(tmp_path):
    results = search(tmp_path, trials=30, model=Noisy(noise=3.0), seed=2)
    searched = first_scores(results)
    means = {
        one: np.mean([searched[one], *scores])
        for one, scores in repeats(results).items()
    }
    winner = min(means, key=means.get)
    # The noise is so large that the best single score is not that of the best mean.
    assert winner != min(searched, key=searched.get)
    assert results.best_score == pytest.approx(means[winner])
    assert results.best_values == {"x": results.rows()[winner]["hp:x"]}
    runs = [r for r in results.rows() if winner in (r["number"], r["repeat_of"])]
    assert results.best_trial.value == min(row["score"] for row in runs)
    shown = str(results).splitlines()
    assert shown[0].split()[:3] == ["trial", "score", "runs"]
    assert shown[1].split()[:3] == [str(winner), f"{means[winner]:.4f}", "3"]
    assert f"ranked by their means: trial {winner}" in results.why()[-2]


def test_a_data_frame_tells_what_is_ranked(tmp_path):
    results = search(tmp_path)
    frame = results.to_dataframe()
    assert list(frame.columns[:5]) == ["number", "state", "score", "mean", "runs"]
    confirmed = frame[frame.runs == 3]
    assert len(confirmed) == 9
    means = confirmed.groupby("hp:x").score.mean()
    assert means.min() == pytest.approx(results.best_score)
    for _, row in confirmed.iterrows():
        assert row["mean"] == pytest.approx(means[row["hp:x"]])
    single = frame[frame.runs == 1]
    assert (single["mean"] == single.score).all()


def test_repeats_have_seeds_of_their_own(tmp_path):
    results = search(tmp_path)
    scores = [row["score"] for row in results.rows()]
    assert len(set(scores)) == len(scores)
    seeds = {
        records.seeds(0, place, repeat)[1] for place in range(50) for repeat in range(4)
    }
    refits = {records.seeds(0, (1 << 32) + place)[1] for place in range(50)}
    assert len(seeds | refits) == 250


def test_where_seeds_change_nothing_the_search_goes_on(tmp_path):
    def square(hp):
        return [(hp.Float("x", -1, 1) - 0.3) ** 2]

    results = search(tmp_path, model=Analytic(square))
    assert len(results.rows()) == 20
    assert [len(scores) for scores in repeats(results).values()] == [1]
    assert "repeats say nothing" in results.why()[-2]
    assert results.best_score == min(first_scores(results).values())


def test_a_score_without_logs_may_be_the_same_by_chance(tmp_path):
    class Counts(Noisy):
        def fit(self, hp, model, *args, **kwargs):
            super().fit(hp, model, *args, **kwargs)
            return float(np.random.randint(3))

    for seed in range(3):
        results = search(tmp_path / str(seed), model=Counts(), seed=seed)
        assert sum(map(len, repeats(results).values())) == 6


def test_an_exhausted_space_is_confirmed_with_what_is_left(tmp_path):
    def curve(hp):
        return [hp.Int("a", 0, 4) + np.random.normal()]

    results = search(tmp_path, model=Noisy(function=curve), sampler="grid")
    assert sorted(row["hp:a"] for row in results.rows()[:5]) == [0, 1, 2, 3, 4]
    assert sum(map(len, repeats(results).values())) == 6
    assert len(results.rows()) == 11
    assert results.why()[-1] == "The search ended: all of the space has been tried."


def test_repeats_are_no_configurations_to_a_sampler(tmp_path):
    seen = []

    class Watched(optuna.samplers.RandomSampler):
        def sample_independent(self, study, trial, name, distribution):
            seen.append([t.number for t in study.get_trials() if records.is_repeat(t)])
            return super().sample_independent(study, trial, name, distribution)

    def proposed(results):
        return [row["hp:x"] for row in results.rows() if row["repeat_of"] is None]

    sampler = kopt.tuning.Optuna(sampler=Watched)
    storage = optuna.storages.InMemoryStorage()
    search(tmp_path / "a", trials=20, sampler=sampler, storage=storage)
    more = search(tmp_path / "a", trials=40, sampler=sampler, storage=storage)
    whole = search(tmp_path / "b", trials=40, sampler=sampler)
    assert not any(seen)
    count = len(proposed(more))
    assert proposed(more) == proposed(whole)[:count]
    assert len(more.rows()) == 40


@pytest.mark.parametrize("sampler", ["TPE", "Bayesian", "Sobol"])
def test_a_larger_budget_confirms_those_that_lead_then(tmp_path, sampler):
    storage = optuna.storages.InMemoryStorage()
    search(tmp_path, trials=14, sampler=sampler, storage=storage)
    results = search(tmp_path, trials=30, sampler=sampler, storage=storage)
    assert len(results.rows()) == 30
    made = repeats(results)
    assert set(map(len, made.values())) == {2}
    assert len(made) > 3 or len(first_scores(results)) == 24


def scores(results):
    """What was scored, with its configuration and which repeat it is."""
    trials = results.study.get_trials(deepcopy=False)
    return sorted(
        (
            row["score"],
            row["hp:x"],
            trials[row["number"]].user_attrs.get(records.REPEAT, 0),
        )
        for row in results.rows()
        if row["state"] == "complete"
    )


def test_a_search_that_is_interrupted_repeats_itself(tmp_path):
    storage = MortalStorage()
    whole = scores(search(tmp_path / "whole", trials=11, storage=storage))
    assert len(whole) == 11
    for dies_at in range(storage.writes // 3, storage.writes, 7):
        storage = MortalStorage()
        storage.revive(dies_at=dies_at)
        with pytest.raises(Killed):
            search(tmp_path / str(dies_at), trials=11, storage=storage)
        storage.revive()
        results = search(tmp_path / str(dies_at), trials=11, storage=storage)
        assert scores(results) == whole


def test_several_workers_make_each_repeat_once(tmp_path):
    random = np.random.default_rng(0)

    def noisy(hp):
        # Threads share the seed of NumPy.
        return [value + random.normal() for value in slow_square(hp)]

    results = together(4, noisy, tmp_path, budget=Budget(trials=16), confirm=2)
    states = collections.Counter(row["state"] for row in results.rows())
    assert states["complete"] == 16
    assert {len(scores) for scores in repeats(results).values()} == {2}
    assert len(repeats(results)) == 3
    last = max(first_scores(results))
    assert all(
        row["repeat_of"] is None for row in results.rows() if row["number"] <= last
    )


def test_a_repeat_that_fails_speaks_against_its_configuration(tmp_path):
    class Fragile(Noisy):
        def build(self, hp):
            model = super().build(hp)
            self.built = getattr(self, "built", 0) + 1
            if self.built == 15:  # The first repeat, of the leading trial.
                raise ValueError("diverged")
            return model

    results = search(tmp_path, model=Fragile(noise=0.01))
    searched = first_scores(results)
    leading = min(list(searched)[:14], key=searched.get)
    assert results.rows()[14]["repeat_of"] == leading
    assert results.rows()[14]["state"] == "failed"
    assert results.best_trial.number != leading
    assert results.best_trial.user_attrs.get(records.REPEAT_OF) != leading
    assert "1 failed" in results.why()[-2]
    assert sum(row["state"] == "complete" for row in results.rows()) == 20


def test_repeats_are_never_pruned_and_prune_nobody(tmp_path):
    def curve(hp):
        x = hp.Float("x", 0, 1)
        return [x + 0.1 * np.random.normal() for _ in range(4)]

    results = search(
        tmp_path,
        trials=30,
        model=Noisy(function=curve),
        pruner=optuna.pruners.ThresholdPruner(upper=0.45, n_warmup_steps=1),
        epochs=4,
    )
    rows = results.rows()
    assert any(row["state"] == "pruned" for row in rows)
    assert all(row["epochs"] == 4 for row in rows if row["repeat_of"] is not None)
    assert sum(map(len, repeats(results).values())) == 6
    assert len(rows) == 30


def test_a_budget_of_epochs_has_room_for_repeats(tmp_path):
    def curve(hp):
        return [hp.Float("x", 0, 1) + np.random.normal() for _ in range(2)]

    model = Noisy(function=curve)
    results = search(tmp_path, model=model, budget=Budget(epochs=31), epochs=2)
    assert len(results.rows()) == 15
    assert sum(map(len, repeats(results).values())) == 6


class Watch:
    """A clock that moves when it is told to."""

    def __init__(self):
        self.seconds = 0.0

    def monotonic(self):
        return self.seconds


def test_minutes_are_kept_for_repeats(tmp_path, monkeypatch):
    watch = Watch()
    monkeypatch.setattr("kopt.tuning._trials.clock.time", watch)

    def curve(hp):
        watch.seconds += 10
        return [hp.Float("x", 0, 1) + np.random.normal()]

    model = Noisy(function=curve)
    results = search(tmp_path, model=model, budget=Budget(minutes=201 / 60))
    assert sum(map(len, repeats(results).values())) == 6
    assert len(results.rows()) == 20


def test_the_model_of_a_winner_is_kept(tmp_path):
    class Saving(Noisy):
        def build(self, hp):
            model = super().build(hp)
            curve = list(self.curve)
            self.curve = curve
            model.save = lambda path: path.write_text(json.dumps(curve[-1]))
            return model

    for seed in range(4):
        folder = tmp_path / str(seed)
        results = search(folder, model=Saving(noise=3.0), seed=seed)
        (kept,) = folder.glob("*.keras")
        assert kept.name == f"tuning-{results.best_trial.number}.keras"
        assert json.loads(kept.read_text()) == results.best_trial.value


def test_without_a_word_short_searches_are_not_confirmed(tmp_path):
    for trials, expected in ((20, 0), (40, 3)):
        results = search(tmp_path / str(trials), trials=trials, confirm="auto")
        assert sum(map(len, repeats(results).values())) == expected
        assert len(results.rows()) == trials


def test_a_hypermodel_with_a_seed_of_its_own_is_not_confirmed(tmp_path):
    model = kopt.tuning.HyperMLP((4,), classes=2, seed=1)
    with pytest.raises(ValueError, match=r"own: seed=1\. Leave its `seed` out"):
        kopt.tuning.Tuner(
            model, [0], objective="loss", budget=Budget(trials=50), confirm=2
        )


@pytest.mark.parametrize(
    ("confirm", "error", "message"),
    [
        (-1, ValueError, "whole number of at least 0. Received: confirm=-1"),
        (True, TypeError, "0 for never"),
        ("often", TypeError, '"auto"'),
        (2, ValueError, "are 6 trials. Received: confirm=2 with trials=7"),
    ],
)
def test_what_cannot_be_repeated_is_an_error(tmp_path, confirm, error, message):
    with pytest.raises(error, match=message):
        search(tmp_path, trials=7, confirm=confirm)


def test_with_one_configuration_nothing_is_repeated(tmp_path):
    def one(hp):
        return [hp.Choice("a", [1]) + np.random.normal()]

    results = search(tmp_path, model=Noisy(function=one))
    assert len(results.rows()) == 1


def test_of_failed_trials_none_is_repeated(tmp_path):
    def fails(hp):
        hp.Float("x", 0, 1)
        raise ValueError("never")

    with pytest.raises(SearchError, match="10 trials in a row"):
        search(tmp_path, model=Noisy(function=fails))
