import keras

from kopt._keras.scoped_values import variable_read_as


def test_a_regularizer_in_a_scope_is_given_the_tensor_of_its_variable():
    seen = []

    def penalty(value):
        seen.append(variable_read_as(value, [other, layer.kernel]))
        return keras.ops.sum(value)

    other = keras.Variable([1.0])
    layer = keras.layers.Dense(2, kernel_regularizer=penalty)
    layer.build((None, 3))
    values = [(layer.kernel, keras.ops.ones((3, 2))), (layer.bias, layer.bias)]
    with keras.StatelessScope(values):
        assert len(layer.losses) == 1
    assert seen[0] is layer.kernel


def test_outside_of_a_scope_a_tensor_stands_for_nothing():
    variable = keras.Variable([1.0])
    assert variable_read_as(keras.ops.convert_to_tensor(variable), [variable]) is None
