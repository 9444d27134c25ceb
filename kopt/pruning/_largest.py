"""The n largest of many numbers by magnitude, exactly, without sorting.

A float without its sign orders like its bits read as an integer, its *key*, so the n-th
largest is found bit by bit: counting the keys that have the bits found so far and the
next one tells whether the n-th largest has it. That reads all keys 31 times. Of many
keys a sample tells about where the n-th largest is; counting each key of that
neighbourhood, in one reading, finds it. The same operations run eagerly, in graphs and
under XLA.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

Tensor = Any

# From this many numbers on, a table of counts costs less than 31 readings. (XLA takes
# long to compile it, so it is not for each of many small weights.)
_MANY = 2**18
# Read in pieces, whose intermediate results stay in the processor's caches: as large as
# the numbers themselves, most of the time would go into fresh memory for them.
_PIECES = 32
# Every so many numbers are the sample: a prime, which meets all rows and columns.
_STRIDE = 97
# Keys in the neighbourhood of the sample's answer: floats within half a percent to one
# percent of it on either side, many times as wide as a sample of this size is wrong.
_WINDOW = 2**17


def keep_largest(scores: Tensor, count: Tensor) -> Tensor:
    """A mask over exactly the `count` scores of the largest magnitude.

    Of equal scores at the border the first ones stay.

    Args:
        scores: A float32 vector, of which the signs do not matter.
        count: How many stay, from 1 to the number of scores.
    """
    select = _select_of_many if scores.shape[0] >= _MANY else _select_of_few
    return select(scores, tf.cast(count, tf.int32))


class Border(NamedTuple):
    """The smallest key that stays, and how many keys are larger."""

    key: Tensor
    above: Tensor


def _keys(scores: Tensor) -> Tensor:
    return tf.bitwise.bitwise_and(tf.bitcast(scores, tf.int32), 2**31 - 1)


def _how_many(mask: Tensor) -> Tensor:
    return tf.reduce_sum(tf.cast(mask, tf.int32))


def _border(keys: Tensor, count: Tensor) -> Border:
    """The `count`-th largest key, bit by bit."""

    def next_bit(bit: Tensor, key: Tensor) -> tuple[Tensor, ...]:
        candidate = key + tf.bitwise.left_shift(1, bit)
        enough = _how_many(keys >= candidate) >= count
        return bit - 1, tf.where(enough, candidate, key)

    start = (tf.constant(30), tf.constant(0))
    _, key = tf.while_loop(lambda bit, _: bit >= 0, next_bit, start)
    return Border(key, _how_many(keys > key))


def _border_near(
    guess: Tensor, scores: Tensor, pieces: Tensor, rest: Tensor, count: Tensor
) -> Border:
    """The `count`-th largest key, by counting each key near a guess."""
    low = tf.maximum(guess - _WINDOW // 2, 0)

    def counts(scores: Tensor) -> Tensor:
        # All that is below counts in the first place, all that is above in the last.
        places = tf.clip_by_value(_keys(scores) - (low - 1), 0, _WINDOW + 1)
        # `tf.math.bincount` computes its size from the data, which XLA cannot compile.
        return tf.raw_ops.DenseBincount(
            input=places, size=_WINDOW + 2, weights=tf.constant([], tf.int32)
        )

    _, table = tf.while_loop(
        lambda piece, _: piece < _PIECES,
        lambda piece, table: (piece + 1, table + counts(pieces[piece])),
        (0, counts(rest)),
    )
    at_least = tf.cumsum(table, reverse=True)
    place = _how_many(at_least >= count) - 1
    # `at_least[place + 1]` would make XLA compile for minutes.
    above = tf.gather(at_least, tf.minimum(place + 1, _WINDOW + 1))
    return tf.cond(
        (place > 0) & (place <= _WINDOW),
        lambda: Border(low + place - 1, above),
        lambda: _border(_keys(scores), count),
    )


def _kept(keys: Tensor, border: Border, ties: Tensor) -> tuple[Tensor, Tensor]:
    """Which keys stay, with the first `ties` of those at the border; how many are left.

    Most pieces have no key at the border, or all of theirs stay.
    """
    tied = keys == border.key
    found = _how_many(tied)
    first = tf.cond(
        found <= ties,
        lambda: tied,
        lambda: tied & (tf.cumsum(tf.cast(tied, tf.int32)) <= ties),
    )
    return (keys > border.key) | first, tf.maximum(ties - found, 0)


def _of_few(scores: Tensor, count: Tensor) -> Tensor:
    keys = _keys(scores)
    border = _border(keys, count)
    return _kept(keys, border, count - border.above)[0]


def _of_many(scores: Tensor, count: Tensor) -> Tensor:
    length = tf.size(scores) // _PIECES
    pieces = tf.reshape(scores[: _PIECES * length], [_PIECES, length])
    rest = scores[_PIECES * length :]
    sample = _keys(scores[::_STRIDE])
    share = tf.cast(count, tf.float32) / tf.cast(tf.size(scores), tf.float32)
    wanted = tf.cast(share * tf.cast(tf.size(sample), tf.float32), tf.int32)
    guess = _border(sample, tf.maximum(wanted, 1)).key
    border = _border_near(guess, scores, pieces, rest, count)

    def next_piece(piece: Tensor, ties: Tensor, masks: Tensor) -> tuple[Tensor, ...]:
        mask, ties = _kept(_keys(pieces[piece]), border, ties)
        return piece + 1, ties, masks.write(piece, mask)

    masks = tf.TensorArray(tf.bool, _PIECES, element_shape=[None])
    _, ties, masks = tf.while_loop(
        lambda piece, *_: piece < _PIECES, next_piece, (0, count - border.above, masks)
    )
    last, _ = _kept(_keys(rest), border, ties)
    return tf.concat([tf.reshape(masks.stack(), [-1]), last], 0)


def _in_one_graph(select: Callable[[Tensor, Tensor], Tensor]) -> Any:
    """The same graph for vectors of every length: a hundred weights are traced once."""
    return tf.function(
        select,
        input_signature=[
            tf.TensorSpec([None], tf.float32),
            tf.TensorSpec([], tf.int32),
        ],
        # A network calls it once a weight. Copied into each place, its loops would take
        # seconds to optimize before the first training step.
        experimental_attributes={"_noinline": True},
    )


_select_of_few = _in_one_graph(_of_few)
_select_of_many = _in_one_graph(_of_many)
