import pytest

from kopt.export import _atomic


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_new_file_appears_under_its_name_alone(tmp_path):
    target = tmp_path / "model.tflite"
    with _atomic.whole_file(target) as draft:
        draft.write_bytes(b"new")
        assert not target.exists()
    assert target.read_bytes() == b"new"
    assert names_in(tmp_path) == ["model.tflite"]


def test_a_failure_leaves_the_old_file_and_no_draft(tmp_path):
    target = tmp_path / "model.tflite"
    target.write_bytes(b"old")
    with pytest.raises(RuntimeError), _atomic.whole_file(target) as draft:
        draft.write_bytes(b"half of the n")
        raise RuntimeError
    assert target.read_bytes() == b"old"
    assert names_in(tmp_path) == ["model.tflite"]


def test_a_folder_replaces_an_earlier_one_with_all_its_files(tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    (target / "gone").touch()
    with _atomic.whole_folder(target) as draft:
        (draft / "saved_model.pb").touch()
    assert names_in(target) == ["saved_model.pb"]
    assert names_in(tmp_path) == ["model"]


def test_a_failure_leaves_the_old_folder_and_no_draft(tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    (target / "old").touch()
    with pytest.raises(RuntimeError), _atomic.whole_folder(target) as draft:
        (draft / "new").touch()
        raise RuntimeError
    assert names_in(target) == ["old"]
    assert names_in(tmp_path) == ["model"]


def test_the_old_folder_comes_back_if_the_new_one_cannot_take_its_place(tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    (target / "old").touch()
    with pytest.raises(OSError), _atomic.whole_folder(target) as draft:
        draft.rmdir()  # so that renaming it fails
    assert names_in(target) == ["old"]
    assert names_in(tmp_path) == ["model"]


def test_a_link_stays_a_link_to_the_file_that_is_replaced(tmp_path):
    real, link = tmp_path / "real.tflite", tmp_path / "link.tflite"
    real.write_bytes(b"old")
    link.symlink_to(real)
    with _atomic.whole_file(_atomic.file_target(link)) as draft:
        draft.write_bytes(b"new")
    assert link.is_symlink() and real.read_bytes() == b"new"


def test_a_file_cannot_have_the_name_of_a_folder(tmp_path):
    with pytest.raises(ValueError, match="must name a file"):
        _atomic.file_target(tmp_path)


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(ValueError, match="in a folder that exists"):
        _atomic.file_target(tmp_path / "nowhere" / "model.tflite")


def test_a_folder_of_other_things_is_never_replaced(tmp_path):
    target = tmp_path / "thesis"
    target.mkdir()
    (target / "chapter_1.tex").touch()
    with pytest.raises(ValueError, match="holds other things"):
        _atomic.folder_target(target, marker="saved_model.pb")


@pytest.mark.parametrize("content", [[], ["saved_model.pb", "variables"]])
def test_an_empty_folder_or_an_earlier_export_may_be_replaced(tmp_path, content):
    for name in content:
        (tmp_path / name).touch()
    assert _atomic.folder_target(tmp_path, marker="saved_model.pb") == tmp_path


def test_a_folder_cannot_have_the_name_of_a_file(tmp_path):
    (tmp_path / "model").touch()
    with pytest.raises(ValueError, match="must name a folder"):
        _atomic.folder_target(tmp_path / "model", marker="saved_model.pb")


@pytest.mark.parametrize("target", [_atomic.file_target, _atomic.folder_target])
@pytest.mark.parametrize(
    ("name", "reason"), [("a" * 300, "too long"), ("a\0b", "null")]
)
def test_a_name_that_the_system_refuses_is_named_with_its_reason(
    tmp_path, target, name, reason
):
    more = {"marker": "m"} if target is _atomic.folder_target else {}
    with pytest.raises((OSError, ValueError), match=f"`path` must name .*{reason}"):
        target(tmp_path / name, **more)
    assert names_in(tmp_path) == []


def test_a_folder_that_takes_no_files_is_found_out_at_once(tmp_path, monkeypatch):
    def refuse(self):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("pathlib.Path.touch", refuse)
    with pytest.raises(PermissionError, match="says: Operation not permitted"):
        _atomic.file_target(tmp_path / "model.tflite")


def test_a_name_as_long_as_names_can_be_is_taken(tmp_path):
    target = _atomic.file_target(tmp_path / ("a" * 255))
    with _atomic.whole_file(target) as draft:
        draft.write_bytes(b"new")
    assert names_in(tmp_path) == ["a" * 255]
