"""Packages that only some features need, loaded where they are used."""

from __future__ import annotations

import importlib
from typing import Any


def load(module: str, extra: str) -> Any:
    """Import a module of an optional package.

    Args:
        module: Its full name: `"matplotlib.pyplot"`.
        extra: The extra of kopt that installs it: `"plot"`.

    Raises:
        ImportError: If it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f"This needs {package}, which is not installed. "
            f'Install it with: pip install "keras-kopt[{extra}]"'
        ) from error
