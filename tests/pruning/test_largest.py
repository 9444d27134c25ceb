import numpy as np
import pytest
import tensorflow as tf

from kopt.pruning import _largest
from kopt.pruning._largest import keep_largest
from tests.reference import pruning as reference

random = np.random.default_rng(0)

VECTORS = {
    "spread over all magnitudes": np.exp(random.normal(scale=20, size=997)),
    "nearly equal": 1 + 1e-6 * random.random(997),
    "many ties": np.round(random.random(997), 1),
    "mostly zero": random.random(997) * (random.random(997) < 0.2),
    "all equal": np.full(997, 0.5),
    "denormal": random.random(997) * 1e-40,
    "with infinity": np.append(random.random(996), np.inf),
    "one number": np.array([3.0]),
}


@pytest.fixture(params=["few", "many"])
def way(request, monkeypatch):
    """Both ways of finding the border, whatever the length."""
    monkeypatch.setattr(_largest, "_MANY", 0 if request.param == "many" else 2**30)


@pytest.mark.parametrize("kind", VECTORS)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99, 1.0])
def test_keeps_exactly_the_largest_and_the_first_of_ties(kind, share, way):
    scores = VECTORS[kind].astype("float32")
    count = max(round(share * scores.size), 1)
    expected = reference.keep_largest(scores, count)
    np.testing.assert_array_equal(keep_largest(tf.constant(scores), count), expected)


@pytest.mark.parametrize("kind", ["many ties", "spread over all magnitudes"])
def test_xla_keeps_the_same(kind, way):
    scores = tf.constant(VECTORS[kind], tf.float32)
    compiled = tf.function(keep_largest, jit_compile=True)
    for count in (1, 300, 997):
        np.testing.assert_array_equal(
            compiled(scores, tf.constant(count)), keep_largest(scores, count)
        )


def test_both_ways_agree_on_half_a_million_numbers():
    scores = tf.constant(np.abs(random.normal(size=500_000)), tf.float32)
    mask = _largest._select_of_many(scores, 123_456)
    assert np.sum(mask) == 123_456
    np.testing.assert_array_equal(mask, _largest._select_of_few(scores, 123_456))


def test_a_sample_that_misleads_is_noticed():
    scores = random.random(300_000).astype("float32")
    # All that a sample sees is larger than the number that is looked for.
    scores[:: _largest._STRIDE] += 1e6
    mask = _largest._select_of_many(scores, 100_000)
    np.testing.assert_array_equal(mask, reference.keep_largest(scores, 100_000))


def test_signs_do_not_matter(way):
    scores = random.normal(size=997).astype("float32")
    expected = reference.keep_largest(np.abs(scores), 300)
    np.testing.assert_array_equal(keep_largest(tf.constant(scores), 300), expected)
