"""What can go wrong between a model and its file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kopt._registry import register
from kopt.export._advice import advice, wrong_parts

if TYPE_CHECKING:
    from kopt.export.report import ExportReport


@register("export", serializable=False)
class ConversionError(RuntimeError):
    """The converter refused the model or crashed, or made a file that does not run.

    Nothing was written.

    Args:
        message: What happened, and what may help.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)


@register("export", serializable=False)
class VerificationError(RuntimeError):
    """The file runs, but does not compute what the model computes.

    Nothing was written.

    Args:
        report: The `ExportReport` of the refused file, with every number that was
            measured.
    """

    def __init__(self, report: ExportReport) -> None:
        super().__init__(
            f"The file does not compute what the model computes, on {report.samples} "
            f"{report.source}: {wrong_parts(report)}. Nothing was written. "
            f"{advice(report)} verify=False writes the file all the same."
        )
        self.report = report
