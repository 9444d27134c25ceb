import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from kopt.callbacks.eval_weights import EvalWeights
from tests.sampling import sampled

X = np.random.default_rng(0).normal(size=(48, 4)).astype("float32")
Y = X @ np.ones((4, 1), "float32")

OPTIMIZERS = {
    "Lookahead": lambda: kopt.Lookahead(kopt.SGD(0.05), sync_period=5),
    "WeightAverage": lambda: kopt.WeightAverage(kopt.Adam(0.05)),
    "ScheduleFree": lambda: kopt.ScheduleFreeAdamW(0.05),
    "MomentumSAM": lambda: kopt.MomentumSAM(kopt.SGD(0.05, momentum=0.9)),
    "an average inside": lambda: kopt.MomentumSAM(
        kopt.WeightAverage(kopt.Adam(0.05), momentum=0.9)
    ),
    "loss scaling": lambda: keras.optimizers.LossScaleOptimizer(
        kopt.WeightAverage(kopt.Adam(0.05))
    ),
    "EMA of kopt": lambda: kopt.Adam(0.05, use_ema=True, ema_momentum=0.9),
    "EMA of Keras": lambda: keras.optimizers.Adam(0.05, use_ema=True, ema_momentum=0.9),
}
each = pytest.mark.parametrize(
    "kind", sampled(OPTIMIZERS, ["ScheduleFree", "EMA of kopt", "loss scaling"])
)
# Those whose state says what the model holds.
each_recorded = pytest.mark.parametrize(
    "kind", [k for k in OPTIMIZERS if k != "EMA of Keras"]
)


def model_of(optimizer, normalized=False):
    keras.utils.set_random_seed(1)
    # Keras does not save the seeds of dropout, so a resumed run would draw others.
    layers = [keras.layers.BatchNormalization(), keras.layers.Dropout(0.2)]
    layers = [*(layers if normalized else []), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(optimizer, "mse")
    return model


def fit(model, callbacks, last=3, first=0, **arguments):
    options = {"batch_size": 8, "epochs": last, "initial_epoch": first, "verbose": 0}
    return model.fit(X, Y, shuffle=False, callbacks=callbacks, **options, **arguments)


def weights_of(model):
    return [variable.numpy() for variable in model.trainable_variables]


class Watch(keras.callbacks.Callback):
    """Notes the weights wherever somebody could look at them."""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def note(self, where):
        self.seen.setdefault(where, []).append(weights_of(self.model))

    def on_epoch_begin(self, epoch, logs=None):
        self.note("epoch begin")

    def on_train_batch_end(self, batch, logs=None):
        self.note("batch")

    def on_test_begin(self, logs=None):
        self.note("test")

    def on_epoch_end(self, epoch, logs=None):
        self.note("epoch end")


def assert_same(one, other):
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first, second)


def differ(one, other):
    return any(np.any(a != b) for a, b in zip(one, other, strict=True))


@pytest.mark.slow
@each
def test_training_goes_on_as_if_there_were_no_callback(kind):
    runs = []
    for callbacks in ([], [EvalWeights()]):
        watch = Watch()
        data = {"validation_data": (X, Y)} if callbacks else {}
        fit(model_of(OPTIMIZERS[kind]()), [*callbacks, watch], **data)
        runs.append(watch.seen["batch"])
    for without, with_callback in zip(*runs, strict=True):
        assert_same(with_callback, without)


@each
def test_validation_sees_the_evaluation_point(kind):
    watch = Watch()
    model = model_of(OPTIMIZERS[kind]())
    history = fit(model, [EvalWeights(), watch], validation_data=(X, Y))
    for batch, seen in zip(watch.seen["batch"][5::6], watch.seen["test"], strict=True):
        assert differ(batch, seen)
    # The last of them is what `fit` leaves in the model.
    assert_same(watch.seen["test"][-1], weights_of(model))
    loss = model.evaluate(X, Y, batch_size=8, verbose=0)
    assert history.history["val_loss"][-1] == pytest.approx(loss, rel=1e-6)


@pytest.mark.slow
@each
def test_another_fit_goes_on_from_where_training_was(kind):
    straight, parts = model_of(OPTIMIZERS[kind]()), model_of(OPTIMIZERS[kind]())
    fit(straight, [EvalWeights()], last=4)
    callback = EvalWeights()
    fit(parts, [callback], last=2)
    fit(parts, [callback], last=4, first=2)
    assert_same(weights_of(parts), weights_of(straight))


@pytest.mark.slow
@each_recorded
def test_a_checkpoint_holds_what_validation_saw_and_can_be_resumed(kind, tmp_path):
    straight = model_of(OPTIMIZERS[kind]())
    fit(straight, [EvalWeights()], last=4)
    watch = Watch()
    save = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")
    stopped = model_of(OPTIMIZERS[kind]())
    # Without validation nothing else brings the model there.
    fit(stopped, [EvalWeights(), save, watch], last=2)
    loaded = keras.saving.load_model(tmp_path / "2.keras")
    assert_same(weights_of(loaded), watch.seen["epoch end"][-1])
    fit(loaded, [EvalWeights()], last=4, first=2)
    assert_same(weights_of(loaded), weights_of(straight))


def test_a_checkpoint_with_an_average_of_keras_holds_the_average(tmp_path):
    watch = Watch()
    save = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")
    model = model_of(OPTIMIZERS["EMA of Keras"]())
    fit(model, [EvalWeights(), save, watch], last=2, validation_data=(X, Y))
    loaded = keras.saving.load_model(tmp_path / "2.keras")
    assert_same(weights_of(loaded), watch.seen["test"][-1])
    # Its state does not hold the weights that trained, so it trains from there.
    begin = Watch()
    fit(loaded, [EvalWeights(), begin], last=3, first=2)
    assert_same(begin.seen["epoch begin"][0], weights_of_file(tmp_path / "2.keras"))


def weights_of_file(path):
    return weights_of(keras.saving.load_model(path))


@pytest.mark.slow
@each
@pytest.mark.parametrize("first", ["EvalWeights", "the other"])
def test_the_best_checkpoint_scores_what_the_history_says(kind, first, tmp_path):
    path = tmp_path / "best.keras"
    callbacks = [
        EvalWeights(),
        keras.callbacks.ModelCheckpoint(path, save_best_only=True),
    ]
    # With validation in each epoch any order will do.
    callbacks = callbacks if first == "EvalWeights" else callbacks[::-1]
    model = model_of(OPTIMIZERS[kind]())
    history = fit(model, callbacks, last=6, validation_data=(X, Y[::-1])).history
    loss = keras.saving.load_model(path).evaluate(X, Y[::-1], batch_size=8, verbose=0)
    assert loss == pytest.approx(min(history["val_loss"]), rel=1e-5)


class Interrupt(keras.callbacks.Callback):
    """Ends a validation, as Ctrl-C does."""

    def on_test_batch_end(self, batch, logs=None):
        raise KeyboardInterrupt


@pytest.mark.slow
@each
@pytest.mark.parametrize(
    "callbacks", sampled(["another", "none"], ["another"], pytest.mark.slow)
)
def test_training_goes_on_from_where_it_was_after_an_interrupted_validation(
    kind, callbacks
):
    # Two epochs, the first of which ends in the middle of its validation.
    straight = Watch()
    fit(model_of(OPTIMIZERS[kind]()), [EvalWeights(), straight], last=2)
    model, watch = model_of(OPTIMIZERS[kind]()), Watch()
    with pytest.raises(KeyboardInterrupt):
        fit(model, [EvalWeights(), Interrupt()], validation_data=(X, Y))
    fit(model, [*([EvalWeights()] if callbacks == "another" else []), watch], last=1)
    for one, two in zip(watch.seen["batch"], straight.seen["batch"][6:], strict=True):
        assert_same(one, two)


@pytest.mark.parametrize("hook", ["on_test_batch_begin", "on_test_end"])
def test_what_fails_between_two_batches_of_a_validation_leaves_what_trains(hook):
    def fail(*arguments, **named):
        raise KeyboardInterrupt

    broken = keras.callbacks.Callback()
    setattr(broken, hook, fail)
    model, watch = model_of(OPTIMIZERS["EMA of kopt"]()), Watch()
    with pytest.raises(KeyboardInterrupt):
        fit(model, [EvalWeights(), watch, broken], validation_data=(X, Y))
    assert_same(weights_of(model), watch.seen["batch"][-1])
    assert "evaluate" not in vars(model)


def test_validation_has_no_guard_once_training_has_ended():
    model = model_of(OPTIMIZERS["EMA of kopt"]())
    own = model.evaluate = functools.partial(keras.Model.evaluate, model)
    for _ in range(2):
        fit(model, [EvalWeights()], validation_data=(X, Y))
        assert model.evaluate is own


class Failing(keras.losses.Loss):
    """A loss that cannot be computed while it is told to fail."""

    fails = False

    def call(self, y_true, y_pred):
        bad = tf.py_function(lambda: float(1 / (not Failing.fails)), [], "float32")
        bad.set_shape(())
        return keras.ops.mean(keras.ops.square(y_true - y_pred)) * bad


@each
def test_a_step_of_validation_that_fails_puts_the_training_weights_back(
    kind, monkeypatch
):
    model = model_of(OPTIMIZERS[kind]())
    model.compile(OPTIMIZERS[kind](), Failing(), jit_compile=False)
    watch = Watch()

    class Break(keras.callbacks.Callback):
        def on_test_begin(self, logs=None):
            monkeypatch.setattr(Failing, "fails", True)

    with pytest.raises(Exception, match="division by zero"):
        fit(model, [EvalWeights(), watch, Break()], validation_data=(X, Y))
    assert_same(weights_of(model), watch.seen["batch"][-1])


@each
@pytest.mark.parametrize(
    "statistics",
    [
        pytest.param(None, id="plain"),
        pytest.param(X, id="statistics", marks=pytest.mark.slow),
    ],
)
def test_weights_set_between_two_fits_are_where_the_next_begins(kind, statistics):
    model = model_of(OPTIMIZERS[kind](), normalized=statistics is not None)
    callback, watch = EvalWeights(statistics=statistics), Watch()
    fit(model, [callback], last=2, validation_data=(X, Y))
    others = [np.full_like(value, 0.25) for value in model.get_weights()]
    model.set_weights(others)
    model.evaluate(X, Y, verbose=0, callbacks=[callback])
    watch.note = lambda where: watch.seen.setdefault(where, []).append(
        model.get_weights()
    )
    fit(model, [callback, watch], last=1)
    assert_same(watch.seen["epoch begin"][0], others)


@each
def test_weights_that_early_stopping_restored_are_where_the_next_fit_begins(kind):
    callback = EvalWeights()
    stop = keras.callbacks.EarlyStopping(
        "val_loss", patience=0, mode="max", restore_best_weights=True
    )
    model = model_of(OPTIMIZERS[kind]())
    fit(model, [callback, stop], last=9, validation_data=(X, Y))
    restored, watch = weights_of(model), Watch()
    fit(model, [callback, watch], last=1)
    assert_same(watch.seen["epoch begin"][0], restored)


@pytest.mark.slow
@each
def test_a_checkpoint_between_two_batches_resumes_bit_for_bit(kind, tmp_path):
    path = tmp_path / "{batch}.keras"
    save = keras.callbacks.ModelCheckpoint(path, save_freq=4)
    watch = Watch()
    model = model_of(OPTIMIZERS[kind]())
    fit(model, [EvalWeights(), save, watch], last=1, validation_data=(X, Y))
    loaded = keras.saving.load_model(tmp_path / "4.keras")
    assert_same(weights_of(loaded), watch.seen["batch"][3])
    resumed = Watch()
    loaded.fit(
        *(X[32:], Y[32:]),
        batch_size=8,
        shuffle=False,
        verbose=0,
        callbacks=[EvalWeights(), resumed],
    )
    assert_same(resumed.seen["batch"][-1], watch.seen["batch"][-1])


@pytest.mark.slow
@each_recorded
def test_a_backup_resumes_bit_for_bit(kind, tmp_path):
    straight = Watch()
    fit(model_of(OPTIMIZERS[kind]()), [EvalWeights(), straight], last=4)
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(model_of(OPTIMIZERS[kind]()), [EvalWeights(), backup, Stop()], last=4)
    resumed = Watch()
    fit(model_of(OPTIMIZERS[kind]()), [EvalWeights(), backup, resumed], last=4)
    for one, two in zip(
        resumed.seen["batch"], straight.seen["batch"][12:], strict=True
    ):
        assert_same(one, two)


@each
def test_early_stopping_restores_weights_of_the_evaluation_point(kind):
    watch = Watch()
    stop = keras.callbacks.EarlyStopping(
        "val_loss", patience=0, mode="max", restore_best_weights=True
    )
    model = model_of(OPTIMIZERS[kind]())
    history = fit(
        model, [EvalWeights(), stop, watch], last=9, validation_data=(X, Y)
    ).history["val_loss"]
    assert 2 <= len(history) < 9
    best = int(np.argmax(history))
    assert_same(weights_of(model), watch.seen["test"][best])
    loss = model.evaluate(X, Y, verbose=0)
    assert loss == pytest.approx(history[best], rel=1e-5)


@each
def test_evaluate_and_predict_alone_leave_the_model_as_it_was(kind):
    model = model_of(OPTIMIZERS[kind]())
    # Keras brings the model to its evaluation point when a fit ends: not here.
    for _ in range(7):
        model.train_on_batch(X, Y)
    before = weights_of(model)
    watch = Watch()
    model.evaluate(X, Y, verbose=0, callbacks=[EvalWeights(), watch])
    assert differ(watch.seen["test"][0], before)
    assert_same(weights_of(model), before)
    seen = model.predict(X, verbose=0, callbacks=[EvalWeights()])
    assert np.max(np.abs(seen - model.predict(X, verbose=0))) > 0
    assert_same(weights_of(model), before)


@pytest.mark.slow
@each
@pytest.mark.parametrize(
    "arguments", [{"jit_compile": True}, {"steps_per_execution": 3}]
)
def test_it_works_compiled_and_in_long_executions(kind, arguments):
    model = model_of(OPTIMIZERS[kind]())
    model.compile(OPTIMIZERS[kind](), "mse", **arguments)
    losses = fit(model, [EvalWeights()], last=6, validation_data=(X, Y)).history
    assert losses["val_loss"][-1] < losses["val_loss"][0]


@pytest.mark.slow
@each
def test_statistics_are_those_of_the_evaluation_point(kind):
    model = model_of(OPTIMIZERS[kind](), normalized=True)
    fit(model, [EvalWeights(statistics=X, batches=3)], last=1)
    layer = model.layers[0]
    # The first layer sees the inputs, so its statistics can be counted.
    parts = np.split(X, 3)
    mean = np.mean([part.mean(0) for part in parts], axis=0)
    variance = np.mean([part.var(0) for part in parts], axis=0)
    np.testing.assert_allclose(layer.moving_mean, mean, atol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, variance, rtol=1e-5)
    assert layer.momentum == 0.99


@pytest.mark.slow
@each
def test_statistics_and_seeds_of_training_are_put_back(kind):
    runs = []
    for callbacks in ([], [EvalWeights(statistics=X)]):
        model, watch = model_of(OPTIMIZERS[kind](), normalized=True), Watch()
        watch.note = lambda where, w=watch: w.seen.setdefault(where, []).append(
            [variable.numpy() for variable in w.model.variables]
        )
        data = {"validation_data": (X, Y)} if callbacks else {}
        fit(model, [*callbacks, watch], **data)
        runs.append(watch.seen["batch"])
    for without, with_callback in zip(*runs, strict=True):
        assert_same(with_callback, without)


def test_statistics_serve_an_optimizer_with_one_set_of_weights_too():
    model = model_of("sgd", normalized=True)
    fit(model, [EvalWeights(statistics=X, batches=1)], last=1)
    np.testing.assert_allclose(model.layers[0].moving_mean, X.mean(0), atol=1e-6)


@pytest.mark.parametrize("kind", ["dataset", "pairs", "tensor"])
def test_statistics_come_from_any_kind_of_batches(kind):
    data = {
        "dataset": tf.data.Dataset.from_tensor_slices((X, Y)).batch(16),
        "pairs": [(X[:16], Y[:16]), (X[16:32], Y[16:32]), (X[32:], Y[32:])],
        "tensor": tf.constant(X),
    }
    model = model_of("sgd", normalized=True)
    fit(model, [EvalWeights(statistics=data[kind], batches=3)], last=1)
    np.testing.assert_allclose(model.layers[0].moving_mean, X.mean(0), atol=1e-6)


def test_statistics_without_a_batch_are_refused():
    model = model_of("sgd", normalized=True)
    with pytest.raises(ValueError, match="`statistics` has no batch"):
        fit(model, [EvalWeights(statistics=[])])


def test_an_optimizer_with_one_set_of_weights_is_told_what_to_do():
    with pytest.raises(ValueError, match=r"kopt\.WeightAverage\(Adam\(\.\.\.\)\)"):
        fit(model_of("adam"), [EvalWeights()])


def test_a_number_of_batches_below_one_is_refused():
    with pytest.raises(ValueError, match="`batches` must be"):
        EvalWeights(statistics=X, batches=0)
