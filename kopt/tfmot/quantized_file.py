from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kopt._registry import register


@register("tfmot", serializable=False)
@dataclass(frozen=True)
class QuantizedFile:
    """The TFLite file that TF-MOT's quantization ended in. `print` shows it.

    Args:
        path: Where the file is.
        model: The model of tf_keras that it was made of, with fake quantization.
        size_bytes: Size on disk.
        float_tensors: Names of the float tensors inside, inputs and outputs left out.
        samples: How many samples the file and the model were compared on.
        max_difference: The largest difference between the two, in units of the output.
        mean_difference: The mean difference, in units of the output.
        agreement: Share of samples for which the largest output is the same one; None
            where an output has a single value.
    """

    path: Path
    model: Any
    size_bytes: int
    float_tensors: tuple[str, ...]
    samples: int
    max_difference: float
    mean_difference: float
    agreement: float | None

    @property
    def size_kb(self) -> float:
        """Size on disk in KB (1024 bytes)."""
        return self.size_bytes / 1024

    def __str__(self) -> str:
        agreement = "-" if self.agreement is None else f"{self.agreement:.2%}"
        rows = {
            "file": str(self.path),
            "size": f"{self.size_kb:,.1f} KB",
            "float tensors inside": str(len(self.float_tensors)),
            "difference": f"max {self.max_difference:.3g}, "
            f"mean {self.mean_difference:.3g}, on {self.samples} samples",
            "same answer": agreement,
        }
        return "\n".join(f"{label:<22}{text}" for label, text in rows.items())
