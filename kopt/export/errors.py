"""What can go wrong between a model and its file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kopt._registry import register

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
        wrong = "; ".join(
            f"{name}: max {found.max:.3g}, mean {found.mean:.3g}, allowed {found.limit}"
            for name, found in report.differences.items()
            if not found.passed
        )
        super().__init__(
            f"The file does not compute what the model computes, on {report.samples} "
            f"{report.source}: {wrong}. Nothing was written. Where values are rounded "
            "to integers, give `representative_data` that covers what the model will "
            "meet, quantize the model first with `kopt.quantization.quantize_model` "
            "and such data as `calibration_data`, or use another `quantization`; "
            "verify=False writes the file all the same."
        )
        self.report = report
