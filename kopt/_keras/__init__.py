"""The ground: what Keras and TensorFlow keep to themselves, and kopt needs.

Every private name of theirs (`keras.src`, `tensorflow.python`, attributes such as
`_flatten_layers`) that kopt uses stands in this package and nowhere else. Each file
has one subject: the tree of layers, the graph of a functional model, the state of a
model, its compiled steps, an optimizer's lists. It says why there is no public way, and
gives the fact a name of kopt's own.

Each file has a test of its name in `tests/keras_internals/`, which fails when Keras
changes what the name means. Modules here import no area of kopt.
"""
