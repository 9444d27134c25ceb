"""The inputs and outputs of a file, in the model's own order.

The converter sorts them by name. A file's list of inputs is a vector of numbers, which
are put in another order where they stand; names and tensors stay what they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from kopt.export import _file_contents


def in_order(content: bytes, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """The same file with its inputs and outputs in the order of these names.

    Args:
        content: The file.
        inputs: The names that its signature gives its inputs.
        outputs: The same of its outputs.
    """
    changed = bytearray(content)
    model = _file_contents.format_reader().Model.GetRootAsModel(changed, 0)
    if not model.SignatureDefsLength():
        return content
    signature, graph = model.SignatureDefs(0), model.Subgraphs(0)
    ends = [signature.Inputs(i) for i in range(signature.InputsLength())]
    _rearrange(graph.InputsAsNumpy(), ends, inputs)
    ends = [signature.Outputs(i) for i in range(signature.OutputsLength())]
    _rearrange(graph.OutputsAsNumpy(), ends, outputs)
    return bytes(changed)


def _rearrange(stored: Any, ends: Iterable[Any], names: Sequence[str]) -> None:
    by_name = {end.Name().decode(): end.TensorIndex() for end in ends}
    wanted = [by_name[name] for name in names if name in by_name]
    # A tensor that is two outputs, or an input that nothing reads, has no such place.
    if sorted(wanted) == sorted(np.atleast_1d(stored).tolist()):
        stored[:] = wanted
