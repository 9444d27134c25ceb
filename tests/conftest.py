import gc
import itertools
import os
import zlib

# Before TensorFlow loads: only errors on the screen.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import pytest
import tensorflow as tf

# `tf.keras` is decided at its first use, and TensorFlow Model Optimization, which some
# tests import, would decide for the older Keras.
assert tf.keras.Model is keras.Model

# Two logical processors, so that replicas can be tested; must come before any op.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)


# Of many cases of a test, how many run every time.
_SHARE, _LEAST = 3, 2
_TESTS_BETWEEN_FREEZES = 150
_tests_run = itertools.count(1)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Of a test with many cases the plain run tries a third, the slow run the others.

    Always the same third, but other ones for another test: so each class of a matrix
    meets some of its laws every time.
    """
    tests = {}
    for item in items:
        if not any(map(item.get_closest_marker, ("slow", "thorough"))):
            cases = tests.setdefault((item.path, item.cls, item.originalname), [])
            cases.append(item)
    for cases in tests.values():
        cases.sort(key=lambda item: zlib.crc32(item.nodeid.encode()))
        for item in cases[max(_LEAST, len(cases) // _SHARE) :]:
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish():
    _freeze()
    gc.set_threshold(50_000, 20, 20)


def pytest_runtest_logfinish():
    if next(_tests_run) % _TESTS_BETWEEN_FREEZES == 0:
        _freeze()


def _freeze():
    """Take what is alive off the list that each collection walks through.

    It lives to the end: TensorFlow's modules, and what it and JAX keep of the tests.
    To walk through all of that again and again took half of the suite's time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def rewriting_of_graphs(request):
    """Without TensorFlow's rewriting of graphs (Grappler), but in slow tests.

    It pays where a graph runs often. Most tests run theirs a few times, and rewriting
    them took a fifth of the suite's time; the slow tests, examples and benchmarks show
    that results stand with it.
    """
    tf.config.optimizer.set_experimental_options(
        {"disable_meta_optimizer": not request.node.get_closest_marker("slow")}
    )


@pytest.fixture(autouse=True)
def fresh_keras_state():
    """Every test starts from the same seed, names and float type."""
    keras.utils.set_random_seed(0)
    _compute_in_float32()
    yield
    keras.utils.clear_session(free_memory=False)
    # Fixtures of a module are made before this one is asked.
    _compute_in_float32()


def _compute_in_float32():
    keras.backend.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="session")
def two_replicas():
    """A strategy over two logical processors.

    One for the whole session, and without collective operations: their keys start
    anew with each strategy and clash within a process.
    """
    return tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice()
    )
