"""Copies of a callback that write to a path, each trial's to one of its own.

With one path for all of them trials write over each other, mix their curves, or go on
from the backup of another configuration.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from kopt.callbacks import BackupAndRestore
from kopt.tuning._trials import records

# Which attribute of a callback is its path, and whether that is a folder.
_PATHS: dict[type, tuple[str, bool]] = {
    keras.callbacks.TensorBoard: ("log_dir", True),
    keras.callbacks.CSVLogger: ("filename", False),
    keras.callbacks.ModelCheckpoint: ("filepath", False),
    BackupAndRestore: ("backup_dir", True),
}


def in_own_folder(callback: Any, trial: Any) -> Any:
    """A callback whose path is that of a trial; one without a path as it is.

    A trial that was cut off goes on in the folder of the first attempt.
    """
    number = trial.user_attrs.get(records.RETRY_OF, trial.number)
    name = f"trial-{number:04d}" if number >= 0 else "refit"
    if isinstance(callback, keras.callbacks.BackupAndRestore):
        # It has made its paths already.
        return keras.callbacks.BackupAndRestore(
            str(Path(callback.backup_dir) / name),
            save_freq=callback.save_freq,
            double_checkpoint=callback.double_checkpoint,
            delete_checkpoint=callback.delete_checkpoint,
        )
    for kind, (attribute, is_folder) in _PATHS.items():
        if isinstance(callback, kind):
            given = getattr(callback, attribute)
            path = Path(given)
            own = path / name if is_folder else path.parent / name / path.name
            (own if is_folder else own.parent).mkdir(parents=True, exist_ok=True)
            setattr(callback, attribute, type(given)(own))
    return callback
