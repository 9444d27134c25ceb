"""What is known about a file after it was made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kopt._parts import Part
from kopt._registry import register
from kopt.export._comparison import Difference
from kopt.export._zeros import Zeros
from kopt.export.kernel_distance import KernelDistance


@register("export", serializable=False)
@dataclass(frozen=True)
class ExportReport:
    """What an export made. `print(report)` shows it.

    Attributes:
        path: Where the file or folder is.
        format: "tflite" or "saved_model".
        quantization: How the values are stored and computed; None for float32.
        size_bytes: Size on disk, of all files together.
        inputs: Type of each input, by name.
        outputs: Type of each output, by name.
        float_tensors: Names of the float tensors inside, inputs and outputs left out.
            None for a SavedModel.
        samples: How many samples the file was compared on; 0 if it was not.
        source: Where these samples came from.
        differences: A `Difference` for each output, by name.
        latency_ms: Median time of one run, in milliseconds; None if it was not run.
        latency_protocol: How that was timed.
        isolated: Whether the conversion ran in a process of its own.
        float_layers: Paths of the layers that stay float by the user's choice.
        dense_size_bytes: Size of the same file with dense weights, of a sparse one
            that was run; else None.
        speedups: Time of that dense file as a multiple of this one's, measured in each
            runtime that is installed and runs both, by its name.
        float_size_bytes: Size of the float file, where that was made too; else None.
        float_speedups: Time of the float file as a multiple of this one's, in each
            runtime that is installed and runs both, by its name: below 1 this file is
            slower.
        slow_parts: What in a file of integers is known to cost time or room, and what
            helps.
        zeros: The zeros in the weights, and what gzip and `sparse=True` make of them;
            None for a SavedModel.
        signatures: The report of each model, by the name of its signature, of a file
            that holds several.
        quantization_aware: Whether the model had ranges of its own, learned in training
            or calibrated.
        mismatched_grids: Operations that need one grid for all that they take in, and
            have several in the file, or another one than the model's; empty as a rule.
        kernel_distances: How far the runtime's own kernels are from each other on the
            same file, by output: the measure for a file whose model rounds as it does
            and which is more than 3 steps off all the same, or chooses otherwise in
            more than 0.5 % of the samples, as deep networks do. Else empty.
    """

    path: Path
    format: str
    quantization: str | None
    size_bytes: int
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    float_tensors: tuple[str, ...] | None = None
    samples: int = 0
    source: str = "none"
    differences: Mapping[str, Difference] = field(default_factory=dict)
    latency_ms: float | None = None
    latency_protocol: str = ""
    isolated: bool = False
    float_layers: tuple[str, ...] = ()
    dense_size_bytes: int | None = None
    speedups: Mapping[str, float] = field(default_factory=dict)
    float_size_bytes: int | None = None
    float_speedups: Mapping[str, float] = field(default_factory=dict)
    slow_parts: tuple[str, ...] = ()
    zeros: Zeros | None = None
    signatures: Mapping[str, ExportReport] = field(default_factory=dict)
    quantization_aware: bool = False
    mismatched_grids: tuple[str, ...] = ()
    kernel_distances: Mapping[str, KernelDistance] = field(default_factory=dict)

    @property
    def size_kb(self) -> float:
        """Size on disk in KB (1024 bytes)."""
        return self.size_bytes / 1024

    @property
    def verified(self) -> bool:
        """Whether it was run, and every part of every output was within its limit.

        Not if an operation that needs one grid has several.
        """
        passed = all(found.passed for found in self.differences.values())
        return bool(self.differences) and passed and not self.mismatched_grids

    @property
    def worst_part(self) -> Part | None:
        """The part of an output that suffers most; None if none stands out."""
        parts = [part for found in self.differences.values() for part in found.parts]
        return next((part for part in parts if part.fault), parts[0] if parts else None)

    @property
    def max_difference(self) -> float | None:
        """The largest difference from the model over all outputs, in their units."""
        return self._worst(max, (found.max for found in self.differences.values()))

    @property
    def mean_difference(self) -> float | None:
        """The mean difference of the output where it is largest, in its units."""
        return self._worst(max, (found.mean for found in self.differences.values()))

    @property
    def max_lsb(self) -> float | None:
        """The largest difference in integer steps; None for float outputs."""
        return self._worst(max, (found.max_lsb for found in self.differences.values()))

    @property
    def mean_lsb(self) -> float | None:
        """The mean difference in integer steps; None for float outputs."""
        return self._worst(max, (found.mean_lsb for found in self.differences.values()))

    @property
    def argmax_agreement(self) -> float | None:
        """Share of samples with the same largest output; None for single values."""
        return self._worst(
            min, (found.agreement for found in self.differences.values())
        )

    def _beside(self, other_size: int, speedups: Mapping[str, float]) -> str:
        smaller = other_size / self.size_bytes
        gains = [f"{gain:.2f}x in {name}" for name, gain in speedups.items()]
        size = (
            f"{smaller:.2f}x smaller" if smaller >= 1 else f"{1 / smaller:.2f}x LARGER"
        )
        slower = [name for name, gain in speedups.items() if gain < 1]
        note = f", SLOWER in {', '.join(slower)}" if slower else ""
        return f"{size}; speed {', '.join(gains) or 'not measured'}{note}"

    @staticmethod
    def _worst(
        choose: Callable[[list[float]], float], values: Iterable[float | None]
    ) -> float | None:
        known = [value for value in values if value is not None]
        return choose(known) if known else None

    def __str__(self) -> str:
        rows = [
            ("file", str(self.path)),
            ("format", f"{self.format}, {self.quantization or 'float32'}"),
            ("size", f"{self.size_kb:,.1f} KB"),
            ("inputs", _typed(self.inputs)),
            ("outputs", _typed(self.outputs)),
        ]
        if self.signatures:
            rows.append(("signatures", ", ".join(self.signatures)))
        if self.float_layers:
            rows.append(("layers kept in float", ", ".join(self.float_layers)))
        if self.float_tensors is not None:
            rows.append(("float tensors inside", _listed(self.float_tensors)))
        if self.mismatched_grids:
            rows.append(("on several grids", "; ".join(self.mismatched_grids)))
        if self.zeros is not None:
            rows.append(("zeros in weights", str(self.zeros)))
        if not self.differences:
            rows.append(("verified", "no: it was not run"))
        for name, found in self.differences.items():
            rows.append((f"difference in {name}", _described(found)))
            if name in self.kernel_distances:
                apart = str(self.kernel_distances[name])
                rows.append((f"kernels apart in {name}", apart))
            if found.parts:
                more = f" and {len(found.parts) - 1} more" if found.parts[1:] else ""
                rows.append((f"worst part of {name}", f"{found.parts[0]}{more}"))
        if self.differences:
            state = "yes" if self.verified else "NO"
            rows.append(("verified", f"{state}, on {self.samples} {self.source}"))
        if self.latency_ms is not None:
            rows.append(
                ("latency", f"{self.latency_ms:.3f} ms ({self.latency_protocol})")
            )
        if self.dense_size_bytes is not None:
            beside = self._beside(self.dense_size_bytes, self.speedups)
            rows.append(("beside a dense file", beside))
        if self.float_size_bytes is not None:
            beside = self._beside(self.float_size_bytes, self.float_speedups)
            rows.append(("beside the float file", beside))
        rows += [("costs time or room", part) for part in self.slow_parts]
        if self.isolated:
            rows.append(("converted", "in a process of its own"))
        width = max(len(label) for label, _ in rows)
        return "\n".join(f"{label:<{width}}  {text}" for label, text in rows)


def _typed(tensors: Mapping[str, str]) -> str:
    return ", ".join(f"{name}: {dtype}" for name, dtype in tensors.items())


def _listed(names: tuple[str, ...]) -> str:
    if not names:
        return "none"
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    # The converter joins the names of all layers that it fused into one tensor.
    shown = ", ".join(name.split(";")[0] for name in names[:3])
    return f"{len(names)} ({shown}{rest})"


def _described(found: Difference) -> str:
    parts = [f"max {found.max:.3g}, mean {found.mean:.3g}"]
    if found.step:
        parts.append(f"max {found.max_lsb:.2f} LSB, mean {found.mean_lsb:.2f} LSB")
    if found.agreement is not None:
        parts.append(f"argmax agrees on {found.agreement:.2%}")
    return "; ".join(parts)
