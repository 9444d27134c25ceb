"""What models with something of kopt's on them do where Keras copies or saves them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import keras

from kopt._keras.h5_files import writes_h5


class SavedWhole:
    """Mixed into the class of a model that a `.keras` file alone holds complete.

    Copies (`copy.deepcopy`, `pickle`) go by such a file. An `.h5` file names classes by
    their bare names and has no room for masks: it is refused before it is touched.
    """

    def save(self: Any, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """Save the model as its class does, or refuse a file that would not load."""
        if str(filepath).endswith((".h5", ".hdf5")) and _holds_more(self):
            raise ValueError(_no_h5(self))
        super().save(filepath, *args, **kwargs)  # type: ignore[misc]

    @classmethod
    def adds_to(cls, model: Any) -> bool:
        """Whether a model has what this class is for, which may be taken off again."""
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        if not isinstance(self, keras.Model):
            return super().__reduce__()  # type: ignore[return-value]
        # Keras's own way names the class, which was made at run time.
        return _from_bytes, (_as_bytes(self),)


def refuse_h5(model: Any) -> None:
    """Refuse to give a configuration to an `.h5` file."""
    if writes_h5() and _holds_more(model):
        raise ValueError(_no_h5(model))


def _holds_more(model: Any) -> bool:
    """Whether anything would be lost in another file than `.keras`."""
    mixed_in = [
        kind
        for kind in type(model).__mro__
        if issubclass(kind, SavedWhole) and not issubclass(kind, keras.Layer)
    ]
    return any(kind.adds_to(model) for kind in mixed_in if kind is not SavedWhole)


def _no_h5(model: keras.Model) -> str:
    """What to say to someone who saves a model as `.h5`."""
    return (
        f"{model.name!r} cannot be saved as .h5: the format has no room for what kopt "
        "put on the model (masks, centroids, quantizers, settings of training), and "
        'the file would not load. Save it as .keras (`model.save("model.keras")`), '
        "or its weights as .weights.h5, or strip it first."
    )


def _as_bytes(model: Any) -> bytes:
    with tempfile.TemporaryDirectory(prefix="kopt-") as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        return path.read_bytes()


def _from_bytes(content: bytes) -> keras.Model:
    with tempfile.TemporaryDirectory(prefix="kopt-") as folder:
        path = Path(folder) / "model.keras"
        path.write_bytes(content)
        # What is unpickled was trusted already.
        return keras.saving.load_model(path, safe_mode=False)
