"""LRFinder beside other callbacks: a right sweep, or an error that names the other."""

import keras
import numpy as np
import pytest

import kopt
from kopt.callbacks import EvalWeights, FitSchedule, LRFinder, ReduceOnPlateau
from kopt.quantization import FreezeLate
from kopt.schedules import Cosine

X = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
Y = X @ np.array([[1.0], [-2.0], [0.5], [1.0]], "float32")
CALLBACKS = keras.callbacks


def compiled(optimizer=None):
    keras.utils.set_random_seed(0)
    parts = [kopt.layers.Dropout(0.1, seed=1), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *parts])
    model.compile(optimizer or kopt.SGD(0.5, momentum=0.9), "mse")
    return model


def swept(model, *others, before=(), steps=20):
    finder = LRFinder(1e-4, 1.0, steps=steps)
    callbacks = [*before, finder, *others]
    model.fit(X, Y, 4, epochs=10, verbose=0, shuffle=False, callbacks=callbacks)
    return finder


def schedule(**options):
    return FitSchedule(Cosine(0.1, steps=1.0), **options)


def rate_by_function(model):
    return model.optimizer.learning_rate


class Meddler(CALLBACKS.Callback):
    """Drives the rate without saying so."""

    def on_train_batch_begin(self, batch, logs=None):
        self.model.optimizer.learning_rate = 0.25


DRIVERS = {
    "FitSchedule": schedule,
    "LRFinder": lambda: LRFinder(1e-4, 1.0, steps=20),
    "EarlyStopping": lambda: CALLBACKS.EarlyStopping("loss"),
    "EvalWeights": lambda: EvalWeights(statistics=X),
    "SwapEMAWeights": CALLBACKS.SwapEMAWeights,
    "FreezeLate": FreezeLate,
    "ReduceOnPlateau": lambda: ReduceOnPlateau("loss"),
    "ModelCheckpoint": lambda: CALLBACKS.ModelCheckpoint(
        "never.keras", monitor="loss", save_best_only=True
    ),
}


@pytest.mark.parametrize("name", DRIVERS)
@pytest.mark.parametrize("first", [True, False])
def test_a_callback_that_would_spoil_the_sweep_is_named(name, first):
    model, other = compiled(), DRIVERS[name]()
    others = {"before": [other]} if first else {}
    before = model.get_weights()
    with pytest.raises(ValueError, match=f"LRFinder cannot run beside {name}, which"):
        swept(model, *([] if first else [other]), **others)
    for one, value in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, value)
    assert float(model.optimizer.learning_rate) == 0.5


def test_a_backup_is_refused_before_it_holds_weights_of_the_sweep(tmp_path):
    backup = CALLBACKS.BackupAndRestore(tmp_path / "backup")
    with pytest.raises(ValueError, match="beside BackupAndRestore, which would back"):
        swept(compiled(), backup)
    assert not list(tmp_path.rglob("*.h5"))


def test_a_schedule_of_the_rate_is_found_inside_of_lists_and_behind_a_function():
    nested = CALLBACKS.CallbackList([schedule()])
    with pytest.raises(ValueError, match="beside FitSchedule"):
        swept(compiled(), nested)
    with pytest.raises(ValueError, match="beside FitSchedule"):
        swept(compiled(), schedule(target=rate_by_function, name="rate"))


def test_a_sweep_in_a_list_of_the_users_own_runs():
    model = compiled()
    finder = LRFinder(1e-4, 1.0, steps=20)
    callbacks = CALLBACKS.CallbackList([finder], add_history=True, model=model)
    model.fit(X, Y, 4, epochs=10, verbose=0, callbacks=callbacks)
    assert len(finder.losses) > 10


def test_the_same_sweep_passed_twice_is_refused():
    finder = LRFinder(steps=20)
    with pytest.raises(ValueError, match="beside LRFinder"):
        compiled().fit(X, Y, epochs=30, verbose=0, callbacks=[finder, finder])


def test_who_moves_the_rate_after_the_sweep_is_found_out_at_the_first_batch():
    model = compiled()
    before = model.get_weights()
    message = r"was 0\.25 at the end of a batch .*beside LRFinder are: Meddler\."
    with pytest.raises(ValueError, match=message):
        swept(model, Meddler())
    for one, value in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, value)
    assert float(model.optimizer.learning_rate) == 0.5


HARMLESS = {
    "a driver that comes first": lambda: Meddler(),
    "LearningRateScheduler": lambda: CALLBACKS.LearningRateScheduler(
        lambda epoch, rate: 0.25
    ),
    "ReduceLROnPlateau": lambda: CALLBACKS.ReduceLROnPlateau("loss", patience=0),
    "LambdaCallback": CALLBACKS.LambdaCallback,
}


@pytest.mark.parametrize("name", HARMLESS)
@pytest.mark.parametrize("first", [True, False])
def test_other_callbacks_leave_the_sweep_and_the_rate_as_they_are(name, first):
    if not first and name.startswith("a driver"):
        return
    alone, model = swept(compiled()), compiled()
    other = HARMLESS[name]()
    beside = swept(model, before=[other]) if first else swept(model, other)
    np.testing.assert_array_equal(beside.learning_rates, alone.learning_rates)
    np.testing.assert_array_equal(beside.losses, alone.losses)
    assert float(model.optimizer.learning_rate) == 0.5


def test_a_schedule_of_something_else_runs_and_is_put_back():
    model = compiled()
    finder = swept(model, schedule(target="*/rate"))
    assert len(finder.losses) > 10
    assert model.layers[0].rate == pytest.approx(0.1)


def test_a_schedule_inside_of_the_optimizer_is_refused():
    with pytest.raises(ValueError, match="driven by a schedule of its own"):
        swept(compiled(kopt.SGD(Cosine(0.1, steps=10))))


def test_a_checkpoint_after_a_sweep_within_an_epoch_has_the_model_as_it_was(tmp_path):
    model = compiled()
    before = model.get_weights()
    checkpoint = CALLBACKS.ModelCheckpoint(tmp_path / "model.weights.h5", **ONLY)
    finder = LRFinder(1e-4, 1.0, steps=16)
    model.fit(X, Y, 2, epochs=1, verbose=0, callbacks=[finder, checkpoint])
    model.load_weights(tmp_path / "model.weights.h5")
    for one, value in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, value)


ONLY = {"save_weights_only": True}


@pytest.mark.parametrize("wrapper", [kopt.WeightAverage, kopt.Lookahead])
def test_wrappers_are_put_back_with_all_that_they_keep(wrapper):
    model = compiled(wrapper(kopt.SGD(0.5, momentum=0.9)))
    model.fit(X, Y, 4, epochs=1, verbose=0)
    state = [*model.weights, *model.optimizer.variables]
    before = [np.array(variable) for variable in state]
    finder = swept(model)
    assert len(finder.losses) > 10
    for variable, value in zip(state, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_masks_that_a_sweep_moves_are_put_back():
    model = compiled()
    schedule = kopt.pruning.ConstantSparsity(0.5, begin_step=0, frequency=1)
    kopt.pruning.prune_low_magnitude(model, schedule)
    mask = model.layers[-1].kernel.constraint.mask
    before = np.array(mask)
    seen = []
    look = CALLBACKS.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(np.array(mask))
    )
    swept(model, look)
    assert any(np.any(one != before) for one in seen)
    np.testing.assert_array_equal(mask, before)
