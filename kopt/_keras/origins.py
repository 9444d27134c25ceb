"""The modules that Keras's classes without a public name come from."""

#: The packages of the layers that `keras.applications` define for themselves, and of
#: the operations that a functional model holds where `keras.ops` were called.
APPLICATIONS = "keras.src.applications"
OPERATIONS = "keras.src.ops"
#: The operation behind `keras.activations.relu` with a slope or a bound.
RELU_OPERATION = "keras.src.activations.activations.ReLU"

#: Modules of the layers of KerasHub, which kopt does not depend on.
KERAS_HUB = "keras_hub.src.layers.modeling"
