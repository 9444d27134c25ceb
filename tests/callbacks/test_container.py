import numpy as np
import pytest
import tensorflow as tf

from kopt.callbacks._resuming import container


def test_what_is_written_is_read_again(tmp_path):
    tree = {
        "numbers": [1, 2.5, -0.1, True, None, float("inf"), 2**80],
        "text": {"ü": "é"},
        "arrays": [np.float32(3), np.arange(6).reshape(2, 3), np.array([True])],
        "half": tf.constant([1.5, 2.25], "bfloat16").numpy(),
        "scalar": tf.constant(1.5, "bfloat16").numpy(),
        "empty": [[], {}, np.zeros((0, 2))],
        "tuple": (1, (2, 3)),
    }
    container.write(tmp_path / "a", tree)
    found = container.read(tmp_path / "a")
    assert found["half"].dtype == tree["half"].dtype
    assert found["scalar"].shape == ()
    assert found.pop("tuple") == [1, [2, 3]]
    del tree["tuple"]
    np.testing.assert_equal(found, tree)


def test_nan_comes_back(tmp_path):
    container.write(tmp_path / "a", [float("nan")])
    assert np.isnan(container.read(tmp_path / "a")[0])


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"a": [1, object()]}, r"state\['a'\]\[1\] is <object"),
        ({1: 2}, "has the key 1"),
        (np.array([object()]), "which a backup cannot"),
    ],
)
def test_what_cannot_be_read_again_is_not_written(tree, words, tmp_path):
    container.write(tmp_path / "a", 1)
    with pytest.raises(TypeError, match=words):
        container.write(tmp_path / "a", tree)
    assert container.read(tmp_path / "a") == 1
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04"])
def test_another_file_is_refused(content, tmp_path):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match="is no whole backup"):
        container.read(tmp_path / "a")


def test_every_end_that_is_cut_off_is_noticed(tmp_path):
    path = tmp_path / "a"
    container.write(path, {"array": np.arange(100)})
    content = path.read_bytes()
    for length in range(0, len(content), 37):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="is no whole backup"):
            container.read(path)


def test_drafts_of_dead_processes_are_taken_away(tmp_path):
    (tmp_path / ".a.0123.draft").touch()
    (tmp_path / ".b.0123.draft").touch()
    container.clear_drafts(tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == [".b.0123.draft"]
