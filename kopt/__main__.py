"""The command line, as `kopt` and as `python -m kopt`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command that the arguments name."""
    try:
        import typer  # noqa: F401 - to tell a missing extra from a fault of ours
    except ImportError:
        sys.exit('kopt: the command line needs typer: pip install "keras-kopt[cli]"')
    from kopt._command_line import application

    application()


if __name__ == "__main__":
    main()
