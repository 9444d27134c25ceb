import numpy as np
import pytest

from kopt.export._sparse_layout import Level, SparseLayout


def compressed_rows(matrix):
    """A matrix as rows of (columns, values), and its layout."""
    columns = [np.flatnonzero(row) for row in matrix]
    segments = np.cumsum([0, *map(len, columns)])
    levels = [
        Level(size=len(matrix)),
        Level(segments=segments, indices=np.concatenate(columns)),
    ]
    return matrix[matrix != 0], SparseLayout([0, 1], [], levels)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
def test_compressed_rows_give_back_the_matrix(random, share):
    matrix = random.normal(size=(7, 5)) * (random.random((7, 5)) >= share)
    values, layout = compressed_rows(matrix)
    np.testing.assert_array_equal(layout.densify(values, (7, 5)), matrix)


def test_blocks_give_back_the_matrix(random):
    # Blocks of 1 x 4 along the columns; the second and third of a row of three are
    # kept in row 0, the first in row 1.
    matrix = np.zeros((2, 12))
    matrix[0, 4:12] = random.normal(size=8)
    matrix[1, 0:4] = random.normal(size=4)
    layout = SparseLayout(
        order=[0, 1, 2],
        blocked=[1],
        levels=[
            Level(size=2),
            Level(segments=np.array([0, 2, 3]), indices=np.array([1, 2, 0])),
            Level(size=4),
        ],
    )
    values = np.concatenate([matrix[0, 4:12], matrix[1, 0:4]])
    np.testing.assert_array_equal(layout.densify(values, (2, 12)), matrix)


def test_axes_may_be_stored_in_another_order(random):
    matrix = random.normal(size=(3, 4)) * (random.random((3, 4)) < 0.5)
    values, layout = compressed_rows(np.ascontiguousarray(matrix.T))
    columns_first = SparseLayout([1, 0], [], layout.levels)
    np.testing.assert_array_equal(columns_first.densify(values, (3, 4)), matrix)
