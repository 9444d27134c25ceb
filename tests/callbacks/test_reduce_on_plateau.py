import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from kopt.callbacks import FitSchedule, ReduceOnPlateau
from kopt.schedules import Linear, Warmup

X = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
Y = X @ np.ones((3, 2), "float32")


def dense_model(optimizer=None, **arguments):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(optimizer or kopt.SGD(0.1), "mse", metrics=["mae"], **arguments)
    return model


def fit(model, *callbacks, epochs=3, **arguments):
    arguments = {"verbose": 0, "batch_size": 4, "shuffle": False, **arguments}
    return model.fit(X, Y, epochs=epochs, callbacks=callbacks, **arguments).history


def scales(plateau, values):
    """The factor after each of some values of the metric, without training."""
    plateau.set_model(dense_model())
    plateau.on_train_begin()
    found = []
    for epoch, value in enumerate(values):
        plateau.on_epoch_begin(epoch)
        plateau.on_epoch_end(epoch, {plateau.monitor: value})
        found.append(plateau.scale)
    return found


def never_good_enough(monitor="loss", **arguments):
    return ReduceOnPlateau(
        monitor, **{"factor": 0.5, "patience": 1, "min_delta": 1e3, **arguments}
    )


def test_patience_is_how_many_bad_checks_in_a_row_make_a_cut():
    plateau = ReduceOnPlateau("loss", factor=0.5, patience=2, min_delta=0.0)
    values = [3.0, 2.0, 2.0, 1.9, 2.0, 2.0, 2.0, 2.0]
    assert scales(plateau, values) == [1.0] * 5 + [0.5, 0.5, 0.25]
    assert plateau.cuts == [5, 7]


def test_a_change_below_min_delta_is_no_improvement():
    plateau = ReduceOnPlateau("loss", factor=0.5, patience=1, min_delta=0.1)
    assert scales(plateau, [1.0, 0.95, 0.8]) == [1.0, 0.5, 0.5]


def test_higher_is_better_where_the_metric_says_so():
    plateau = ReduceOnPlateau("accuracy", factor=0.5, patience=1)
    assert scales(plateau, [0.5, 0.6, 0.6, 0.7]) == [1.0, 1.0, 0.5, 0.5]


def test_cooldown_and_warmup_do_not_count():
    plateau = ReduceOnPlateau("loss", factor=0.5, patience=1, cooldown=2, warmup=3)
    assert scales(plateau, [1.0] * 8) == [1.0] * 3 + [0.5] * 3 + [0.25] * 2


def test_it_cuts_no_deeper_than_its_minimum():
    plateau = ReduceOnPlateau("loss", factor=0.5, patience=1, minimum=0.2)
    assert scales(plateau, [1.0] * 6) == [1.0, 0.5, 0.25, 0.2, 0.2, 0.2]
    assert plateau.cuts == [1, 2, 3]


def test_a_loss_that_is_not_a_number_is_no_improvement():
    plateau = ReduceOnPlateau("loss", factor=0.5, patience=1)
    assert scales(plateau, [1.0, float("nan")]) == [1.0, 0.5]


def test_without_a_curve_the_rate_itself_is_cut_and_logged():
    model = dense_model()
    history = fit(model, never_good_enough())
    np.testing.assert_allclose(history["learning_rate"], [0.1, 0.1, 0.05], rtol=1e-6)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.025)


@pytest.mark.parametrize("first", [False, True])
def test_beside_a_curve_the_rest_of_the_curve_is_scaled(first):
    curve = FitSchedule(Linear(0.1, steps=1.0))
    callbacks = [curve, never_good_enough()]
    history = fit(dense_model(), *callbacks[:: -1 if first else 1])
    ends = np.array([0.1 * (1 - step / 12) for step in (3, 7, 11)])
    np.testing.assert_allclose(
        history["learning_rate"], ends * [1.0, 1.0, 0.5], rtol=1e-6
    )


def test_each_fit_begins_at_a_factor_of_one():
    plateau = never_good_enough()
    curve = FitSchedule(Linear(0.1, steps=1.0))
    model = dense_model()
    first = fit(model, curve, plateau)["learning_rate"]
    assert fit(model, curve, plateau)["learning_rate"] == first


def test_it_scales_other_things_than_the_rate():
    model = dense_model(kopt.SGD(0.1, momentum=0.9))
    fit(model, never_good_enough(target="momentum"))
    assert model.optimizer.momentum == pytest.approx(0.9 / 4)


@pytest.mark.parametrize("execution", [1, 2])
def test_checks_can_be_made_within_an_epoch(execution):
    plateau = never_good_enough(every=2)
    fit(dense_model(steps_per_execution=execution), plateau)
    # Three epochs of two checks, of which the first sets the best.
    assert plateau.cuts == [1, 2, 3, 4, 5]


def test_a_check_within_an_epoch_is_of_the_mean_over_its_batches():
    plateau = ReduceOnPlateau("loss", every=2)
    seen = []
    plateau._check = seen.append
    losses = []

    class EachLoss(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            values = X[4 * batch : 4 * batch + 4], Y[4 * batch : 4 * batch + 4]
            losses.append(float(np.mean((self.model(values[0]) - values[1]) ** 2)))

    fit(dense_model(), plateau, EachLoss(), epochs=2)
    wanted = np.array(losses).reshape(-1, 2).mean(axis=1)
    np.testing.assert_allclose(seen, wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("monitor", "mode"),
    [("val_loss", "min"), ("val_accuracy", "max"), ("mean_squared_error", "min")],
)
def test_the_direction_is_told_by_the_name(monitor, mode):
    told = scales(ReduceOnPlateau(monitor, patience=1, mode=mode), [1.0, 2.0, 0.0])
    assert scales(ReduceOnPlateau(monitor, patience=1), [1.0, 2.0, 0.0]) == told


def test_a_name_that_does_not_tell_it_is_an_error_at_once():
    with pytest.raises(ValueError, match="mode='min' or mode='max'"):
        ReduceOnPlateau("score")
    assert scales(ReduceOnPlateau("score", patience=1, mode="max"), [1.0, 2.0])


def test_a_metric_of_training_that_is_not_logged_is_an_error_after_a_batch():
    model = dense_model()
    with pytest.raises(ValueError, match=r"'accuracy', which is not logged.*'mae'"):
        fit(model, ReduceOnPlateau("accuracy"), epochs=10)
    assert int(model.optimizer.iterations) <= 4


def test_a_metric_of_validation_that_is_not_logged_is_an_error_after_an_epoch():
    model = dense_model()
    with pytest.raises(ValueError, match=r"'val_acc', which is not logged.*'val_mae'"):
        fit(model, ReduceOnPlateau("val_acc"), epochs=10, validation_data=(X, Y))
    assert model.optimizer.iterations == 4


def test_without_validation_its_metrics_are_an_error_before_the_first_batch():
    model = dense_model()
    with pytest.raises(ValueError, match=r"has no validation.*monitor='loss'"):
        fit(model, ReduceOnPlateau())
    assert model.optimizer.iterations == 0


def test_epochs_without_validation_are_no_checks():
    plateau = never_good_enough("val_loss")
    fit(dense_model(), plateau, epochs=6, validation_split=0.25, validation_freq=2)
    assert plateau.cuts == [1, 2]


def test_a_warm_up_of_the_rate_is_no_plateau():
    curve = FitSchedule(Warmup(0.1, steps=0.5))
    plateau = never_good_enough(warmup=3)
    fit(dense_model(), curve, plateau, epochs=6)
    assert plateau.cuts == [3, 4, 5]


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"monitor": 3}, TypeError, "`monitor` must be a key"),
        ({"factor": 1.0}, ValueError, "`factor` must be .* less than 1"),
        ({"patience": 0}, ValueError, "`patience` must be"),
        ({"mode": "lowest"}, ValueError, "'auto', 'min', 'max'"),
        ({"minimum": 2.0}, ValueError, "`minimum` must be"),
        ({"every": 0}, ValueError, "`every` must be"),
        ({"monitor": "val_loss", "every": 3}, ValueError, "monitor='loss', or leave"),
    ],
)
def test_wrong_arguments_are_refused_at_once(arguments, error, match):
    with pytest.raises(error, match=match):
        ReduceOnPlateau(**{"monitor": "loss", **arguments})


@pytest.mark.peer
@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize(("patience", "cooldown"), [(1, 0), (3, 0), (2, 4)])
def test_it_decides_like_torch(mode, patience, cooldown):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    peer = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer,
        mode,
        factor=0.5,
        patience=patience - 1,  # torch's is how many are borne
        threshold=0.05,
        threshold_mode="abs",
        cooldown=cooldown,
        eps=0.0,
    )
    values = np.random.default_rng(1).normal(size=80) / np.arange(1, 81)
    theirs = []
    for value in values:
        peer.step(value)
        theirs.append(optimizer.param_groups[0]["lr"])
    ours = ReduceOnPlateau(
        "score", 0.5, patience, mode=mode, min_delta=0.05, cooldown=cooldown
    )
    np.testing.assert_allclose(scales(ours, values), theirs, rtol=1e-12)


def test_two_replicas_are_cut_like_one_device(two_replicas):
    def trained(model):
        plateau = never_good_enough(every=2)
        fit(model, FitSchedule(Linear(0.1, steps=1.0)), plateau, batch_size=4)
        return [weight.numpy() for weight in model.weights], plateau.cuts

    with two_replicas.scope():
        model = dense_model()
    ours, cuts = trained(model)
    theirs, same = trained(dense_model())
    assert cuts == same
    for weight, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(weight, other, rtol=1e-6)


class WeightsAtEpochs(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.weights, self.begun = [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.begun.append(self.model.get_weights())

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(self.model.get_weights())


def assert_same_weights(one, other):
    for weight, same in zip(one, other, strict=True):
        np.testing.assert_array_equal(weight, same)


@pytest.mark.parametrize("every", [None, 4])
def test_a_cut_can_go_back_to_the_best_weights_first(every):
    seen = WeightsAtEpochs()
    plateau = ReduceOnPlateau(
        "loss", 0.1, patience=2, mode="max", every=every, restore_best_weights=True
    )  # the loss falls, so the first epoch is the best
    fit(dense_model(), seen, plateau, epochs=4)
    assert plateau.cuts == [2]
    assert_same_weights(seen.begun[3], seen.weights[0])
    assert not np.array_equal(seen.weights[1][0], seen.weights[0][0])


def test_without_the_option_a_cut_leaves_the_weights_alone():
    seen = WeightsAtEpochs()
    fit(dense_model(), seen, ReduceOnPlateau("loss", 0.1, patience=2, mode="max"))
    assert_same_weights(seen.begun[2], seen.weights[1])


def test_statistics_go_back_with_the_weights_and_seeds_go_on():
    keras.utils.set_random_seed(0)
    parts = [keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)]
    model = keras.Sequential([keras.Input((3,)), *parts, keras.layers.Dense(2)])
    model.compile(kopt.Adam(0.1), "mse")
    seed = model.layers[1].seed_generator.state
    before = np.array(seed)
    plateau = ReduceOnPlateau(
        "loss", patience=2, mode="max", min_delta=1e3, restore_best_weights=True
    )
    seen = WeightsAtEpochs()
    fit(model, seen, plateau)
    assert plateau.cuts == [2]
    assert_same_weights(model.get_weights(), seen.weights[0])
    assert int(model.optimizer.iterations) == 12
    assert not np.array_equal(before, seed)


def test_wrappers_go_on_from_the_best_weights():
    model = dense_model(kopt.Lookahead(kopt.SGD(0.1)))
    plateau = ReduceOnPlateau(
        "loss", patience=1, mode="max", min_delta=1e3, restore_best_weights=True
    )
    seen = WeightsAtEpochs()
    fit(model, seen, plateau, epochs=2)
    fit(model, seen, epochs=1)
    assert_same_weights(seen.begun[2], seen.weights[0])


@pytest.mark.slow
@pytest.mark.parametrize("beside_a_curve", [False, True])
def test_two_replicas_train_as_one_device(beside_a_curve, two_replicas):
    weights = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        with strategy.scope():
            model = dense_model(kopt.Adam(0.02))
        plateau = never_good_enough(
            "val_loss", factor=0.25, restore_best_weights=True, cooldown=1
        )
        curve = [FitSchedule(Linear(0.02, steps=1.0))] * beside_a_curve
        fit(model, *curve, plateau, epochs=5, validation_data=(X, Y))
        assert plateau.cuts == [1, 3]
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-6)
