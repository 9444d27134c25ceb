"""What a program for a microcontroller needs of a file, as C++ sources."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path


def write_sources(file: Path, folder: Path, adders: Sequence[str]) -> tuple[Path, ...]:
    """Write a file as an array, and the operator resolver that it needs.

    Args:
        file: The `.tflite` file.
        folder: Where the sources go.
        adders: The functions of the resolver that add its operations.

    Returns:
        The paths of the array, its header and the header of the resolver.
    """
    name = re.sub(r"\W", "_", file.stem)
    name = f"model_{name}" if name[0].isdigit() else name
    texts = {
        f"{name}.cc": _array(name, file.read_bytes()),
        f"{name}.h": _header(name),
        f"{name}_resolver.h": _resolver(name, adders),
    }
    paths = []
    for file_name, text in texts.items():
        path = folder / file_name
        path.write_text(text)
        paths.append(path)
    return tuple(paths)


def _array(name: str, content: bytes) -> str:
    lines = [
        "    " + " ".join(f"0x{byte:02x}," for byte in content[start : start + 12])
        for start in range(0, len(content), 12)
    ]
    return "\n".join(
        [
            f'#include "{name}.h"',
            "",
            # The runtime reads numbers of up to 16 bytes where they stand.
            f"alignas(16) const unsigned char {name}[] = {{",
            *lines,
            "};",
            f"const unsigned int {name}_length = {len(content)};",
            "",
        ]
    )


def _header(name: str) -> str:
    return (
        "#pragma once\n\n"
        f"extern const unsigned char {name}[];\n"
        f"extern const unsigned int {name}_length;\n"
    )


def _resolver(name: str, adders: Sequence[str]) -> str:
    kind = f"tflite::MicroMutableOpResolver<{max(len(adders), 1)}>"
    return "\n".join(
        [
            "#pragma once",
            "",
            '#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"',
            "",
            f"inline TfLiteStatus Add_{name}_operations({kind}& resolver) {{",
            *(f"  TF_LITE_ENSURE_STATUS(resolver.{adder}());" for adder in adders),
            "  return kTfLiteOk;",
            "}",
            "",
        ]
    )
