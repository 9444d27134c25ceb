"""Large variables in blocks: the same results, and no copy of a whole variable."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from kopt.optimizers import _blocks, _update

# All methods that go in blocks, and options that the blocks have a part in.
CASES = {
    "SGD": lambda: kopt.SGD(0.01, momentum=0.9),
    "SGD nesterov": lambda: kopt.SGD(0.01, momentum=0.9, nesterov=True),
    "SGD decayed": lambda: kopt.SGD(0.01, momentum=0.9, weight_decay=0.1),
    "RMSprop": kopt.RMSprop,
    "RMSprop centered": lambda: kopt.RMSprop(centered=True),
    "RMSprop l2": lambda: kopt.RMSprop(weight_decay=0.1, weight_decay_mode="l2"),
    "AdamW": kopt.AdamW,
    "NAdamW": kopt.NAdamW,
    "RAdam": kopt.RAdam,
    "Yogi": kopt.Yogi,
    "Lion": kopt.Lion,
    "Lion cautious decay": lambda: kopt.Lion(
        weight_decay=0.1, weight_decay_mode="cautious"
    ),
    "Lion in a group": lambda: kopt.Lion(
        param_groups=[kopt.ParamGroup("weight", learning_rate_multiplier=0.5)]
    ),
}
SHAPE = (30, 40)


def updated(optimizer, dtype="float32"):
    """Weights and state after four updates, and the programs that made them."""
    generator = np.random.default_rng(0)
    weights = keras.Variable(generator.normal(size=SHAPE), dtype=dtype, name="weight")
    optimizer.build([weights])
    update = tf.function(lambda gradient: optimizer.apply([gradient], [weights]))
    for _ in range(4):
        update(tf.constant(generator.normal(size=SHAPE), dtype))
    programs = optimizer._engine._updater._programs
    names = {key[0] for key in programs}
    return [weights.numpy(), *(v.numpy() for v in optimizer.variables)], names


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(_update, "FUSE_FROM", 0)
    monkeypatch.setattr(_blocks, "SHARE", 150)
    monkeypatch.setattr(_blocks, "CORES", 2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_blocks_give_what_the_whole_variable_gives(
    monkeypatch, small_blocks, case, dtype
):
    found, programs = updated(CASES[case](), dtype)
    assert programs == {"_write_blocks"}
    monkeypatch.setattr(_blocks, "SHARE", 10_000)
    expected, programs = updated(CASES[case](), dtype)
    assert "_write_blocks" not in programs
    tolerance = 1e-6 if dtype == "float32" else 1e-13
    for ours, whole in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, whole, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "make",
    [
        lambda: kopt.AdamW(amsgrad=True),
        lambda: kopt.RMSprop(momentum=0.9),
        lambda: kopt.Lion(beta_2=0.0),
        lambda: kopt.Lion(cautious=True),
        lambda: kopt.Lion(state_dtype="bfloat16"),
        kopt.Adan,
    ],
    ids=["AMSGrad", "momentum", "no memory", "cautious", "bfloat16", "Adan"],
)
def test_what_needs_more_than_its_block_goes_whole(small_blocks, make):
    assert "_write_blocks" not in updated(make())[1]


def test_a_step_that_is_compiled_as_a_whole_has_no_blocks(small_blocks):
    weights = keras.Variable(np.zeros(SHAPE, "float32"), name="weight")
    optimizer = kopt.Lion()
    optimizer.build([weights])
    update = tf.function(lambda g: optimizer.apply([g], [weights]), jit_compile=True)
    update(tf.ones(SHAPE))
    assert {key[0] for key in optimizer._engine._updater._programs} == {"_write_exact"}


@pytest.mark.slow
@pytest.mark.parametrize("case", ["SGD", "RMSprop", "AdamW", "NAdamW", "Yogi", "Lion"])
def test_no_block_copies_the_whole_variable(small_blocks, case):
    optimizer = CASES[case]()
    weights = keras.Variable(np.zeros(SHAPE, "float32"), name="weight")
    optimizer.build([weights])
    plan = optimizer._engine.plans[0]
    updater = optimizer._engine._updater
    program = tf.function(updater._write_blocks, jit_compile=True)
    state = {name: slot.value for name, slot in plan.state.items()}
    gradient = tf.zeros(SHAPE)
    (step,) = optimizer._engine._steps([gradient], [plan], None)
    compiled = program.experimental_get_compiler_ir(
        gradient, weights.value, state, step
    )(stage="optimized_hlo")
    whole = rf"f32\[{np.prod(SHAPE)}\]"
    assert re.search(rf"{whole}.* fusion\(", compiled)
    assert not re.findall(rf"{whole}\S* copy\(.*", compiled)


@pytest.mark.parametrize(
    ("size", "expected"),
    [(1024, 4), (1000, 4), (300, 1), (1021, 1), (600, 2), (36_864, 144)],
)
def test_blocks_are_equal_and_about_as_large_as_asked(size, expected):
    assert _blocks.divided(size, 256) == expected


# A size of 16 shares. XLA divides AdamW's blocks among cores, and no block of SGD's.
@pytest.mark.parametrize(
    ("optimizer", "cores", "expected"),
    [
        (kopt.AdamW(), 2, 8),
        (kopt.AdamW(), 8, 2),
        (kopt.AdamW(), 16, 1),
        (kopt.SGD(momentum=0.9), 2, 16),
        (kopt.SGD(momentum=0.9), 4, 16),
        (kopt.SGD(momentum=0.9), 8, 1),
    ],
)
def test_a_block_is_as_large_as_the_caches_of_the_cores_that_share_it(
    monkeypatch, optimizer, cores, expected
):
    monkeypatch.setattr(_blocks, "CORES", cores)
    assert _blocks.count(optimizer, 16 * _blocks.SHARE) == expected
