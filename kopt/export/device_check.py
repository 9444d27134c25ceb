"""The verb that holds a file against what a device takes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kopt import _checks
from kopt._registry import register
from kopt._text_table import table
from kopt.export._micro_sources import write_sources
from kopt.export._operator_lists import LISTS, refused
from kopt.export.interpreter import Interpreter


@register("export", serializable=False)
@dataclass(frozen=True)
class DeviceReport:
    """Which operations of a file a device or delegate takes. `print(report)` shows it.

    Attributes:
        path: The file.
        target: The device or delegate.
        source: Where its list of operations is from.
        version: Which version of it the list describes.
        taken: How many operations of each kind it takes.
        left: By kind, why operations are not there, or leave the delegate.
        written: Sources that were written, for "tflite-micro".
    """

    path: Path
    target: str
    source: str
    version: str
    taken: Mapping[str, int] = field(default_factory=dict)
    left: Mapping[str, str] = field(default_factory=dict)
    written: tuple[Path, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the target takes every operation."""
        return not self.left

    def __str__(self) -> str:
        state = "all operations" if self.passed else f"not {', '.join(self.left)}"
        rows = [("operation", "taken", "")]
        rows += [(name, str(count), "") for name, count in self.taken.items()]
        rows += [(name, "no", reason) for name, reason in self.left.items()]
        head = f"{self.path.name} for {self.target}: {state}"
        lines = [head, table(rows, left=[0, 2]), f"{self.version}, {self.source}"]
        written = ", ".join(str(path) for path in self.written)
        return "\n".join([*lines, *([f"written: {written}"] if written else [])])


@register("export")
def check(
    path: str | os.PathLike[str],
    target: str,
    folder: str | os.PathLike[str] | None = None,
) -> DeviceReport:
    """Hold a TFLite file against the operations that a device or delegate takes.

    The lists are those that their makers publish; the report names version and source.
    An operation that a delegate does not take is computed by the runtime's own kernels;
    one that a microcontroller's runtime or a compiler lacks stops the file. What
    depends on sizes or options beyond the list shows on the device alone.

    Args:
        path: The `.tflite` file.
        target: "xnnpack" (the CPU delegate of LiteRT), "tflite-micro"
            (microcontrollers), "edgetpu" (Coral), or "litert-gpu".
        folder: Where the sources for "tflite-micro" go: the file as a C array with its
            header, and a header that adds its operations to an operator resolver.
            Defaults to the folder of the file. They are not written if an operation
            is missing there.

    Returns:
        A `DeviceReport`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no TFLite file, or the target is not known.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> report = kopt.export.tflite(model, "model.tflite")
        >>> kopt.export.check("model.tflite", "xnnpack").taken
        {'FULLY_CONNECTED': 1}
        >>> kopt.export.check("model.tflite", "edgetpu").left["FULLY_CONNECTED"]
        'float32 values, only int8 and uint8 are taken'
    """
    known = LISTS[_checks.one_of("target", target, tuple(LISTS))]
    file = Interpreter(path)
    taken: Counter[str] = Counter()
    left: dict[str, str] = {}
    for operation in file.contents.operations:
        reason = refused(operation, file.contents, known)
        if reason:
            left.setdefault(operation.name, reason)
        else:
            taken[operation.name] += 1
    written: tuple[Path, ...] = ()
    if known.adders and not left:
        adders = [known.adders[name] for name in taken]
        written = write_sources(file.path, Path(folder or file.path.parent), adders)
    return DeviceReport(
        file.path, target, known.source, known.version, dict(taken), left, written
    )
