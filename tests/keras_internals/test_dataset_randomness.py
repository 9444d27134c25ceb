"""Canaries: the parts of a `tf.data` pipeline that are random."""

import keras
import pytest
import tensorflow as tf

from kopt._keras import random_state
from kopt._keras.dataset_randomness import (
    remembers_passes,
    unrepeatable,
    variables_inside,
)


@pytest.fixture(autouse=True)
def no_seed():
    before = random_state.eager_state()
    random_state.set_eager_state({"seed": None, "generator": None})
    yield
    random_state.set_eager_state(before)


def numbers():
    return tf.data.Dataset.range(6)


def drawn(x):
    return tf.random.uniform(()) + tf.cast(x, "float32")


def drawn_with_a_seed(x):
    return tf.random.uniform((), seed=3) + tf.cast(x, "float32")


REPEATABLE = {
    "plain": lambda: numbers().batch(2).prefetch(2),
    "seeded shuffle": lambda: numbers().shuffle(6, seed=1).repeat(),
    "seeded map": lambda: numbers().map(drawn_with_a_seed),
}
UNREPEATABLE = {
    "`shuffle` without a seed": lambda: numbers().shuffle(6).batch(2).prefetch(1),
    "RandomUniform without a seed": lambda: numbers().map(drawn).cache(),
    "with parallel calls": lambda: numbers().map(
        drawn_with_a_seed, num_parallel_calls=2
    ),
    "a step with deterministic=False": lambda: numbers().map(
        lambda x: x, num_parallel_calls=2, deterministic=False
    ),
}


@pytest.mark.parametrize("name", REPEATABLE)
def test_what_comes_again_is_not_named(name):
    assert unrepeatable(REPEATABLE[name]()) == []


@pytest.mark.parametrize("words", UNREPEATABLE)
def test_what_does_not_come_again_is_named(words):
    assert any(words in one for one in unrepeatable(UNREPEATABLE[words]()))


def test_options_are_looked_at():
    options = tf.data.Options()
    options.deterministic = False
    assert "deterministic=False" in unrepeatable(numbers().with_options(options))[0]


def test_a_seed_of_the_script_is_a_seed():
    tf.random.set_seed(1)
    assert unrepeatable(numbers().shuffle(6).map(drawn)) == []


def test_a_shuffle_goes_on_from_pass_to_pass_whether_drawn_or_not():
    def orders(skipped):
        data = numbers().shuffle(6, seed=1)
        for _ in range(skipped):
            iter(data)
        return [[int(x) for x in data] for _ in range(3)]

    assert remembers_passes(numbers().shuffle(6, seed=1).batch(2))
    assert not remembers_passes(numbers().batch(2))
    assert orders(0)[1:] == orders(1)[:2]


def test_variables_in_functions_are_found():
    generator = tf.random.Generator.from_seed(3)
    seeds = keras.random.SeedGenerator(5)
    data = numbers().map(
        lambda x: keras.random.uniform((), seed=seeds) + generator.uniform(())
    )
    found = {id(one) for one in variables_inside(data.batch(2))}
    assert found == {id(generator.state), id(seeds.state.value)}
