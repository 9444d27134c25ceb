import pytest
import tensorflow as tf


@pytest.fixture
def two_replicas():
    """A strategy over both logical processors.

    Its reduction is not the default one, whose keys are shared by all strategies of a
    process: there, a second test would wait for shapes of the first.
    """
    return tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )
