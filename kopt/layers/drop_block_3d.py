from __future__ import annotations

from kopt._registry import register
from kopt.layers._drop_block import DropBlock
from kopt.layers._random_layer import Traits


@register("layers")
class DropBlock3D(DropBlock):
    """Drops boxes of a volume at random in training.

    Neighbouring places of a volume, or of a film, tell much of the same, so that
    dropout, which takes out single numbers, leaves what they say. A box takes it all
    out.

    Each place is dropped with probability `rate`, and what is left is scaled by
    `1 / (1 - rate)`, so the mean stays. At inference the inputs come back untouched.

    Args:
        rate: Probability of dropping a place, from 0 to 1. `layer.rate = 0.3` moves
            it, for compiled steps too: the paper raises it from 0 over the training.
            It is saved with the configuration (a `.keras` file keeps the current rate)
            and is not one of the layer's weights.
        block_size: Size of a block, a number or three, at most the size of the map.
            With 1 it is dropout of single places.
        seed: Integer seed. Defaults to a new one for each layer. XLA draws other
            numbers from it than the uncompiled or plainly traced layer.
        couple_channels: Whether all channels lose the same blocks. `False` draws
            blocks for each channel, as the paper prefers, in as much more time as
            there are channels.
        scale_by_count: Whether what is left of a sample is scaled by the share that
            was dropped of it, as in the paper, rather than by the rate. The sum of a
            constant map then stays as it is, and the mean over all masks does not.
        data_format: `"channels_last"` or `"channels_first"`. Defaults to Keras's own.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Floating-point tensor of 5 axes: samples, three of the volume,
            channels; with `"channels_first"` the channels come second.
        training: Whether to drop.

    Raises:
        ValueError: If `rate` is outside 0 to 1, or a block is larger than the map or
            has another number of axes.

    References:
        Ghiasi, Lin, Le: DropBlock: A regularization method for convolutional networks,
        2018, arXiv:1810.12890. There blocks lie wholly inside of the map, so that its
        edges are dropped less; here they may stick out, so that the rate is the same
        at every place.

    Example:

    >>> layer = kopt.layers.DropBlock3D(0.5, block_size=(1, 4, 4), seed=1)
    >>> outputs = np.array(layer(np.ones((1, 6, 4, 4, 1)), training=True))
    >>> outputs.shape, sorted(set(outputs.ravel().tolist()))
    ((1, 6, 4, 4, 1), [0.0, 2.0])
    """

    _traits = Traits(
        variants=(
            lambda: {"block_size": 2},
            lambda: {"block_size": 3, "couple_channels": False},
            lambda: {
                "block_size": 2,
                "couple_channels": False,
                "data_format": "channels_first",
            },
        ),
        input_shape=(4, 4, 4, 4, 3),
    )

    map_rank = 3
