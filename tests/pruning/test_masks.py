import numpy as np
import pytest

from kopt.pruning import _masks
from tests.reference import pruning as reference

random = np.random.default_rng(1)


def test_scores_without_sign_keep_their_order():
    scores = np.concatenate([random.normal(size=500), 1e-30 * random.normal(size=9)])
    scores = np.append(scores, [0.0, -np.inf, np.inf]).astype("float32")
    positive = np.asarray(_masks.without_sign(scores)).view("int32")
    assert (positive >= 0).all()
    np.testing.assert_array_equal(np.argsort(positive), np.argsort(scores))


@pytest.mark.parametrize(
    ("size", "sparsity", "kept"),
    [
        (100, 0.0, 100),
        (100, 0.8, 20),
        (10, 0.75, 2),  # 2.5: halves go to the even number
        (14, 0.75, 4),  # 3.5
        (3, 0.99, 1),
        (16_777_216, 0.5, 8_388_608),
    ],
)
def test_count_of_kept_weights_is_rounded_and_never_none(size, sparsity, kept):
    assert int(_masks.kept_count(size, sparsity)) == kept


@pytest.mark.parametrize("block_size", [(2, 1), (1, 3), (4, 3), (12, 9)])
@pytest.mark.parametrize(("pooling", "pool"), [("AVG", np.mean), ("MAX", np.max)])
def test_block_scores_pool_each_block(block_size, pooling, pool):
    matrices = random.random((2, 12, 9)).astype("float32")
    scores = np.asarray(_masks.block_scores(matrices, block_size, pooling))
    height, width = block_size
    for position, row, column in np.ndindex(scores.shape):
        block = matrices[position, row * height :, column * width :][:height, :width]
        assert scores[position, row, column] == pytest.approx(pool(block), rel=1e-6)


def test_blocks_spread_over_their_weights():
    mask = np.array([[[True, False], [False, True]]])
    spread = _masks.spread_blocks(mask, (2, 3))
    np.testing.assert_array_equal(spread, np.kron(mask, np.ones((1, 2, 3))))


@pytest.mark.parametrize(("zeros", "group"), [(2, 4), (1, 4), (1, 2), (5, 8), (3, 7)])
@pytest.mark.parametrize("inputs", [16, 15, 3])
def test_m_of_n_drops_the_smallest_of_each_group(zeros, group, inputs):
    kernel = random.normal(size=(2, inputs, 5))
    kernel[0, :4] = 0.5  # ties
    scores = np.abs(kernel).astype("float32")
    mask = np.asarray(_masks.drop_m_of_n(scores, zeros, group))
    for position in range(2):
        expected = reference.m_of_n(scores[position], zeros, group)
        np.testing.assert_array_equal(mask[position], expected)
