"""Parts of a model that train one after the other."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import kopt
from kopt.callbacks import BackupAndRestore, FitSchedule, GradualUnfreeze, LRFinder
from kopt.schedules import Cosine
from tests.interruption import Cut, CutOff

X = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
Y = X[:, :2] * 2.0
NAMES = ["low", "middle", "head"]


def stack(extra=()):
    keras.utils.set_random_seed(0)
    parts = [layers.Dense(4, name=name) for name in NAMES[:-1]]
    parts.append(layers.Dense(2, name=NAMES[-1]))
    return keras.Sequential([keras.Input((4,)), *extra, *parts])


def grouped(wrap=lambda optimizer: optimizer, **options):
    """A compiled model, and the groups that it is to be thawed by."""
    groups = [kopt.ParamGroup("middle"), kopt.ParamGroup("low")]
    model = stack()
    model.compile(wrap(kopt.Adam(0.01, param_groups=groups, **options)), "mse")
    return model, groups


def layered(optimizer=None, **arguments):
    model = stack()
    model.compile(optimizer or keras.optimizers.Adam(0.01), "mse", **arguments)
    return model, ["middle", "low"]


class Moved(keras.callbacks.Callback):
    """Which of the layers each epoch has moved."""

    def __init__(self):
        super().__init__()
        self.names = []

    def on_epoch_begin(self, epoch, logs=None):
        self.before = [self._kernel(name) for name in NAMES]

    def on_epoch_end(self, epoch, logs=None):
        moved = [
            name
            for name, before in zip(NAMES, self.before, strict=True)
            if not np.array_equal(before, self._kernel(name))
        ]
        self.names.append(moved)

    def _kernel(self, name):
        return np.array(self.model.get_layer(name).kernel)


def fit(model, *callbacks, epochs=3, **arguments):
    moved = Moved()
    arguments = {"batch_size": 4, "verbose": 0, "shuffle": False, **arguments}
    model.fit(X, Y, epochs=epochs, callbacks=[*callbacks, moved], **arguments)
    return moved.names


IN_TURN = [["head"], ["middle", "head"], ["low", "middle", "head"]]
WAYS = {
    "groups": grouped,
    "groups in a wrapper": lambda: grouped(kopt.Lookahead),
    "groups under loss scaling": lambda: grouped(keras.optimizers.LossScaleOptimizer),
    "groups, accumulating": lambda: grouped(gradient_accumulation_steps=2),
    "layers": layered,
    "layers of a kopt optimizer": lambda: layered(kopt.Adam(0.01)),
    "layers, averaged": lambda: layered(kopt.WeightAverage(kopt.Adam(0.01))),
    "layers, use_ema": lambda: layered(kopt.Adam(0.01, use_ema=True)),
    "layers, accumulating": lambda: layered(
        keras.optimizers.Adam(0.01, gradient_accumulation_steps=2)
    ),
    "layers under loss scaling": lambda: layered(
        keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01))
    ),
    "layers, several steps an execution": lambda: layered(steps_per_execution=2),
    "layers under XLA": lambda: layered(jit_compile=True),
}


@pytest.mark.parametrize("way", WAYS)
def test_stages_are_thawed_one_after_the_other(way):
    model, stages = WAYS[way]()
    thaw = GradualUnfreeze(stages)
    assert fit(model, thaw) == IN_TURN
    assert thaw.thaws_at == [1, 2]


@pytest.mark.parametrize("every", [2, 0.25])
def test_epochs_between_stages_are_numbers_or_fractions(every):
    model, stages = grouped()
    moved = fit(model, GradualUnfreeze(stages, every=every), epochs=8)
    assert [len(names) for names in moved] == [1, 1, 2, 2, 3, 3, 3, 3]


@pytest.mark.parametrize("way", ["groups", "layers"])
def test_initial_epoch_says_which_stages_are_due(way):
    model, stages = WAYS[way]()
    moved = fit(model, GradualUnfreeze(stages), epochs=4, initial_epoch=2)
    assert moved == [IN_TURN[2]] * 2


@pytest.mark.parametrize("way", ["groups", "layers"])
def test_a_run_over_several_fits_says_how_long_it_is(way):
    model, stages = WAYS[way]()
    thaw = GradualUnfreeze(stages, epochs=3)
    assert fit(model, thaw, epochs=1) == IN_TURN[:1]
    assert fit(model, thaw, epochs=3, initial_epoch=1) == IN_TURN[1:]


def test_each_fit_begins_with_all_of_them_frozen():
    model, stages = layered()
    thaw = GradualUnfreeze(stages)
    assert fit(model, thaw) == fit(model, thaw) == IN_TURN


def test_frozen_layers_train_like_a_model_compiled_without_them():
    model, _ = layered(kopt.Adam(0.01))
    fit(model, GradualUnfreeze([["low", "middle"]], every=3, epochs=9))
    alone = stack()
    for name in NAMES[:2]:
        alone.get_layer(name).trainable = False
    alone.compile(kopt.Adam(0.01), "mse")
    fit(alone)
    head = zip(model.get_weights()[-2:], alone.get_weights()[-2:], strict=True)
    for one, other in head:
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_a_group_is_not_traced_again():
    class Counting(keras.Sequential):
        traces = 0

        def train_step(self, data):
            self.traces += 1
            return super().train_step(data)

    counts = []
    for stages in (1, 0):
        groups = [kopt.ParamGroup("low")]
        keras.utils.set_random_seed(0)
        parts = [layers.Dense(4, name="low"), layers.Dense(2, name="head")]
        model = Counting([keras.Input((4,)), *parts])
        model.compile(kopt.SGD(param_groups=groups), "mse")
        callbacks = [GradualUnfreeze(groups)][:stages]
        model.fit(X, Y, epochs=3, verbose=0, callbacks=callbacks)
        counts.append(model.traces)
    # The optimizer is built before the first step, which saves a trace.
    assert counts[0] <= counts[1]


def with_normalization():
    model = stack([layers.BatchNormalization(name="norm")])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return model


def test_normalization_in_a_frozen_layer_keeps_its_statistics():
    model = with_normalization()
    norm = model.get_layer("norm")
    fit(model, GradualUnfreeze(["norm"], epochs=2), epochs=1)
    np.testing.assert_array_equal(norm.moving_mean, np.zeros(4))
    fit(model, GradualUnfreeze(["norm"]), epochs=2)
    assert np.abs(np.array(norm.moving_mean)).min() > 0


def test_what_was_frozen_inside_of_a_layer_stays_frozen():
    body = keras.Sequential([keras.Input((4,)), layers.BatchNormalization(name="norm")])
    body.add(layers.Dense(4, name="inner"))
    body.get_layer("norm").trainable = False
    model = stack([body])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    fit(model, GradualUnfreeze([body]), epochs=2)
    assert body.get_layer("inner").trainable
    assert not body.get_layer("norm").trainable
    np.testing.assert_array_equal(body.get_layer("norm").moving_mean, np.zeros(4))


def test_names_may_have_wildcards_and_stages_several_layers():
    model, _ = layered()
    assert fit(model, GradualUnfreeze([["mid*", model.get_layer("low")]])) == [
        ["head"],
        NAMES,
        NAMES,
    ]


def test_a_curve_beside_it_drives_all_stages():
    model, stages = grouped()
    curve = FitSchedule(Cosine(0.01, steps=1.0))
    assert fit(model, curve, GradualUnfreeze(stages)) == IN_TURN


def test_layers_frozen_when_the_optimizer_was_built_are_an_error_at_once():
    model, stages = layered()
    model.get_layer("low").trainable = False
    model.optimizer.build(model.trainable_variables)
    with pytest.raises(ValueError, match=r"built while .*compile again"):
        fit(model, GradualUnfreeze(stages))
    assert model.optimizer.iterations == 0


def test_layers_may_be_frozen_before_the_first_fit():
    model, stages = layered()
    model.get_layer("low").trainable = False
    assert fit(model, GradualUnfreeze(stages)) == IN_TURN


def test_an_average_of_keras_that_needs_all_weights_is_an_error_at_once():
    model, stages = layered(keras.optimizers.Adam(use_ema=True))
    with pytest.raises(ValueError, match=r"kopt\.WeightAverage\(keras"):
        fit(model, GradualUnfreeze(stages))


@pytest.mark.parametrize(
    ("arguments", "epochs"), [({}, 2), ({"every": 2}, 4), ({"every": 0.5}, 10)]
)
def test_a_run_that_ends_before_the_last_stage_is_an_error_at_once(arguments, epochs):
    model, stages = grouped()
    with pytest.raises(ValueError, match=f"before epoch .* the run has {epochs} epo"):
        fit(model, GradualUnfreeze(stages, **arguments), epochs=epochs)
    assert model.optimizer.iterations == 0


def test_a_model_with_nothing_left_to_train_is_an_error_at_once():
    model, _ = layered()
    with pytest.raises(ValueError, match=r"nothing would train before epoch 1"):
        fit(model, GradualUnfreeze([NAMES]))
    assert all(model.get_layer(name).trainable for name in NAMES)


@pytest.mark.parametrize(
    ("stage", "match"),
    [
        (kopt.ParamGroup("low"), r"that the model's optimizer has not"),
        ("lowest", r"no layer of the model matches\. It has: .*'low', 'middle'"),
        (layers.Dense(1, name="other"), "'other', which is not in the model"),
    ],
    ids=["group", "name", "layer"],
)
def test_a_stage_that_is_not_the_models_is_an_error_at_once(stage, match):
    model, _ = grouped()
    with pytest.raises(ValueError, match=match):
        fit(model, GradualUnfreeze([stage]))
    assert model.optimizer.iterations == 0


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"stages": "low"}, TypeError, "`stages` must be a list"),
        ({"stages": []}, TypeError, "`stages` must be a list"),
        ({"stages": [3]}, TypeError, "Each of `stages` must be"),
        ({"stages": [[]]}, TypeError, "Each of `stages` must be"),
        ({"every": 0}, ValueError, "`every` must be a whole number of at least 1"),
        ({"every": 1.5}, ValueError, "`every` must be .* less than 1"),
        ({"epochs": 0}, ValueError, "`epochs` must be"),
    ],
)
def test_wrong_arguments_are_refused_at_once(arguments, error, match):
    with pytest.raises(error, match=match):
        GradualUnfreeze(**{"stages": ["low"], **arguments})


def test_a_sweep_beside_it_is_refused():
    model, stages = grouped()
    with pytest.raises(ValueError, match="GradualUnfreeze, which changes the model"):
        fit(model, LRFinder(steps=10), GradualUnfreeze(stages))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["groups", "layers"])
def test_two_replicas_train_as_one_device(way, two_replicas):
    weights = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        with strategy.scope():
            model, stages = WAYS[way]()
        assert fit(model, GradualUnfreeze(stages)) == IN_TURN
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=2e-6)


def test_a_plan_is_taken_up_by_the_same_plan_alone():
    def begun(every, epochs):
        model, stages = grouped()
        thaw = GradualUnfreeze(stages, every=every)
        fit(model, thaw, epochs=epochs)
        return thaw

    state = begun(1, 3).get_state()
    begun(1, 5).set_state(state)
    with pytest.raises(ValueError, match=r"before epochs \[1, 2\], and are now .*2, 4"):
        begun(2, 5).set_state(state)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "calls"), [("layers", 9), ("layers", 22), ("groups", 14), ("groups", 27)]
)
def test_a_run_that_is_cut_off_goes_on_bit_for_bit(way, calls, tmp_path):
    def run(at=None, backed_up=True):
        model, stages = (grouped if way == "groups" else layered)()
        backup = BackupAndRestore(tmp_path / "backup", save_freq=1)
        callbacks = [GradualUnfreeze(stages), *([backup] if backed_up else [])]
        history = model.fit(
            X,
            Y,
            4,
            epochs=4,
            verbose=0,
            callbacks=[*callbacks, CutOff(at)],
        ).history
        return [
            *model.get_weights(),
            *(v.numpy() for v in model.optimizer.variables),
        ], history

    with pytest.raises(Cut):
        run(calls)
    resumed, history = run()
    whole, expected = run(backed_up=False)
    for one, other in zip(resumed, whole, strict=True):
        np.testing.assert_array_equal(one, other)
    assert history == expected
