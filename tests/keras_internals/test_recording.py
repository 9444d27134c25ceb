import tensorflow as tf

from kopt._keras.recording import is_recording


def test_knows_whether_a_tape_is_open_also_in_a_traced_function():
    seen = []

    @tf.function
    def step():
        seen.append(is_recording())
        with tf.GradientTape():
            seen.append(is_recording())
        seen.append(is_recording())
        return tf.zeros(())

    step()
    assert seen == [False, True, False]
    assert not is_recording()
