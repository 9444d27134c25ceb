"""Canaries: TensorFlow's own sources of random numbers."""

import tensorflow as tf

from kopt._keras import random_state


def draw():
    return float(tf.random.uniform(()))


def test_a_state_gives_the_same_eager_numbers_again():
    tf.random.set_seed(4)
    draw()
    state = random_state.eager_state()
    first = [draw(), draw()]
    tf.random.set_seed(5)
    random_state.set_eager_state(state)
    assert [draw(), draw()] == first
    assert random_state.global_seed() == 4


def test_no_seed_is_a_state_too():
    before = random_state.eager_state()
    random_state.set_eager_state({"seed": None, "generator": None})
    assert random_state.global_seed() is None
    assert draw() != draw()
    random_state.set_eager_state(before)


def test_functions_are_built_with_a_seed_for_the_time_of_a_block():
    def order(seed):
        with random_state.functions_seeded(seed):
            data = tf.data.Dataset.range(1).map(
                lambda _: tf.random.shuffle(tf.range(20))
            )
        return next(iter(data)).numpy().tolist()

    before = random_state.eager_state()
    assert order(1) == order(1) != order(2)
    assert random_state.eager_state() == before


def test_the_global_generator_is_seen_once_somebody_asked_for_it():
    generator = tf.random.get_global_generator()
    assert random_state.global_generator() is generator.state
