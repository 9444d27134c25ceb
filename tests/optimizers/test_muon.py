"""Muon: what it takes for a matrix, and how it makes one orthogonal."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from kopt.optimizers import _hardware, _newton_schulz
from tests.sampling import sampled


@pytest.fixture
def model():
    """Every kind of kernel; names of layers that a search in paths would trip over."""
    inputs = keras.Input((8,), dtype="int32")
    x = keras.layers.Embedding(50, 16, name="tokens")(inputs)
    x = keras.layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    x = keras.layers.Conv1D(12, 3, name="embedding_conv")(x)
    x = keras.layers.LayerNormalization()(x)
    x = keras.layers.SeparableConv1D(12, 3, name="separable")(x)
    x = keras.layers.GRU(6, name="recurrent")(x)
    x = keras.layers.Dense(7, name="query")(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="head")(x))


def built(model, **arguments):
    optimizer = kopt.Muon(**arguments)
    optimizer.build(model.trainable_variables)
    return optimizer


def matrices(optimizer, model):
    return {
        v.path: optimizer.traits(v)
        for v in model.trainable_variables
        if "velocity" not in optimizer.state(v)
    }


def test_kernels_of_hidden_layers_are_matrices_and_nothing_else(model):
    assert matrices(built(model), model) == {
        "attention/query/kernel": (0,),
        "attention/key/kernel": (0,),
        "attention/value/kernel": (0,),
        "attention/attention_output/kernel": (0, 1),
        "embedding_conv/kernel": (0, 1),
        "separable/pointwise_kernel": (0, 1),
        "recurrent/gru_cell/kernel": (0,),
        "recurrent/gru_cell/recurrent_kernel": (0,),
        "query/kernel": (0,),
    }


def test_exclusions_by_layer_and_declared_axes_hold(model):
    optimizer = built(
        model,
        exclude_layers=["^recurrent/", model.get_layer("query")],
        exclude_embeddings=False,
        exclude_head=False,
        input_axes={"attention_output/kernel": (0,)},
    )
    found = matrices(optimizer, model)
    assert found["attention/attention_output/kernel"] == (0,)
    assert "tokens/embeddings" in found
    assert "head/kernel" in found
    assert "query/kernel" not in found
    assert not [path for path in found if path.startswith("recurrent")]


def test_a_loaded_optimizer_has_the_same_matrices(model, tmp_path):
    exclude = [model.get_layer("query")]
    optimizer = kopt.Muon(exclude_layers=exclude, input_axes={"query/kernel$": (0,)})
    optimizer.build(model.trainable_variables)
    again = kopt.Muon.from_config(optimizer.get_config())
    again.build(model.trainable_variables)
    assert matrices(again, model) == matrices(optimizer, model)
    assert again.get_config() == optimizer.get_config()


layers = keras.layers
#: A layer, its input, and the input axes of its kernels that are matrices, by hand.
FOLDED = {
    "convolution": (lambda: layers.Conv2D(6, 3), (8, 8, 4), [(0, 1, 2)]),
    "groups": (lambda: layers.Conv2D(6, 3, groups=2), (8, 8, 4), [(0, 1, 2)]),
    "transposed": (lambda: layers.Conv2DTranspose(6, 3), (8, 8, 4), [(0, 1, 3)]),
    "depthwise": (lambda: layers.DepthwiseConv2D(3), (8, 8, 4), []),
    "separable": (lambda: layers.SeparableConv1D(6, 3), (8, 4), [(0, 1)]),
    "heads": (
        lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 3)),
        (5, 4),
        [(0,)],
    ),
    "outputs first": (lambda: layers.EinsumDense("ab,cb->ac", 5), (4,), [(1,)]),
    "experts": (lambda: layers.EinsumDense("abc,bcd->abd", (5, 6)), (5, 4), []),
    "gates": (lambda: layers.LSTM(3), (5, 4), [(0,), (0,)]),
    "gates of filters": (
        lambda: layers.ConvLSTM1D(3, 2),
        (2, 5, 4),
        [(0, 1), (0, 1)],
    ),
    "slopes": (lambda: layers.PReLU(), (5, 4), []),
}


@pytest.mark.parametrize("name", FOLDED)
def test_a_kernel_is_the_matrix_that_its_layer_multiplies_by(name):
    make, shape, axes = FOLDED[name]
    model = keras.Sequential([keras.Input(shape), make()])
    optimizer = built(model, exclude_head=False)
    assert list(matrices(optimizer, model).values()) == axes


@pytest.mark.parametrize("name", ["transposed", "heads", "outputs first", "gates"])
def test_an_update_of_that_matrix_is_orthogonal(name):
    make, shape, (axes, *_) = FOLDED[name]
    model = keras.Sequential([keras.Input(shape), make()])
    kernel = model.trainable_variables[0]
    before = kernel.numpy()
    gradient = np.random.default_rng(0).normal(size=before.shape)
    optimizer = built(model, learning_rate=1.0, exclude_head=False, weight_decay=None)
    optimizer.apply([tf.constant(gradient, "float32")], [kernel])
    outputs = [axis for axis in range(before.ndim) if axis not in axes]
    rows = np.prod([before.shape[axis] for axis in axes])
    moved = (before - kernel.numpy()).transpose(*axes, *outputs).reshape(rows, -1)
    # By Liu et al., an update has a root mean square of 0.2 along its longer side.
    values = np.linalg.svd(moved / (0.2 * np.sqrt(max(moved.shape))), compute_uv=False)
    assert 0.5 < values.min() <= values.max() < 1.3


def test_an_optimizer_saved_with_other_axes_keeps_them():
    # As saved when every kernel had its outputs on the last axis.
    model = keras.Sequential([keras.Input((8, 8, 4)), layers.Conv2DTranspose(6, 3)])
    config = kopt.Muon(exclude_head=False).get_config()
    config |= {"exclude_layers": [1], "input_axes": [[0, [0, 1, 2]]]}
    optimizer = kopt.Muon.from_config(config)
    optimizer.build(model.trainable_variables)
    assert list(matrices(optimizer, model).values()) == [(0, 1, 2)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"exclude_layers": ["nowhere"]}, "'nowhere' finds no variable"),
        ({"input_axes": {"query/kernel": (0, 3)}}, "must name some of the axes"),
        ({"input_axes": {"embedding_conv/kernel": (0, 1, 2)}}, "leave one"),
    ],
)
def test_rules_that_do_not_fit_the_model_are_refused(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        built(model, **arguments)


@pytest.mark.parametrize("shape", [(40, 40), (30, 80), (80, 30), (600, 700)])
def test_singular_values_come_near_one_and_vectors_stay(shape):
    matrix = np.random.default_rng(0).normal(size=shape).astype("float32")
    found = _newton_schulz.orthogonalized(tf.constant(matrix)).numpy()
    left, values, right = np.linalg.svd(matrix.astype("float64"), full_matrices=False)
    inside = left.T @ found @ right.T
    # A square matrix has values near 0, which five steps do not bring up.
    assert np.all(np.diag(inside)[values > 0.05 * values[0]] > 0.5)
    assert np.max(np.diag(inside)) < 1.3
    np.testing.assert_allclose(inside - np.diag(np.diag(inside)), 0, atol=2e-5)


@pytest.mark.parametrize("height", [512, 517, 700, 1030])
def test_strips_make_up_the_product(height):
    matrix = np.random.default_rng(0).normal(size=(height, 64)).astype("float32")
    strips = _newton_schulz.strips_of_gram(tf.constant(matrix))
    assert len(strips) > 2
    found = tf.concat(strips, axis=0).numpy()
    # Blocks on the diagonal are whole products, which some processors round unevenly.
    np.testing.assert_allclose(found, found.T, rtol=0, atol=1e-4)
    np.testing.assert_allclose(found, matrix @ matrix.T, rtol=0, atol=2e-4)


def test_products_in_bfloat16_turn_the_update_a_little():
    matrix = tf.random.stateless_normal((64, 96), seed=(0, 1))
    exact = _newton_schulz.orthogonalized(matrix)
    rough = _newton_schulz.orthogonalized(matrix, dtype="bfloat16")
    assert rough.dtype == "float32"
    difference = tf.norm(rough - exact) / tf.norm(exact)
    assert 1e-4 < difference < 0.1


def large_matrix(kind):
    generator = np.random.default_rng(0)
    full = generator.normal(size=(512, 640))
    if kind == "full":
        return full
    rank = int(kind.removeprefix("rank "))
    left, right = generator.normal(size=(512, rank)), generator.normal(size=(rank, 640))
    return left @ right + 1e-3 * full


def distance(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


# Without instructions for bfloat16, TensorFlow rounds partial sums of a product too.
# Muon multiplies in float32 there; the tests have it do otherwise.
SUMS_ARE_EXACT = _hardware.multiplies_bfloat16()


@pytest.mark.parametrize("kind", ["full", "rank 1", "rank 8", "rank 64"])
def test_rounded_first_steps_turn_an_update_by_a_thousandth(monkeypatch, kind):
    monkeypatch.setattr(_hardware, "multiplies_bfloat16", lambda: True)
    matrix = large_matrix(kind)
    # In float64, where nothing is rounded.
    expected = _newton_schulz.orthogonalized(tf.constant(matrix), dtype="auto").numpy()
    given = tf.constant(matrix, "float32")
    exact, automatic, rough = (
        distance(_newton_schulz.orthogonalized(given, dtype=dtype), expected)
        for dtype in (None, "auto", "bfloat16")
    )
    assert exact < 2e-4
    assert exact < automatic < (1.5e-3 if SUMS_ARE_EXACT else 2e-2)
    # What rounding everything does, as the authors do.
    assert rough > (10 if SUMS_ARE_EXACT else 2) * automatic


@pytest.mark.parametrize(
    "kind",
    sampled(["full", "rank 1", "rank 8", "rank 64"], ["rank 8"], pytest.mark.slow),
)
def test_rounded_steps_are_the_same_under_xla(monkeypatch, kind):
    monkeypatch.setattr(_hardware, "multiplies_bfloat16", lambda: True)
    matrix = tf.constant(large_matrix(kind), "float32")
    compiled, graph = (
        tf.function(
            lambda x: _newton_schulz.orthogonalized(x, dtype="auto"), jit_compile=jit
        )(matrix)
        for jit in (True, False)
    )
    # With rank 1 the last steps of float32 alone differ by as much.
    bound = 3e-4 if kind == "rank 1" else 1e-4
    assert distance(compiled, graph) < (bound if SUMS_ARE_EXACT else 2e-2)


@pytest.mark.parametrize(
    ("native", "shape", "dtype", "steps", "expected"),
    [
        (True, (512, 600), "float32", 5, 2),
        (True, (600, 512), "float32", 10, 2),
        (True, (512, 600), "float32", 4, 1),
        (True, (512, 600), "float32", 2, 0),
        (True, (511, 600), "float32", 5, 0),
        (True, (512, 600), "float64", 5, 0),
        (False, (512, 600), "float32", 5, 0),
    ],
)
def test_only_first_steps_of_large_matrices_are_rounded(
    monkeypatch, native, shape, dtype, steps, expected
):
    monkeypatch.setattr(_hardware, "multiplies_bfloat16", lambda: native)
    assert _newton_schulz._rounded_steps(tf.zeros(shape, dtype), steps) == expected
    if not expected:
        matrix = tf.random.stateless_normal(shape, seed=(0, 1), dtype=dtype)
        found = _newton_schulz.orthogonalized(matrix, steps=steps, dtype="auto")
        plain = _newton_schulz.orthogonalized(matrix, steps=steps)
        np.testing.assert_array_equal(found, plain)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor : 0\nflags\t\t: fpu avx512_bf16 sse\n\nflags : fpu", True),
        ("processor : 0\nflags\t\t: fpu avx512f sse\n", False),
        ("Features\t: fp asimd bf16\n", True),
        ("bf16 : no\n", False),
    ],
)
def test_flags_of_a_processor_are_read(tmp_path, text, expected):
    source = tmp_path / "cpuinfo"
    source.write_text(text)
    flags = _hardware._processor_flags(source)
    assert bool(flags & _hardware._PROCESSOR_FLAGS) == expected
    assert not _hardware._processor_flags(tmp_path / "missing")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [([(8, 0)], True), ([(9, 0), (7, 5)], False), ([None], False)],
)
def test_every_graphics_card_has_to_have_it(monkeypatch, capabilities, expected):
    known = dict(enumerate(capabilities))
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: list(known))
    monkeypatch.setattr(
        tf.config.experimental,
        "get_device_details",
        lambda card: {"compute_capability": known[card]} if known[card] else {},
    )
    assert _hardware.multiplies_bfloat16() == expected


@pytest.mark.parametrize("flag", ["avx512_bf16", "avx512f"])
def test_a_processor_has_to_have_it(monkeypatch, flag):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(_hardware, "_processor_flags", lambda: {flag})
    assert _hardware.multiplies_bfloat16() == (flag == "avx512_bf16")


@pytest.mark.slow
def test_it_trains_a_convolutional_net(model):
    generator = np.random.default_rng(0)
    x = generator.integers(0, 50, size=(128, 8))
    y = x[:, 0] % 3
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(kopt.Muon(0.01), loss, metrics=["accuracy"])
    history = model.fit(x, y, epochs=25, verbose=0).history
    assert history["loss"][-1] < 0.3 * history["loss"][0]
