"""What holds for every layer in the registry.

A layer declares on its class, as `_traits`, how it can be constructed and which laws it
keeps; it is tested as soon as it is registered.
"""

import inspect
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from kopt import _registry

LAYERS = [
    entry
    for name in _registry.names("layers")
    if inspect.isclass(entry := _registry.entry("layers", name))
]
VARIANTS = [
    pytest.param((layer, variant), id=f"{layer.__name__}-{index}")
    for layer in LAYERS
    for index, variant in enumerate(layer._traits.variants)
]
FIRST_VARIANTS = [param for param in VARIANTS if param.id.endswith("-0")]
POLICIES = ["float32", "mixed_float16", "mixed_bfloat16", "float16", "bfloat16"]


@pytest.fixture(params=VARIANTS)
def make(request):
    """Constructs the layer, with a rate of 0.3 and a seed unless told otherwise."""
    layer, variant = request.param

    def construct(**arguments):
        return layer(**{**variant(), "rate": 0.3, "seed": 11, **arguments})

    construct.traits = layer._traits
    return construct


@pytest.fixture
def inputs(make):
    """Inputs in which each output element depends on one dropped number alone."""
    shape = make.traits.input_shape
    if make.traits.drops == "weights":
        # A one in each place in turn brings each weight of a kernel to the output.
        places = np.arange(np.prod(shape[:-1])) % shape[-1]
        return np.eye(shape[-1], dtype="float32")[places].reshape(shape)
    return np.random.default_rng(0).uniform(0.5, 1.5, shape).astype("float32")


def needs_zeros(make):
    """Skip a test that looks for zeros in the outputs."""
    if make.traits.drops == "recurrent weights":
        pytest.skip("zeros in these weights make no zeros in the outputs")


def model_of(layer, shape):
    return keras.Sequential(
        [
            keras.Input(shape[1:]),
            layer,
            keras.layers.Flatten(),
            keras.layers.Dense(2, dtype="float32"),
        ]
    )


def train(model, inputs, steps):
    """Fits for a number of steps, all on the same batch."""
    targets = np.ones((len(inputs), 2), "float32")
    data = tf.data.Dataset.from_tensors((inputs, targets)).repeat(steps)
    return model.fit(data, shuffle=False, verbose=0).history["loss"]


def as_numpy(tensor):
    return keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))


def test_configuration_survives_json(make):
    layer = make()
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    assert config["registered_name"] == f"kopt>{type(layer).__name__}"
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()
    assert (again.rate, again.seed) == (0.3, 11)


def test_configuration_has_every_constructor_argument(make):
    layer = make()
    arguments = inspect.signature(type(layer).__init__).parameters
    for name in arguments.keys() - {"self", "kwargs"}:
        assert name in layer.get_config()
        assert hasattr(layer, name)


def test_configuration_has_the_rate_as_it_is_now(make):
    layer = make()
    layer.rate = 0.55
    assert layer.get_config()["rate"] == 0.55
    assert type(layer).from_config(layer.get_config()).rate == 0.55


@pytest.mark.parametrize("policy", POLICIES)
def test_shape_and_float_type_are_as_announced(make, inputs, policy):
    keras.config.set_dtype_policy(policy)
    layer = make()
    symbolic = layer(keras.Input(inputs.shape[1:]))
    for training in (False, True):
        outputs = layer(inputs, training=training)
        assert outputs.dtype == symbolic.dtype == layer.compute_dtype
        assert tuple(outputs.shape[1:]) == tuple(symbolic.shape[1:])
        assert outputs.shape[0] == inputs.shape[0]
        assert np.isfinite(as_numpy(outputs)).all()


def test_inference_is_exact(make, inputs):
    layer = make()
    outputs = layer(inputs)
    expected = inputs if make.traits.drops == "inputs" else layer.layer(inputs)
    assert as_numpy(outputs).tobytes() == as_numpy(expected).tobytes()


def test_inference_draws_nothing(make, inputs):
    layer = make()
    before = layer.seed_generator.state.numpy()
    layer(inputs)
    np.testing.assert_array_equal(layer.seed_generator.state, before)


def test_training_drops_at_the_rate(make, inputs):
    needs_zeros(make)
    calls = 400
    layer = make()
    dropping = tf.function(lambda: tf.reduce_mean(tf.cast(run() == 0, "float32")))

    def run():
        return layer(inputs, training=True)

    layer(inputs)
    already_zero = float((as_numpy(layer(inputs)) == 0).mean())
    zero = np.mean([dropping() for _ in range(calls)])
    dropped = (zero - already_zero) / (1 - already_zero)
    # As wide as for a layer that draws a single number a call.
    assert abs(dropped - 0.3) < 4 * (0.3 * 0.7 / calls) ** 0.5


def test_survivors_are_scaled_exactly(make, inputs):
    if not make.traits.scales_survivors:
        pytest.skip("declares that it scales otherwise")
    layer = make()
    before = as_numpy(layer(inputs))
    factor = np.float32(1) / (np.float32(1) - np.float32(0.3))
    kept = 0
    for _ in range(5):
        after = as_numpy(layer(inputs, training=True))
        np.testing.assert_array_equal(after, np.where(after == 0, 0, before * factor))
        kept += (after != 0).sum()
    assert kept > 0


def test_training_keeps_the_mean(make, inputs):
    if not make.traits.keeps_mean:
        pytest.skip("declares that it does not")
    calls = 400
    layer = make()
    before = as_numpy(layer(inputs))
    after = tf.function(lambda: layer(inputs, training=True))
    mean = np.mean([after() for _ in range(calls)], axis=0)
    # The deviation of one scaled draw is sqrt(rate / (1 - rate)) times its value.
    deviation = (0.3 / 0.7 / calls) ** 0.5
    np.testing.assert_array_less(abs(mean - before), 5 * deviation * abs(before) + 1e-6)


def test_a_rate_of_zero_changes_nothing(make, inputs):
    layer = make(rate=0.0)
    np.testing.assert_allclose(layer(inputs, training=True), layer(inputs), rtol=1e-6)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_rate_of_one_gives_zeros_and_finite_gradients(make, inputs, policy):
    needs_zeros(make)
    keras.config.set_dtype_policy(policy)
    layer = make(rate=1.0)
    inputs = tf.constant(inputs)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs, training=True)
    assert (as_numpy(outputs) == 0).all()
    sources = list(layer.trainable_variables)
    if make.traits.takes == "floats":
        sources.append(inputs)
    for gradient in tape.gradient(outputs, sources):
        assert np.isfinite(as_numpy(gradient)).all()


def test_same_seed_draws_the_same(make, inputs):
    one, other = (make(seed=5) for _ in range(2))
    one.build(inputs.shape)
    other.build(inputs.shape)
    other.set_weights(one.get_weights())
    for _ in range(3):
        np.testing.assert_array_equal(
            one(inputs, training=True), other(inputs, training=True)
        )


def test_draws_anew_with_each_call_and_each_seed(make, inputs):
    def draws(layer):
        return [as_numpy(layer(inputs, training=True)) for _ in range(12)]

    first, second, unseeded = (draws(make(seed=seed)) for seed in (5, 6, None))
    assert len({draw.tobytes() for draw in first}) > 1
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, unseeded)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_rate_moves_without_a_new_trace(make, inputs, jit_compile):
    needs_zeros(make)
    layer = make(rate=1.0)
    layer.build(inputs.shape)
    traces = []

    @tf.function(jit_compile=jit_compile)
    def run(values):
        traces.append(None)
        return layer(values, training=True)

    assert (run(inputs).numpy() == 0).all()
    layer.rate = 0.0
    np.testing.assert_allclose(run(inputs), layer(inputs), rtol=1e-6)
    assert len(traces) == 1


@pytest.mark.parametrize("jit_compile", [False, True])
def test_trains_in_fit(make, inputs, jit_compile):
    model = model_of(make(), inputs.shape)
    model.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=jit_compile)
    before = train(model, inputs, steps=1)[0]
    assert train(model, inputs, steps=30)[0] < 0.7 * before
    # Each step drew new numbers.
    drawn = model.layers[0].seed_generator.state.numpy()[1]
    assert drawn > 0
    assert drawn % 31 == 0


@pytest.mark.parametrize("make", FIRST_VARIANTS, indirect=True)
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_trains_in_mixed_precision(make, inputs, policy):
    keras.config.set_dtype_policy(policy)
    model = model_of(make(), inputs.shape)
    model.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=False)
    before = train(model, inputs, steps=1)[0]
    assert train(model, inputs, steps=30)[0] < 0.7 * before


def test_a_saved_model_goes_on_as_if_it_had_not_been(make, inputs, tmp_path):
    model = model_of(make(), inputs.shape)
    model.compile("adam", "mse", jit_compile=False)
    train(model, inputs, steps=2)
    model.layers[0].rate = 0.45
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")

    assert again.layers[0].rate == 0.45
    np.testing.assert_array_equal(again(inputs), model(inputs))
    assert train(model, inputs, steps=3) == train(again, inputs, steps=3)
    for one, other in zip(model.variables, again.variables, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_weight_file_brings_the_random_state_and_leaves_the_rate(
    make, inputs, tmp_path
):
    model, other = (model_of(make(seed=seed), inputs.shape) for seed in (5, None))
    model(inputs, training=True)
    model.save_weights(tmp_path / "model.weights.h5")
    other.layers[0].rate = 0.2
    other.load_weights(tmp_path / "model.weights.h5")
    assert other.layers[0].rate == 0.2
    other.layers[0].rate = 0.3
    np.testing.assert_array_equal(
        model(inputs, training=True), other(inputs, training=True)
    )


def test_rate_and_random_state_are_variables_but_no_weights(make, inputs):
    layer = make()
    layer.build(inputs.shape)
    weights = {id(weight) for weight in layer.weights}
    # A layer inside may have random states of its own.
    inside = layer.layer.variables if hasattr(layer, "layer") else []
    inside = {id(variable) for variable in inside} - weights
    others = {id(variable) for variable in layer.variables} - weights - inside
    assert others == {id(layer._rate), id(layer.seed_generator.state)}
    assert len(layer.variables) == len(weights | inside) + 2
    assert not weights & others
    assert not others & {id(variable) for variable in layer.trainable_variables}
    if make.traits.drops == "inputs":
        assert layer.count_params() == 0


def test_the_state_of_a_model_can_be_read_as_a_tree(make, inputs):
    model = keras.Sequential([keras.Input(inputs.shape[1:]), make(), make()])
    model.compile("adam", "mse")
    tree = model.get_state_tree()
    assert "seed_generator_state" in str(tree["non_trainable_variables"])


def test_can_be_exported_in_training_mode(make, inputs, tmp_path):
    needs_zeros(make)
    model = keras.Sequential([keras.Input(inputs.shape[1:]), make(rate=1.0)])
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "train",
        lambda values: model(values, training=True),
        [tf.TensorSpec(inputs.shape, "float32")],
    )
    archive.write_out(tmp_path / "model", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "model")
    assert (loaded.train(inputs).numpy() == 0).all()


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_that_is_no_probability_is_refused(make, rate):
    with pytest.raises(ValueError, match="`rate` must be a finite number"):
        make(rate=rate)
