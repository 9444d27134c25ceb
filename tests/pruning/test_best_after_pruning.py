"""The best epoch of a run in which the sparsity rises."""

import keras
import pytest

from kopt import pruning
from kopt.pruning import BestAfterPruning, prune_low_magnitude, sparsity_report
from tests.pruning.nets import at_once, data, growing, mlp, sparsities, train

STEPS = 6  # an epoch, in `train`


class Worse(keras.callbacks.Callback):
    """Makes each epoch worse than the one before."""

    def on_epoch_end(self, epoch, logs=None):
        logs["val_loss"] = float(epoch)


def fit(model, *callbacks, epochs=5):
    x, y = data()
    model.compile("adam", "mse")
    arguments = dict(batch_size=8, epochs=epochs, shuffle=False, verbose=0)
    return model.fit(x, y, callbacks=[Worse(), *callbacks], **arguments)


def stopping(**arguments):
    return keras.callbacks.EarlyStopping(restore_best_weights=True, **arguments)


def rising(end_epoch=3):
    """0 % to 80 % of zeros in whole epochs."""
    schedule = pruning.PolynomialDecay(0.0, 0.8, 0, end_epoch, frequency=1)
    return schedule.in_epochs(STEPS)


def nested():
    inner = mlp()
    return inner, keras.Sequential([keras.Input((6,)), inner])


def test_a_best_epoch_from_before_the_end_is_said_with_both_sparsities():
    model = prune_low_magnitude(mlp(), rising())
    with pytest.warns(UserWarning, match="the schedule asks for 80%"):
        fit(model, stopping(patience=9))
    assert max(sparsities(model)) < 0.7
    assert [weight.target for weight in sparsity_report(model).weights] == [
        pytest.approx(0.8)
    ] * 2


def test_early_stopping_restores_an_epoch_that_is_as_sparse_as_was_asked():
    model = prune_low_magnitude(mlp(), rising())
    fit(model, BestAfterPruning(stopping(patience=9)))
    assert sparsities(model) == pytest.approx([0.8, 0.8], abs=0.02)


def test_patience_begins_at_the_end_of_the_schedule():
    model = prune_low_magnitude(mlp(), rising(3))
    history = fit(model, BestAfterPruning(stopping(patience=2)), epochs=20)
    assert history.epoch == [0, 1, 2, 3, 4]


def test_a_checkpoint_of_the_best_holds_a_model_as_sparse_as_was_asked(tmp_path):
    model = prune_low_magnitude(mlp(), rising())
    path = tmp_path / "best.keras"
    best = keras.callbacks.ModelCheckpoint(path, save_best_only=True)
    fit(model, BestAfterPruning(best))
    loaded = keras.saving.load_model(path)
    assert sparsities(loaded) == pytest.approx([0.8, 0.8], abs=0.02)


def test_a_checkpoint_every_few_steps_is_held_back_as_well(tmp_path):
    model = prune_low_magnitude(mlp(), rising(3))
    path = str(tmp_path / "{epoch}-{batch}.keras")
    saving = keras.callbacks.ModelCheckpoint(path, save_freq=4)
    fit(model, BestAfterPruning(saving), epochs=4)
    # Steps 18 and later: 18 belongs to epoch 3, whose last batch is its sixth.
    saved = sorted(file.name for file in tmp_path.iterdir())
    assert saved and all(int(name.split("-")[0]) >= 3 for name in saved)


def test_a_model_inside_another_is_waited_for_too():
    inner, outer = nested()
    prune_low_magnitude(inner, rising())
    fit(outer, BestAfterPruning(stopping(patience=9)))
    assert sparsities(outer) == pytest.approx([0.8, 0.8], abs=0.02)


def test_a_best_epoch_of_an_outer_model_is_said_when_it_is_stripped():
    inner, outer = nested()
    prune_low_magnitude(inner, rising())
    fit(outer, stopping(patience=9))
    with pytest.warns(UserWarning, match="the schedule asks for 80%"):
        pruning.strip_pruning(outer)


@pytest.mark.parametrize(
    "arguments",
    [
        dict(pruning_schedule=at_once()),
        dict(sparsity_m_by_n=(2, 4)),
        dict(pruning_schedule=pruning.ConstantSparsity(0.5, 1)),
    ],
)
def test_what_is_as_sparse_as_was_asked_from_the_start_counts_from_it(arguments):
    model = prune_low_magnitude(mlp(), **arguments)
    before = fit(model, BestAfterPruning(stopping(patience=2)), epochs=9)
    assert before.epoch == [0, 1, 2]


def test_a_run_that_ends_before_the_schedule_is_said():
    model = prune_low_magnitude(mlp(), rising(9))
    with pytest.warns(UserWarning, match="ends at step 54, .* ended after step 12"):
        fit(model, BestAfterPruning(stopping()), epochs=2)


def test_every_hook_reaches_the_callbacks_inside():
    heard = set()

    class Listening(keras.callbacks.Callback):
        def __getattribute__(self, name):
            if name.startswith(("on_train", "on_epoch", "on_test")):
                heard.add(name)
            return super().__getattribute__(name)

    model = prune_low_magnitude(mlp(), at_once())
    model.compile("sgd", "mse")
    x, y = data()
    wrapped = BestAfterPruning(Listening())
    model.fit(x, y, validation_data=(x, y), verbose=0, callbacks=[wrapped])
    ends = {
        f"on_{what}_{when}" for what in ("train", "test") for when in ("begin", "end")
    }
    batches = {
        f"on_{w}_batch_{when}" for w in ("train", "test") for when in ("begin", "end")
    }
    assert heard >= ends | batches | {"on_epoch_begin", "on_epoch_end"}
    assert wrapped.callbacks[0].model is model


def test_a_schedule_without_an_end_is_refused():
    def half(step):
        return step == 1, 0.5

    model = prune_low_magnitude(mlp(), half)
    with pytest.raises(ValueError, match="does not say where it ends"):
        fit(model, BestAfterPruning(stopping()))


def test_what_is_no_callback_is_refused():
    with pytest.raises(TypeError, match="must be Keras callbacks"):
        BestAfterPruning([stopping()])
    with pytest.raises(ValueError, match="callbacks"):
        BestAfterPruning()


def test_a_gap_between_the_last_pruning_and_the_end_is_said():
    with pytest.warns(UserWarning, match="last pruning would be at step 0"):
        prune_low_magnitude(mlp(), pruning.PolynomialDecay(0.0, 0.8, 0, 20))
    with pytest.warns(UserWarning, match="last pruning is at step 11, and brings 62%"):
        prune_low_magnitude(
            mlp(), pruning.PolynomialDecay(0.0, 0.8, 1, 20, power=2, frequency=10)
        )


def test_nothing_is_said_of_a_schedule_that_comes_to_its_end():
    model = prune_low_magnitude(mlp(), growing())
    model.compile("sgd", "mse")
    pruning.strip_pruning(train(model, epochs=2))
