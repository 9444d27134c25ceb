"""Several workers on one study: exactly so many trials, none lost, none twice."""

import collections
import contextlib
import threading
import time

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

import kopt
from kopt.tuning._trials import records
from kopt.tuning._workers.folder import joined
from tests.tuning.analytic import Analytic, Killed, Model, analytic_search

Budget = kopt.tuning.Budget
ELSEWHERE = "0123@another machine"


def square(hp):
    return [(hp.Float("x", -1, 1) - 0.3) ** 2 + 1, (hp.Float("x", -1, 1) - 0.3) ** 2]


def slow_square(hp):
    time.sleep(0.01 + 0.02 * abs(hp.Float("x", -1, 1)))
    return square(hp)


def together(count, function, folder, **arguments):
    """The same search from several workers at once; the results."""
    found, errors = [], []
    barrier = threading.Barrier(count)

    def work():
        try:
            barrier.wait(10)
            found.append(analytic_search(function, folder, **arguments))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    if errors:
        raise errors[0]
    return found[0]


def states(results):
    return collections.Counter(row["state"] for row in results.rows())


def places(results):
    """The places of the search whose trials count."""
    trials = results.study.get_trials(deepcopy=False)
    return [
        records.original(trial) for trial in trials if trial.state in records.COUNTED
    ]


def drawn(results):
    """The values of `x` by the places of the search."""
    return dict(
        zip(
            places(results),
            [row["hp:x"] for row in results.rows() if row["state"] == "complete"],
            strict=True,
        )
    )


def study_in(storage):
    """A study as a search makes it, before any worker has come."""
    return optuna.create_study(
        storage=storage, study_name="tuning", load_if_exists=True
    )


def begun(**attributes):
    """A trial that another worker has begun."""
    marks = {records.WORKER: ELSEWHERE, records.FOLDER: "another", **attributes}
    return create_trial(
        state=TrialState.RUNNING,
        params={"x": 0.5},
        distributions={"x": optuna.distributions.FloatDistribution(-1, 1)},
        user_attrs=marks,
    )


def running(study, **attributes):
    study.add_trial(begun(**attributes))


@pytest.fixture
def storage(tmp_path):
    """A database that other machines could use."""
    return f"sqlite:///{tmp_path / 'shared.db'}"


def journal(tmp_path):
    return optuna.storages.JournalStorage(JournalFileBackend(str(tmp_path / "log")))


# How many trials


@pytest.mark.parametrize("kind", ["folder", "address", "journal", "memory"])
def test_several_workers_do_exactly_as_many_trials(kind, tmp_path):
    storage = {
        "folder": lambda: None,
        "address": lambda: f"sqlite:///{tmp_path / 'a.db'}",
        "journal": lambda: journal(tmp_path),
        "memory": optuna.storages.InMemoryStorage,
    }[kind]()
    folder = tmp_path / "run"
    results = together(
        3, slow_square, folder, storage=storage, budget=Budget(trials=10)
    )
    assert states(results)["complete"] == 10
    assert len(set(places(results))) == 10
    owners = {t.user_attrs[records.WORKER] for t in results.study.trials}
    assert len(owners) == 3


class Interposed(optuna.storages.InMemoryStorage):
    """Another worker creates a trial a moment before each of this one's.

    It ends a while later.
    """

    def __init__(self):
        super().__init__()
        self.others = []
        self.reads = 0

    def create_new_trial(self, study_id, template_trial=None):
        if template_trial.state == TrialState.RUNNING:
            self.others.append(super().create_new_trial(study_id, begun()))
            self.reads = 0
        return super().create_new_trial(study_id, template_trial)

    def get_all_trials(self, study_id, *args, **arguments):
        self.reads += 1
        if self.reads > 8:
            while self.others:
                other = self.others.pop()
                self.set_trial_state_values(other, TrialState.COMPLETE, [2.0])
        return super().get_all_trials(study_id, *args, **arguments)


def test_a_trial_beyond_the_budget_is_taken_back(tmp_path):
    model = Analytic(square)
    results = analytic_search(
        model, tmp_path, storage=Interposed(), budget=Budget(trials=5)
    )
    # 0 and 1, 2 and 3, and 4 of the other worker; 5 would have been one too many.
    assert states(results) == {"complete": 5, "cut off": 1}
    assert len(model.curves) == 2
    assert "one more than the budget" in results.rows()[5]["reason"]


def test_a_trial_that_was_taken_back_comes_first_with_a_larger_budget(tmp_path):
    storage = Interposed()
    for trials in (1, 2):
        budget = Budget(trials=trials)
        results = analytic_search(square, tmp_path, storage=storage, budget=budget)
    assert states(results) == {"complete": 2, "cut off": 1}
    assert results.study.trials[2].user_attrs[records.RETRY_OF] == 1


def test_epochs_of_running_trials_count_before_they_are_trained(tmp_path):
    results = together(
        3, slow_square, tmp_path, budget=Budget(epochs=11, trials=99), epochs=2
    )
    assert states(results)["complete"] == 5


def test_a_grid_is_tried_once_by_several_workers(tmp_path):
    def function(hp):
        value = hp.Int("a", 1, 3) + hp.Int("b", 1, 4)
        time.sleep(0.01)
        return [value]

    results = together(3, function, tmp_path, sampler="grid", budget=Budget(trials=12))
    done = [r for r in results.rows() if r["state"] == "complete"]
    assert len({(row["hp:a"], row["hp:b"]) for row in done}) == len(done) == 12


def test_given_configurations_are_run_once(tmp_path):
    initial = [{"x": value / 10} for value in range(5)]
    results = together(
        3, slow_square, tmp_path, initial=initial, budget=Budget(trials=8)
    )
    drawn = [row["hp:x"] for row in results.rows() if row["state"] == "complete"]
    assert len(drawn) == 8
    for value in range(5):
        assert drawn.count(value / 10) == 1


def test_workers_draw_different_points_from_one_seed(tmp_path):
    sampler = kopt.tuning.Random()
    alone = analytic_search(square, tmp_path / "alone", sampler=sampler)
    several = together(3, slow_square, tmp_path / "several", sampler=sampler)
    assert drawn(several) == drawn(alone)


# Which trials are dead


def test_a_trial_without_a_first_sign_of_life_runs_again(tmp_path, storage):
    # Its worker was killed between creating it and anything else.
    study_in(storage).add_trial(create_trial(state=TrialState.RUNNING))
    results = analytic_search(
        square, tmp_path, storage=storage, budget=Budget(trials=3), grace=0.3
    )
    assert states(results) == {"cut off": 1, "complete": 3}
    assert 0 in places(results) and len(set(places(results))) == 3


def test_the_last_trial_is_waited_for_and_run_again(tmp_path, storage):
    running(study_in(storage), **{records.BEAT: 1.0})
    started = time.monotonic()
    results = analytic_search(
        square, tmp_path, storage=storage, budget=Budget(trials=1), grace=0.5
    )
    assert time.monotonic() - started > 0.5
    assert states(results) == {"cut off": 1, "complete": 1}
    assert places(results) == [0]


def test_a_trial_that_gives_signs_of_life_is_left_alone(tmp_path, storage):
    study = study_in(storage)
    running(study)

    def live():
        for beat in range(1, 21):
            study._storage.set_trial_user_attr(1, records.BEAT, float(beat))
            time.sleep(0.1)
        study.tell(0, 0.25)

    thread = threading.Thread(target=live)
    thread.start()
    results = analytic_search(
        square, tmp_path, storage=storage, budget=Budget(trials=2), grace=0.6
    )
    thread.join()
    assert states(results) == {"complete": 2}
    assert results.rows()[0]["score"] == 0.25


def test_a_worker_beats_while_it_trains(tmp_path, storage):
    beats = set()

    def function(hp):
        hp.Float("x", 0, 1)
        for epoch in range(12):
            time.sleep(0.05)
            (trial,) = study_in(storage).get_trials(deepcopy=False)
            beats.add(trial.user_attrs.get(records.BEAT))
            yield 1.0 / (1 + epoch)

    analytic_search(
        function, tmp_path, storage=storage, budget=Budget(trials=1), grace=0.4
    )
    assert len(beats) > 3


def test_a_dead_worker_of_the_same_folder_is_known_at_once(tmp_path, storage):
    def dies(hp):
        hp.Float("x", -1, 1)
        raise Killed

    def is_dead(*args):
        raise AssertionError("nothing was told of the death")

    model = Analytic(dies)
    monkey = pytest.MonkeyPatch()
    # A killed process tells nothing.
    monkey.setattr("kopt.tuning._workers.queue.Queue.tell", is_dead)
    monkey.setattr("optuna.Trial.set_user_attr", lambda *args: None)
    with contextlib.suppress(Killed, AssertionError):
        analytic_search(model, tmp_path, storage=storage, budget=Budget(trials=2))
    monkey.undo()
    assert study_in(storage).trials[0].state == TrialState.RUNNING
    started = time.monotonic()
    results = analytic_search(
        square, tmp_path, storage=storage, budget=Budget(trials=2), grace=3600
    )
    assert time.monotonic() - started < 60
    assert states(results) == {"cut off": 1, "complete": 2}


def test_a_lock_says_nothing_about_a_worker_of_another_machine(tmp_path):
    with joined(tmp_path) as worker:
        name, here = worker.name.split("@")
        assert not worker.has_ended(worker.name)
        assert worker.has_ended(f"gone@{here}")
        assert not worker.has_ended("gone@another machine")
        assert worker.has_ended("gone@another machine", same_machine=True)
        assert worker.is_alone()
        with joined(tmp_path) as other:
            assert other.mark == worker.mark
            assert not other.has_ended(f"{name}@{here}")
            assert not worker.is_alone()
        assert worker.has_ended(other.name)


# Late workers


def call_dead(storage, number):
    """What another worker does to a trial that gives no sign of life."""
    study = study_in(storage)
    trial = study.get_trials(deepcopy=False)[number]
    study._storage.set_trial_user_attr(trial._trial_id, records.CUT_OFF, "late")
    study.tell(number, state=TrialState.FAIL)


@pytest.mark.parametrize("moment", ["building", "training", "saving"])
def test_a_late_worker_lives_on_and_its_trial_counts_once(tmp_path, storage, moment):
    called = []

    def late(now):
        if now == moment and not called:
            called.append(now)
            call_dead(storage, 1)

    class Saved(Model):
        def save(self, path):
            super().save(path)
            if len(model.curves) == 2:
                late("saving")

    class Late(Analytic):
        def build(self, hp):
            super().build(hp)
            if len(self.curves) == 1:
                late("building")
            return Saved()

    def function(hp):
        x = hp.Float("x", -1, 1)
        yield x + 1
        if len(model.curves) == 2:
            late("training")
        yield x - len(model.curves)  # each is the best, and is saved

    model = Late(function)
    results = analytic_search(model, tmp_path, storage=storage, budget=Budget(trials=4))
    assert called
    assert states(results) == {"cut off": 1, "complete": 4}
    assert sorted(places(results)) == [0, 1, 3, 4]
    repeated, first = results.rows()[2], results.rows()[1]
    assert repeated["hp:x"] == first.get("hp:x", repeated["hp:x"])
    assert any("called dead while its worker was late" in w for w in results.why())
    # Nothing of the late one stays.
    files = [path.name for path in tmp_path.glob("*.keras")]
    assert files == [f"tuning-{results.best_trial.number}.keras"]


def test_a_late_worker_stops_its_training_at_once(tmp_path, storage):
    class Batches(Analytic):
        """Epochs without an end, as a worker's own training may have."""

        def fit(self, hp, model, *args, callbacks, **kwargs):
            if self.curves:
                return super().fit(hp, model, *args, callbacks=callbacks, **kwargs)
            self.curves.append([])
            call_dead(storage, 0)
            for _ in range(200):
                time.sleep(0.05)
                for callback in callbacks:
                    callback.on_train_batch_end(0)
            raise AssertionError("the training went on")

    model = Batches(square)
    results = analytic_search(
        model, tmp_path, storage=storage, budget=Budget(trials=1), grace=0.4
    )
    assert states(results) == {"cut off": 1, "complete": 1}


def test_of_two_repetitions_the_first_one_stays(tmp_path, storage):
    study = study_in(storage)
    running(study)
    call_dead(storage, 0)
    for _ in range(2):  # Two workers that found it dead at the same time.
        study.enqueue_trial({}, user_attrs={records.RETRY_OF: 0, records.GIVEN: {}})
    results = analytic_search(
        square, tmp_path, storage=storage, budget=Budget(trials=2)
    )
    assert states(results) == {"cut off": 1, "withdrawn": 1, "complete": 2}
    assert sorted(places(results)) == [0, 3]


def test_a_configuration_that_ends_every_worker_is_given_up(tmp_path, storage):
    study = study_in(storage)
    running(study)
    for number in range(4):
        trial = study.get_trials(deepcopy=False)[number]
        why = "its worker ended, or gave no sign of life"
        study._storage.set_trial_user_attr(trial._trial_id, records.CUT_OFF, why)
        study.tell(number, state=TrialState.FAIL)
        running(study, **{records.RETRY_OF: 0})
    results = analytic_search(
        square, tmp_path, storage=storage, budget=Budget(trials=2), grace=0.3
    )
    assert states(results) == {"cut off": 4, "failed": 1, "complete": 2}
    assert "5 times its worker ended" in results.rows()[4]["reason"]


# What they share


def test_lines_of_several_workers_are_all_kept(tmp_path):
    def fails_below(hp):
        if (x := hp.Float("x", 0, 1)) < 0.4:
            raise ValueError("too small")
        return [x]

    results = together(3, fails_below, tmp_path, sampler=kopt.tuning.Random())
    failed = [row["number"] for row in results.rows() if row["state"] == "failed"]
    assert failed
    said = [line for line in results.why() if "failed (error)" in line]
    assert sorted(int(line.split()[1]) for line in said) == failed


def test_names_that_several_workers_meet_are_all_kept(tmp_path):
    def function(hp):
        kind = hp.Choice("kind", list("abcd"))
        time.sleep(0.01)
        return [hp.Float(f"only_{kind}", 0, 1)]

    results = together(
        3,
        function,
        tmp_path,
        sampler=kopt.tuning.Random(),
        initial=[{"kind": kind} for kind in "abcd"],
        budget=Budget(trials=12),
    )
    kept = {entry["name"] for entry in results.study.user_attrs[records.SPACE]}
    assert kept == {"kind", "only_a", "only_b", "only_c", "only_d"}


def test_the_best_models_are_those_of_all_workers(tmp_path):
    results = together(3, slow_square, tmp_path, keep=2, budget=Budget(trials=12))
    done = [row for row in results.rows() if row["state"] == "complete"]
    ranked = sorted(done, key=lambda row: row["score"])
    expected = {f"tuning-{row['number']}.keras" for row in ranked[:2]}
    assert {path.name for path in tmp_path.glob("*.keras")} == expected


def test_a_model_in_a_folder_that_is_not_seen_is_an_error_that_names_it(
    tmp_path, storage
):
    first, second = tmp_path / "first", tmp_path / "second"
    budget = Budget(trials=1)
    analytic_search(square, first, storage=storage, budget=budget)
    results = kopt.tuning.Results(second, storage=storage)
    with pytest.raises(RuntimeError, match=r"another folder.*`directory`"):
        results.best_model()
    analytic_search(square, second, storage=storage, budget=Budget(trials=2))
    assert any("not the same folder" in line for line in results.why())
