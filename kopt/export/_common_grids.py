"""Operations that have one grid for all that they take in, read back from a file.

Their kernels copy integers, or compare them: on two grids the same integer stands for
two numbers. Nothing says so when the file runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from kopt.export._file_contents import FileContents, Operation, Tensor

# Which inputs share the grid of the result; None stands for all.
_JOINS: Mapping[str, slice] = {
    **dict.fromkeys("CONCATENATION MAXIMUM MINIMUM PACK".split(), slice(None)),
    "PADV2": slice(0, None, 2),
    "SELECT": slice(1, None),
    "SELECT_V2": slice(1, None),
}
_FIRST = slice(0, 1)
_MOVES: Mapping[str, slice] = {
    **dict.fromkeys(
        """
        AVERAGE_POOL_2D BATCH_TO_SPACE_ND BROADCAST_TO DEPTH_TO_SPACE EXPAND_DIMS
        GATHER GATHER_ND MAX_POOL_2D MIRROR_PAD PAD REDUCE_MAX REDUCE_MIN RESHAPE
        RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_V2 SLICE SPACE_TO_BATCH_ND
        SPACE_TO_DEPTH SPLIT_V SQUEEZE STRIDED_SLICE TILE TOPK_V2 TRANSPOSE UNPACK
        """.split(),
        _FIRST,
    ),
    "SPLIT": slice(1, 2),
}
_ONE_GRID = {**_JOINS, **_MOVES}
# Half a step at the end of a range of 255.
_TOLERANCE = 0.002


def several_grids(contents: FileContents) -> tuple[str, ...]:
    """What copies integers from one grid to another, in words; empty if nothing."""
    found = []
    for operation, tensors in _tensors_on_one_grid(contents):
        first = tensors[-1]
        if any(not _same(one, first) for one in tensors):
            grids = ", ".join(dict.fromkeys(map(_in_words, tensors)))
            found.append(f"{operation.name} ({first.name.split(';')[0]}): {grids}")
    return tuple(found)


def off_plan(contents: FileContents, planned: Mapping[str, float]) -> tuple[str, ...]:
    """Joins that stand on another grid than the model's, in words.

    Args:
        contents: The file.
        planned: The step of each join of a quantization-aware model, by the name of
            its layer.
    """
    steps = [
        float(tensors[-1].scales[0])
        for operation, tensors in _tensors_on_one_grid(contents)
        if operation.name in _JOINS
    ]
    return tuple(
        f"{name}: a step of {step:.4g} in the model, in the file "
        f"{', '.join(f'{one:.4g}' for one in sorted(set(steps)))}"
        for name, step in planned.items()
        if steps and not np.isclose(steps, step, rtol=_TOLERANCE, atol=0.0).any()
    )


def _tensors_on_one_grid(
    contents: FileContents,
) -> Iterator[tuple[Operation, list[Tensor]]]:
    """Each operation that has one grid, with its integer tensors, results last."""
    for operation in contents.operations:
        chosen = _ONE_GRID.get(operation.name)
        if chosen is None:
            continue
        indices = (*operation.inputs[chosen], *operation.outputs)
        tensors = [contents.tensors[index] for index in indices]
        tensors = [one for one in tensors if one.scales.size == 1]
        if len(tensors) > 1:
            yield operation, tensors


def _same(one: Tensor, other: Tensor) -> bool:
    near = np.isclose(one.scales[0], other.scales[0], rtol=_TOLERANCE, atol=0.0)
    return bool(near) and one.zero_points[0] == other.zero_points[0]


def _in_words(one: Tensor) -> str:
    return f"[{one.real_range[0]:.4g}, {one.real_range[1]:.4g}]"
