from typing import ClassVar

import keras
import numpy as np


class Recording(keras.optimizers.SGD):
    """Notes in which order a reader calls it."""

    calls: ClassVar[list] = []

    def build(self, variables):
        self.calls.append(("build", len(variables)))
        super().build(variables)

    def set_weights(self, weights):
        self.calls.append(("set_weights", len(weights)))
        super().set_weights(weights)


def test_keras_reads_an_h5_file_by_a_build_on_nothing_and_state_after_that(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(Recording(momentum=0.9), keras.losses.MeanSquaredError())
    model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0)
    model.save(tmp_path / "model.h5")
    Recording.calls.clear()
    keras.saving.load_model(tmp_path / "model.h5", {"Recording": Recording})
    # Two counters and two momenta.
    assert Recording.calls == [("build", 0), ("set_weights", 4)]
