"""What holds for every optimizer in the registry.

Expected numbers come from the float64 references in `tests/reference/optimizers`,
written from the papers. An optimizer is tested as soon as it is registered and has a
reference; the cases to run stand in the reference.
"""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from kopt import _registry
from kopt.optimizers._base import Optimizer
from tests.optimizers.test_replicas import trained as trained_on_tokens
from tests.reference.optimizers import trajectory
from tests.sampling import sampled

OPTIMIZERS = [
    name
    for name in _registry.names("optimizers")
    if inspect.isclass(entry := _registry.entry("optimizers", name))
    and issubclass(entry, keras.optimizers.Optimizer)
    # Those that stand around another optimizer have a suite of their own.
    and not issubclass(entry, kopt.optimizers.Wrapper)
]
CASES = [
    pytest.param(name, case, id=f"{name}-{case}")
    for name in OPTIMIZERS
    for case in trajectory.module_of(name).CASES
]
each_case = pytest.mark.parametrize(("name", "case"), CASES)
each_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


def first_of_each_kind():
    """The first optimizers that use the engine in some way; others use it the same."""
    kinds = {}
    for name in reversed(OPTIMIZERS):
        method = _registry.entry("optimizers", name)
        hooks = (method.shared_slots, method.kernel)
        own = [hook is not getattr(Optimizer, hook.__name__) for hook in hooks]
        traits = (method.elementwise, method.measures, method.draws, method.rescales)
        kinds[(*traits, *own)] = name
    return kinds.values()


# For what the engine does, which is the same code for all optimizers of a kind.
each_kind = pytest.mark.parametrize(
    "name",
    sampled(OPTIMIZERS, ["Adam", *first_of_each_kind()], others=pytest.mark.slow),
)

# For what takes seconds a method and goes through the engine alone.
each_kind_of_all = pytest.mark.parametrize(
    "name", sampled(OPTIMIZERS, ["Adam", *first_of_each_kind()])
)


class HalvingEvery(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that is exact in float32."""

    def __init__(self, rate, steps):
        self.rate, self.steps = rate, steps

    def __call__(self, step):
        exponent = keras.ops.floor(keras.ops.cast(step, "float32") / self.steps)
        return self.rate * keras.ops.power(0.5, exponent)

    def values(self, count):
        return [self.rate * 0.5 ** (step // self.steps) for step in range(count)]


def stream_of(name, **arguments):
    """The stream; a reference may name shapes of its own, in `SHAPES`."""
    shapes = getattr(trajectory.module_of(name), "SHAPES", trajectory.SHAPES)
    return trajectory.stream(shapes=shapes, **arguments)


def first_case(name):
    return trajectory.module_of(name).CASES[0]


def tolerance(name, usual=1e-6):
    """For float32; a reference may name another, in `TOLERANCE`."""
    return getattr(trajectory.module_of(name), "TOLERANCE", usual)


def noise(name, usual=1e-6):
    """Between two runs of kopt that ought to be one; a reference may name `NOISE`."""
    return getattr(trajectory.module_of(name), "NOISE", tolerance(name, usual))


def make(name, case=None, **options):
    return _registry.get("optimizers", name, **{**(case or {}), **options})


def run(optimizer, weights, gradients, dtype="float32", jit_compile=None):
    """Weights and states after a stream, through one compiled function."""
    variables = [keras.Variable(w, dtype=dtype) for w in weights]
    optimizer.build(variables)

    @tf.function(jit_compile=jit_compile)
    def step(*gradients):
        optimizer.apply(list(gradients), variables)

    for gradient in gradients:
        step(*[tf.constant(g, dtype) for g in gradient])
    assert step.experimental_get_tracing_count() == 1
    states = [
        {slot: s.numpy() for slot, s in optimizer.state(v).items()} for v in variables
    ]
    return [variable.numpy() for variable in variables], states


def flat(states):
    return [state[slot] for state in states for slot in sorted(state)]


SCHEDULE = HalvingEvery(2.0**-6, 10)


def options_of(case):
    return {"weight_decay": 0.05, "global_clipnorm": 4.0, **case}


def steps_of(name, case, dtype="float32"):
    """Weights and states after the stream."""
    optimizer = make(name, options_of(case), learning_rate=SCHEDULE)
    return run(optimizer, *stream_of(name), dtype)


def distances(name, case, found, states):
    """Largest relative differences of weights and of states to the reference."""
    weights, gradients = stream_of(name)
    rates = SCHEDULE.values(len(gradients))
    expected, expected_states, largest = trajectory.run(
        name, weights, gradients, rates, **options_of(case)
    )
    return (
        trajectory.distance(found, expected, weights),
        trajectory.distance(
            *([0.0, *flat(s)] for s in (states, expected_states, largest))
        ),
    )


def parity(name, case, dtype="float32"):
    return distances(name, case, *steps_of(name, case, dtype))


@each_case
def test_weights_and_state_follow_the_paper_in_float32(name, case):
    weights, states = parity(name, case)
    assert weights < tolerance(name)
    assert states < tolerance(name)


@each_case
def test_weights_and_state_follow_the_paper_in_float64(name, case):
    keras.backend.set_floatx("float64")
    weights, states = parity(name, case, "float64")
    assert weights < 1e-10
    assert states < 1e-10


@pytest.mark.slow
@each_optimizer
def test_the_comparison_notices_another_method(name):
    weights, gradients = stream_of(name)
    rates = [2.0**-6] * len(gradients)
    own, _ = run(
        make(name, learning_rate=rates[0], weight_decay=0.0), weights, gradients
    )
    for other in set(OPTIMIZERS) - {name, *same_without_decay(name)}:
        expected, _, _ = trajectory.run(other, weights, gradients, rates)
        assert trajectory.distance(own, expected, weights) > 1e-3, other


def same_without_decay(name):
    """A reference names those that its method equals on dense gradients, in `SAME`."""
    return {
        other
        for other in OPTIMIZERS
        if other in getattr(trajectory.module_of(name), "SAME", ())
        or name in getattr(trajectory.module_of(other), "SAME", ())
    }


@pytest.mark.slow
@each_case
def test_the_comparison_notices_a_changed_coefficient(name, case):
    signature = inspect.signature(_registry.entry("optimizers", name))
    arguments = {p.name: p.default for p in signature.parameters.values()} | case
    found = steps_of(name, case)
    for argument, value in arguments.items():
        if (
            argument in ("learning_rate", "name")
            or argument in getattr(trajectory.module_of(name), "INERT", {})
            or type(value) is not float
            or not value
        ):
            continue
        # A small epsilon is meant to be without effect.
        changed = 1e-2 if abs(value) < 1e-5 else value * 0.97
        other = {**case, argument: changed}
        assert max(distances(name, other, *found)) > 1e-5, argument


@pytest.mark.slow
@each_kind
def test_xla_gives_the_same_as_the_plain_graph(name):
    case = first_case(name)
    weights, gradients = stream_of(name, steps=10)
    plain, _ = run(make(name, case), weights, gradients)
    compiled, _ = run(make(name, case), weights, gradients, jit_compile=True)
    assert trajectory.distance(compiled, plain, weights) < noise(name)


@each_case
def test_a_large_variable_follows_the_paper_too(name, case):
    # 300 x 300 numbers go through the fused path; a stream's last gradient is zero.
    weights, gradients = trajectory.stream(shapes=[(300, 300), (4, 2)], steps=5)
    options = {"weight_decay": 0.05, **case}
    found, _ = run(make(name, options, learning_rate=2.0**-6), weights, gradients)
    expected, _, _ = trajectory.run(name, weights, gradients, [2.0**-6] * 5, **options)
    assert np.max(np.abs(expected[0] - weights[0])) > 1e-4
    assert trajectory.distance(found, expected, weights) < noise(name)


@pytest.mark.slow
@each_case
def test_a_large_variable_gets_the_same_as_a_small_one(name, case):
    if not _registry.entry("optimizers", name).elementwise:
        pytest.skip("not elementwise: a part does not move like the whole")
    # 2 x 300 x 300 numbers go through the fused path; their first rows also alone.
    weights, gradients = trajectory.stream(shapes=[(300, 300), (4, 300)], steps=10)
    weights[1] = weights[0][:4]
    gradients = [[g, g[:4]] for g, _ in gradients]
    (large, small), _ = run(make(name, case), weights, gradients)
    assert np.max(np.abs(large - weights[0])) > 1e-3
    np.testing.assert_allclose(large[:4], small, rtol=0, atol=1e-6)


@each_optimizer
def test_config_round_trips(name):
    options = {"weight_decay": 0.02, "global_clipnorm": 1.0, "sparse": "lazy"}
    optimizer = make(name, **options, cautious=True, state_dtype="bfloat16")
    again = type(optimizer).from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config()
    assert keras.optimizers.get({"class_name": f"kopt>{name}", "config": {}})


@each_optimizer
def test_every_constructor_argument_is_an_attribute_and_in_the_config(name):
    optimizer = make(name)
    for argument in inspect.signature(type(optimizer)).parameters:
        if argument == "options":
            continue
        assert hasattr(optimizer, argument), argument
        assert argument in optimizer.get_config(), argument


def small_model():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, activation="tanh"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(3, kernel_constraint="max_norm"),
        ]
    )


def small_data(count=64):
    generator = np.random.default_rng(3)
    x = generator.normal(size=(count, 6)).astype("float32")
    return x, np.argmax(x[:, :3] + 0.1 * x[:, 3:], axis=1)


def fit(model, epochs, initial_epoch=0, batch_size=16):
    x, y = small_data()
    history = model.fit(
        x,
        y,
        batch_size=batch_size,
        epochs=epochs,
        initial_epoch=initial_epoch,
        shuffle=False,
        verbose=0,
    )
    return history.history["loss"]


def compile_small(optimizer, model=None, **arguments):
    model = model or small_model()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, **arguments)
    return model


@pytest.mark.slow
@each_kind_of_all
def test_saving_and_loading_in_mid_training_changes_nothing(name, tmp_path):
    options = {"use_ema": True, "ema_overwrite_frequency": 5, "weight_decay": 0.01}
    options |= first_case(name)
    straight = compile_small(make(name, options))
    fit(straight, 4)
    stopped = compile_small(make(name, options))
    # Keras writes the averages into the model when a fit ends: do not let it.
    stopped.optimizer.finalize_variable_values = lambda variables: None
    fit(stopped, 2)
    stopped.save(tmp_path / "half.keras")
    resumed = keras.saving.load_model(tmp_path / "half.keras")
    fit(resumed, 4, initial_epoch=2)
    for expected, found in zip(straight.weights, resumed.weights, strict=True):
        np.testing.assert_array_equal(found.numpy(), expected.numpy())
    for expected, found in zip(
        straight.optimizer.variables, resumed.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(found.numpy(), expected.numpy())


@pytest.mark.slow
@each_kind
def test_three_small_batches_accumulated_are_one_large_batch(name):
    weights, gradients = stream_of(name, steps=12)
    means = [
        [np.mean(group, axis=0) for group in zip(*gradients[i : i + 3], strict=True)]
        for i in range(0, 12, 3)
    ]
    options = {"global_clipnorm": 2.0, "learning_rate": HalvingEvery(2.0**-6, 2)}
    whole, _ = run(make(name, **options), weights, means)
    options["gradient_accumulation_steps"] = 3
    parts, _ = run(make(name, **options), weights, gradients)
    assert trajectory.distance(parts, whole, weights) < noise(name)


@pytest.mark.slow
@each_kind_of_all
def test_two_replicas_give_the_same_as_one(name, two_replicas):
    options = {
        "learning_rate": 0.01,
        "global_clipnorm": 0.5,
        "use_ema": True,
        # Every other one accumulates.
        "gradient_accumulation_steps": [None, 2][OPTIMIZERS.index(name) % 2],
    }
    results = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        with strategy.scope():
            keras.utils.set_random_seed(1)
            # No batch statistics: each replica would have its own.
            layers = [
                keras.layers.Dense(8, activation="tanh"),
                keras.layers.Dense(3, kernel_constraint="max_norm"),
            ]
            model = keras.Sequential([keras.Input((6,)), *layers])
            compile_small(make(name, **options), model)
        fit(model, 2)
        results.append(model.get_weights())
    for one, two in zip(*results, strict=True):
        np.testing.assert_allclose(two, one, rtol=0, atol=noise(name, 2e-6))


@pytest.mark.slow
@each_kind_of_all
def test_rows_of_an_embedding_move_on_two_replicas_as_on_one(name, two_replicas):
    rows = ["exact"]
    if _registry.entry("optimizers", name).elementwise:
        rows.append("lazy")
    for sparse in rows:
        flags = {**that_trains(name), "sparse": sparse, "clipnorm": 0.5}
        one, two = (
            trained_on_tokens(strategy, lambda flags=flags: make(name, **flags))
            for strategy in (tf.distribute.get_strategy(), two_replicas)
        )
        for expected, found in zip(one, two, strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=noise(name, 5e-6))


def that_trains(name):
    """Arguments for the small model; a reference may have its own, in `TRAINS`."""
    return {"learning_rate": 0.01, **getattr(trajectory.module_of(name), "TRAINS", {})}


@pytest.mark.slow
@each_kind_of_all
def test_trains_under_mixed_float16_with_loss_scaling(name):
    keras.config.set_dtype_policy("mixed_float16")
    model = compile_small(make(name, that_trains(name)))
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    losses = fit(model, 15)
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.slow
@each_kind_of_all
@pytest.mark.parametrize("rounding", [None, "stochastic", "kahan"])
def test_trains_bfloat16_variables(name, rounding):
    keras.config.set_dtype_policy("bfloat16")
    model = compile_small(make(name, that_trains(name), bf16_rounding=rounding))
    losses = fit(model, 15)
    assert model.trainable_variables[0].dtype == "bfloat16"
    assert losses[-1] < 0.9 * losses[0]
    for variable in model.trainable_variables:
        for slot, state in model.optimizer.state(variable).items():
            assert state.dtype == ("bfloat16" if slot == "compensation" else "float32")


@pytest.mark.slow
@each_case
def test_repeated_rows_count_as_in_the_dense_gradient(name, case):
    generator = np.random.default_rng(5)
    table = generator.normal(size=(12, 4)).astype("float32")
    indices = generator.integers(0, 6, size=(20, 9))
    values = generator.normal(size=(20, 9, 4)).astype("float32")
    dense = np.zeros((20, 12, 4), "float32")
    for step, rows in enumerate(indices):
        np.add.at(dense[step], rows, values[step])
    options = {**case, "global_clipnorm": 3.0}
    (expected,), _ = run(make(name, options), [table], [[step] for step in dense])
    variable = keras.Variable(table)
    optimizer = make(name, options, sparse="exact")
    optimizer.build([variable])

    @tf.function
    def step(rows, numbers):
        gradient = tf.IndexedSlices(numbers, rows, tf.constant([12, 4]))
        optimizer.apply([gradient], [variable])

    for rows, numbers in zip(indices, values, strict=True):
        step(tf.constant(rows), tf.constant(numbers))
    np.testing.assert_allclose(variable.numpy(), expected, rtol=0, atol=1e-6)


@each_case
@pytest.mark.parametrize("jit_compile", sampled([False, True], [False]))
def test_lazy_rows_move_only_when_they_are_touched(name, case, jit_compile):
    if not _registry.entry("optimizers", name).elementwise:
        pytest.skip("the method is not elementwise: it has no row update")
    generator = np.random.default_rng(5)
    table = generator.normal(size=(6, 4)).astype("float32")
    variable = keras.Variable(table)
    optimizer = make(name, case, sparse="lazy", learning_rate=2.0**-6)
    optimizer.build([variable])

    @tf.function(jit_compile=jit_compile)
    def step(rows, numbers):
        gradient = tf.IndexedSlices(numbers, rows, tf.constant([6, 4]))
        optimizer.apply([gradient], [variable])

    # Rows 1 and 4 are in every batch, row 1 twice: for them, a dense run of the two.
    values = generator.normal(size=(8, 3, 4)).astype("float32")
    for numbers in values:
        step(tf.constant([1, 4, 1]), tf.constant(numbers))
    arguments = {"weight_decay": 0.0, **case}
    sums = [[(n[0] + n[2]).astype("float64"), n[1].astype("float64")] for n in values]
    expected, _, _ = trajectory.run(
        name, [table[1], table[4]], sums, [2.0**-6] * 8, **arguments
    )
    np.testing.assert_allclose(variable.numpy()[[1, 4]], expected, rtol=0, atol=2e-6)
    untouched = [0, 2, 3, 5]
    np.testing.assert_array_equal(variable.numpy()[untouched], table[untouched])


@each_optimizer
def test_goes_into_compile_by_its_registered_name(name):
    model = compile_small(f"kopt>{name}", run_eagerly=True)
    assert isinstance(model.optimizer, getattr(kopt, name))
    assert fit(model, 1)


@each_optimizer
def test_keeps_one_trace_while_the_learning_rate_moves(name):
    variable = keras.Variable(np.ones(3, "float32"))
    optimizer = make(name, learning_rate=0.1)
    optimizer.build([variable])

    @tf.function
    def step():
        optimizer.apply([tf.ones(3)], [variable])

    for count in range(100):
        optimizer.learning_rate = 0.1 / (count + 1)
        step()
    assert step.experimental_get_tracing_count() == 1


@each_optimizer
def test_a_negative_learning_rate_is_refused(name):
    with pytest.raises(ValueError, match=r"`learning_rate` must be .* at least 0"):
        make(name, learning_rate=-0.1)


@each_optimizer
def test_steps_with_eager_variables_as_in_a_graph(name):
    weights, gradients = stream_of(name, steps=5)
    graph, _ = run(make(name), weights, gradients)
    variables = [keras.Variable(w) for w in weights]
    optimizer = make(name)
    for gradient in gradients:
        optimizer.apply([tf.constant(g, "float32") for g in gradient], variables)
    eager = [variable.numpy() for variable in variables]
    assert trajectory.distance(eager, graph, weights) < noise(name)
