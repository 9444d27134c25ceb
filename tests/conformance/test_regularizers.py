"""What holds for every regularizer in the registry.

A regularizer declares on its class, as `_traits`, configurations to try and shapes that
it takes; `tests/reference/regularizers.py` has its formula in float64 under its name.
It is tested as soon as it is registered. Those that hold weights to noted values have a
test of their own for what they compute.
"""

import copy
import inspect
import json
import pickle

import keras
import numpy as np
import pytest
import scipy
import tensorflow as tf

from kopt import _registry
from kopt._live_float import LiveFloat
from tests.reference import regularizers as reference

REGULARIZERS = [
    entry
    for name in _registry.names("regularizers")
    if inspect.isclass(entry := _registry.entry("regularizers", name))
]


def cases(regularizers):
    return [
        pytest.param((regularizer, config), id=f"{regularizer.__name__}-{index}")
        for regularizer in regularizers
        for index, config in enumerate(regularizer._traits.configs)
    ]


def of_kind(*kinds):
    return [one for one in REGULARIZERS if one._traits.penalizes in kinds]


CASES = cases(REGULARIZERS)
ON_ARRAYS = cases(of_kind("weights", "activations"))
FIRST = [param for param in ON_ARRAYS if param.id.endswith("-0")]
FIRST_ON_WEIGHTS = [c for c in cases(of_kind("weights")) if c.id.endswith("-0")]
# Every shape with the first configuration, and the last shape with every configuration.
SHAPED = [
    pytest.param(
        (case.values[0], shape),
        id=f"{case.id}-{shape}",
        marks=[] if case in FIRST or shape == shapes[-1] else [pytest.mark.slow],
    )
    for case in ON_ARRAYS
    for shapes in [case.values[0][0]._traits.shapes]
    for shape in shapes
]
NUMBERS = [
    pytest.param((regularizer, name), id=f"{regularizer.__name__}-{name}")
    for regularizer in REGULARIZERS
    for name, value in vars(regularizer).items()
    if isinstance(value, LiveFloat)
]
NUMBERS_ON_ARRAYS = [
    param
    for param in NUMBERS
    if param.values[0][0] in of_kind("weights", "activations")
]
NUMBERS_ON_WEIGHTS = [
    param for param in NUMBERS if param.values[0][0] in of_kind("weights")
]


@pytest.fixture(params=CASES)
def penalty(request):
    regularizer, config = request.param
    return regularizer(**config)


@pytest.fixture(params=SHAPED)
def shaped(request):
    """A regularizer and weights that it takes."""
    (regularizer, config), shape = request.param
    return regularizer(**config), sample_for(regularizer, shape)


@pytest.fixture(params=NUMBERS)
def number(request):
    """A regularizer all whose numbers are 0.1, and the name of one."""
    regularizer, name = request.param
    numbers = [key for key, value in vars(regularizer).items() if is_live(value)]
    config = regularizer._traits.configs[0]
    return regularizer(**{**config, **dict.fromkeys(numbers, 0.1)}), name


def sample_for(regularizer, shape):
    """Weights or activations that a regularizer is meant for."""
    generator = np.random.default_rng(0)
    if regularizer._traits.values == "unit":
        return generator.uniform(0.05, 0.95, shape).astype("float32")
    return generator.normal(size=shape).astype("float32")


def is_live(value):
    return isinstance(value, LiveFloat)


def twin(penalty, weights):
    """The penalty in float64, from its definition."""
    formula = getattr(reference, type(penalty).__name__)
    value = formula(np.array(weights, "float64"), **penalty.get_config())
    # Keras divides that of activations by the size of the batch.
    return value * (len(weights) if on_activations(penalty) else 1)


def on_activations(penalty):
    return penalty is not None and penalty._traits.penalizes == "activations"


def near(penalty, expected, **more):
    return pytest.approx(expected, **{"rel": penalty._traits.tolerance, **more})


def kernel_of(model):
    return model.layers[0].kernel.numpy()


def model_with(penalty, **arguments):
    place = f"{'activity' if on_activations(penalty) else 'kernel'}_regularizer"
    return keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(
                4, activation="sigmoid", **{place: penalty}, **arguments
            ),
            keras.layers.Dense(1, dtype="float32"),
        ]
    )


def value_in(model, penalty, kernel):
    """The penalty of such a model in float64, with another first kernel."""
    if not on_activations(penalty):
        return twin(penalty, kernel)
    inputs, _ = data()
    activations = scipy.special.expit(inputs.astype("float64") @ kernel)
    return twin(penalty, activations) / len(inputs)


def data():
    generator = np.random.default_rng(1)
    inputs = generator.normal(size=(16, 5)).astype("float32")
    return inputs, inputs.sum(axis=1, keepdims=True)


def fit(model, steps, **arguments):
    batches = tf.data.Dataset.from_tensors(data()).repeat(steps)
    return model.fit(batches, shuffle=False, verbose=0, **arguments).history["loss"]


def test_equals_its_definition(shaped):
    penalty, weights = shaped
    value = penalty(weights)
    assert value.shape == ()
    assert value.dtype == "float32"
    assert float(value) == near(penalty, twin(penalty, weights))


def test_equals_its_definition_in_float64(shaped):
    keras.config.set_floatx("float64")
    penalty, weights = shaped
    weights = weights.astype("float64")
    value = float(penalty(weights))
    # The factor itself is a float32.
    assert value == pytest.approx(twin(penalty, weights), rel=1e-7)


def test_slope_equals_that_of_its_definition(shaped):
    penalty, weights = shaped
    _, slope = value_and_slope(penalty, weights)
    expected = reference.gradient(lambda moved: twin(penalty, moved), weights)
    largest = abs(expected).max()
    np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-6 * largest + 1e-8)


def value_and_slope(penalty, weights):
    values = tf.constant(weights)
    with tf.GradientTape() as tape:
        tape.watch(values)
        value = penalty(values)
    return float(value), tape.gradient(value, values).numpy()


def test_zeros_have_the_penalty_of_the_definition_and_a_finite_slope(shaped):
    penalty, weights = shaped
    value, slope = value_and_slope(penalty, 0 * weights)
    assert value == near(penalty, twin(penalty, 0 * weights), abs=0)
    assert np.isfinite(slope).all()
    if penalty._traits.is_flat_at_zero:
        np.testing.assert_array_equal(slope, 0 * weights)


def test_equal_weights_have_the_penalty_of_the_definition_and_a_finite_slope(shaped):
    penalty, weights = shaped
    equal = np.full_like(weights, 0.3)
    value, slope = value_and_slope(penalty, equal)
    assert value == pytest.approx(twin(penalty, equal), rel=1e-5, abs=1e-6)
    assert np.isfinite(slope).all()


def test_weights_of_rank_one_have_the_penalty_of_the_definition(shaped):
    penalty, weights = shaped
    column = weights.reshape(-1, weights.shape[-1] if weights.ndim else 1)
    deficient = np.outer(column[:, 0], np.arange(1, column.shape[1] + 1) / 10)
    deficient = abs(deficient).reshape(weights.shape).astype("float32")
    value, slope = value_and_slope(penalty, deficient)
    expected = twin(penalty, deficient)
    assert value == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("tiny", [1e-18, 1e-30, 1e-44])
def test_weights_that_vanish_have_a_finite_slope(shaped, tiny):
    penalty, weights = shaped
    value, slope = value_and_slope(penalty, np.full_like(weights, tiny))
    assert np.isfinite(value)
    assert np.isfinite(slope).all()


def test_configuration_survives_json(penalty):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(penalty)))
    assert config["registered_name"] == f"kopt>{type(penalty).__name__}"
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(penalty)
    assert again.get_config() == penalty.get_config()


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_a_copy_has_numbers_of_its_own(number, copied):
    penalty, name = number
    other = copied(penalty)
    assert other.get_config() == penalty.get_config()
    setattr(other, name, 0.9)
    assert getattr(penalty, name) == 0.1


def test_configuration_has_every_constructor_argument(penalty):
    arguments = inspect.signature(type(penalty).__init__).parameters
    for name in arguments.keys() - {"self", "kwargs"}:
        assert penalty.get_config()[name] == getattr(penalty, name)


def test_shows_its_configuration(penalty):
    for name, value in penalty.get_config().items():
        assert f"{name}={value!r}" in repr(penalty)


@pytest.mark.parametrize("penalty", FIRST, indirect=True)
@pytest.mark.parametrize("jit_compile", [False, True])
def test_changes_the_loss_by_the_penalty(penalty, jit_compile):
    model, plain = model_with(penalty), model_with(None)
    plain.set_weights(model.get_weights())
    losses = []
    for one in (model, plain):
        one.compile("sgd", "mse", jit_compile=jit_compile)
        losses.append(one.evaluate(*data(), batch_size=16, verbose=0))
    difference = losses[0] - losses[1]
    expected = value_in(model, penalty, kernel_of(model))
    assert difference == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("penalty", FIRST, indirect=True)
@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_step_of_fit_follows_its_slope(penalty, jit_compile):
    model = model_with(penalty)
    model.compile(
        keras.optimizers.SGD(0.5), lambda y, p: 0 * p, jit_compile=jit_compile
    )
    before = kernel_of(model)
    fit(model, steps=1)
    slope = reference.gradient(lambda moved: value_in(model, penalty, moved), before)
    np.testing.assert_allclose(
        kernel_of(model), before - 0.5 * slope, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("penalty", FIRST_ON_WEIGHTS, indirect=True)
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_penalizes_the_float32_weights(penalty, policy):
    model = model_with(penalty, dtype=policy)
    (value,) = model.losses
    assert float(value) == near(penalty, twin(penalty, kernel_of(model)))
    model.compile("adam", "mse", jit_compile=False)
    assert np.isfinite(fit(model, steps=2)).all()


@pytest.mark.parametrize("penalty", FIRST_ON_WEIGHTS, indirect=True)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_trains_weights_of_other_float_types(penalty, dtype):
    model = model_with(penalty, dtype=dtype)
    (value,) = model.losses
    kernel = keras.ops.cast(model.layers[0].kernel, "float64")
    assert float(value) == near(penalty, twin(penalty, kernel))
    model.compile("sgd", "mse", jit_compile=False)
    assert np.isfinite(fit(model, steps=2)).all()


@pytest.mark.parametrize("penalty", ON_ARRAYS, indirect=True)
def test_does_not_overflow_in_half_precision(penalty):
    weights = keras.ops.full((60, 60), 300.0, "float16")
    value = float(penalty(weights))
    assert np.isfinite(value)
    assert value == pytest.approx(twin(penalty, weights), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("penalty", FIRST_ON_WEIGHTS, indirect=True)
def test_a_saved_model_is_penalized_as_before(penalty, tmp_path):
    model = model_with(penalty)
    model.compile("adam", "mse", jit_compile=False)
    fit(model, steps=2)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.layers[0].kernel_regularizer.get_config() == penalty.get_config()
    assert fit(model, steps=3) == fit(again, steps=3)
    np.testing.assert_array_equal(kernel_of(model), kernel_of(again))


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("number", NUMBERS_ON_ARRAYS, indirect=True)
def test_its_numbers_move_without_a_new_trace(number, jit_compile):
    penalty, name = number
    weights = sample_for(type(penalty), (5, 4))
    traces = []

    @tf.function(jit_compile=jit_compile)
    def run(values):
        traces.append(None)
        return penalty(values)

    for value in (0.1, 0.7, 0.0):
        setattr(penalty, name, value)
        assert getattr(penalty, name) == value
        assert float(run(weights)) == near(penalty, twin(penalty, weights))
    assert len(traces) == 1


@pytest.mark.parametrize("number", NUMBERS_ON_WEIGHTS, indirect=True)
def test_a_number_moved_between_epochs_counts_in_the_next(number):
    penalty, name = number
    model = model_with(penalty)
    model.compile(keras.optimizers.SGD(0.0), lambda y, p: 0 * p, jit_compile=False)

    class Move(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            setattr(penalty, name, float(epoch + 1))
            expected.append(twin(penalty, kernel_of(model)))

    expected = []
    batch = tf.data.Dataset.from_tensors(data())
    history = model.fit(
        batch, epochs=3, callbacks=[Move()], shuffle=False, verbose=0
    ).history
    assert history["loss"] == near(penalty, expected)


@pytest.mark.parametrize("number", NUMBERS_ON_WEIGHTS, indirect=True)
def test_a_moved_number_is_saved(number, tmp_path):
    penalty, name = number
    model = model_with(penalty)
    setattr(penalty, name, 0.35)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert getattr(again.layers[0].kernel_regularizer, name) == 0.35


def test_one_variable_steers_several(number):
    penalty, name = number
    steering = keras.Variable(0.2, trainable=False)
    arguments = {**penalty.get_config(), name: steering}
    several = [type(penalty)(**arguments) for _ in range(2)]
    steering.assign(0.4)
    assert [getattr(one, name) for one in several] == [0.4, 0.4]


@pytest.mark.parametrize("value", [-1e-9, float("nan"), float("inf")])
def test_a_number_that_is_no_factor_is_refused(number, value):
    penalty, name = number
    with pytest.raises(ValueError, match=f"`{name}` must be a finite number"):
        type(penalty)(**{**penalty.get_config(), name: value})
