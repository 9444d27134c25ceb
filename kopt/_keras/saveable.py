"""State that is no layer's, saved with the model whose attribute it is.

Keras walks through a model's attributes and saves those that are `KerasSaveable`. The
public classes among these (layers, metrics, losses, optimizers) bring more with them
than a state needs.
"""

from keras.src.saving.keras_saveable import KerasSaveable as KerasSaveable
