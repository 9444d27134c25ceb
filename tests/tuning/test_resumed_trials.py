"""A trial that was cut off goes on at the epoch after its last."""

import keras
import keras_tuner
import numpy as np
import pytest

import kopt
from kopt.callbacks._resuming import container
from kopt.tuning._trials import clock, run
from tests.tuning.analytic import Killed, proposals

X = np.random.default_rng(0).normal(size=(24, 4)).astype("float32")
Y = (X[:, :1] > 0).astype("float32")
STEPS, EPOCHS = 3, 5


class Watch(keras.callbacks.Callback):
    """Notes where each epoch begins, and dies in one."""

    def __init__(self, dies_in=None):
        super().__init__()
        self.dies_in, self.begun, self.trial = dies_in, [], None

    def on_epoch_begin(self, epoch, logs=None):
        steps = int(self.model.optimizer.iterations)
        self.begun.append((self.trial, epoch, steps))

    def on_train_batch_end(self, batch, logs=None):
        if (self.trial, self.begun[-1][1]) == self.dies_in and batch == 1:
            self.dies_in = None
            raise Killed

    def get_state(self):
        return {}

    def set_state(self, state):
        pass


def build(hp):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.3)])
    model.add(keras.layers.Dense(1, "sigmoid"))
    rate = hp.Float("rate", 1e-3, 1e-1, sampling="log")
    model.compile(kopt.Adam(rate), "binary_crossentropy")
    return model


def search(folder, watch, model_or_build=build, **arguments):
    def callbacks(trial):
        watch.trial = trial.number
        curve = kopt.schedules.Cosine(0.1, steps=1.0)
        return [kopt.callbacks.FitSchedule(curve), watch]

    return kopt.tuning.tune(
        model_or_build,
        (X, Y),
        objective="val_loss",
        budget=kopt.tuning.Budget(trials=3),
        sampler=kopt.tuning.Random(),
        directory=folder,
        validation_data=(X, Y),
        batch_size=8,
        epochs=EPOCHS,
        **{"callbacks": callbacks, **arguments},
    )


def cut_off(folder, watch, **arguments):
    with pytest.raises(Killed):
        search(folder, watch, **arguments)


def test_optimizer_history_and_score_are_those_of_a_whole_trial(tmp_path):
    watch = Watch(dies_in=(1, 3))
    whole = search(tmp_path / "whole", Watch())
    cut_off(tmp_path / "parts", watch)
    del watch.begun[:]
    found = search(tmp_path / "parts", watch)
    repeated = [(epoch, steps) for trial, epoch, steps in watch.begun if trial == 2]
    # Three epochs had ended; of the fourth two of three batches were trained.
    assert repeated == [(3, 3 * STEPS), (4, 4 * STEPS)]
    assert proposals(found) == proposals(whole)
    assert found.history(2) == whole.history(1)
    assert len(found.history(2)["val_loss"]) == EPOCHS
    np.testing.assert_equal(
        found.best_model().get_weights(), whole.best_model().get_weights()
    )


@pytest.mark.slow
def test_nothing_but_the_best_model_stays(tmp_path):
    cut_off(tmp_path, Watch(dies_in=(1, 3)))
    assert [p.name for p in (tmp_path / "trials").iterdir()] == ["tuning-1"]
    search(tmp_path, Watch())
    assert list((tmp_path / "trials").iterdir()) == []
    assert len(list(tmp_path.glob("*.keras"))) == 1


@pytest.mark.slow
def test_the_epochs_of_all_attempts_count_once(tmp_path):
    cut_off(tmp_path, Watch(dies_in=(1, 3)))
    results = search(tmp_path, Watch())
    assert clock.epochs(results.study.get_trials()) == 3 * EPOCHS


@pytest.mark.slow
def test_a_death_while_a_backup_is_written_leaves_the_epoch_before(
    tmp_path, monkeypatch
):
    written, write = [], container.write

    def half(path, tree):
        written.append(path)
        if len(written) == EPOCHS + 3:
            path.with_name(f".{path.name}.half.draft").write_bytes(b"half of it")
            raise Killed
        write(path, tree)

    watch = Watch()
    with monkeypatch.context() as patch:
        patch.setattr(container, "write", half)
        cut_off(tmp_path, watch)
    del watch.begun[:]
    search(tmp_path, watch)
    assert watch.begun[0] == (2, 2, 2 * STEPS)


@pytest.mark.slow
def test_a_death_between_the_last_epoch_and_the_report_trains_nothing_again(
    tmp_path, monkeypatch
):
    watch = Watch()
    with monkeypatch.context() as patch:
        patch.setattr(run, "_score", lambda *args: (_ for _ in ()).throw(Killed()))
        cut_off(tmp_path, watch)
    del watch.begun[:]
    results = search(tmp_path, watch)
    assert [trial for trial, *_ in watch.begun].count(1) == 0
    assert results.rows()[1]["epochs"] == EPOCHS


def test_without_its_folder_a_trial_starts_anew_and_says_so(tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    watch = Watch(dies_in=(1, 3))
    cut_off(tmp_path / "one", watch, storage=storage)
    (tmp_path / "one" / "trials" / "tuning-1" / "training.backup").unlink()
    del watch.begun[:]
    results = search(tmp_path / "one", watch, storage=storage)
    assert watch.begun[0] == (2, 0, 0)
    assert any("starts anew: there is no backup in" in line for line in results.why())


@pytest.mark.slow
def test_a_fit_of_ones_own_starts_anew_and_says_so(tmp_path):
    class WithFit(keras_tuner.HyperModel):
        def build(self, hp):
            return build(hp)

        def fit(self, hp, model, *args, **arguments):
            return model.fit(*args, **arguments, verbose=0)

    watch = Watch(dies_in=(1, 3))
    cut_off(tmp_path, watch, model_or_build=WithFit())
    del watch.begun[:]
    results = search(tmp_path, watch, model_or_build=WithFit())
    assert watch.begun[0][1:] == (0, 0)
    assert any("a `fit` of its own" in line for line in results.why())


@pytest.mark.slow
def test_a_trial_that_the_pruner_stopped_stays_so(tmp_path):
    def prune(folder, watch):
        return search(folder, watch, pruner=kopt.tuning.Median(startup=1, min_epochs=2))

    expected = proposals(prune(tmp_path / "whole", Watch()))
    watch = Watch(dies_in=(1, 1))
    with pytest.raises(Killed):
        prune(tmp_path / "parts", watch)
    assert proposals(prune(tmp_path / "parts", watch)) == expected
