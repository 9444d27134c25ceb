"""LazyAdam."""

from __future__ import annotations

from typing import Any, Unpack

from kopt._registry import register
from kopt.optimizers._base import Options
from kopt.optimizers.adam import Adam


@register("optimizers")
class LazyAdam(Adam):
    """Adam that touches only the rows of an embedding that a batch used.

    For large embedding tables: an update takes time in proportion to the batch, not to
    the table. Rows that a batch left out keep their weights and moments, where Adam
    would go on moving them by their momentum; on dense gradients the two are the same,
    and a penalty on a table has one, for all of its rows. It is `Adam(sparse="lazy")`
    under the name that TensorFlow Addons gave it, and what `torch.optim.SparseAdam`
    does. Bias is corrected by the number of the update, not by how often a row was
    used.

    Args:
        learning_rate: A number, a schedule or a function without arguments. Defaults
            to `0.001`.
        beta_1: Decay of the first moment, in [0, 1). Defaults to `0.9`.
        beta_2: Decay of the second moment, in [0, 1). Defaults to `0.999`.
        epsilon: Added to the root of the second moment. Defaults to `1e-7`.
        amsgrad: Divide by the largest second moment so far. Defaults to `False`.
        name: Name of the optimizer. Defaults to `"lazy_adam"`.
        **options: The options of every kopt optimizer, see `kopt.optimizers.Optimizer`;
            `sparse` defaults to `"lazy"`.

    Raises:
        ValueError: For a number outside its range.

    References:
        Kingma & Ba, 2014, "Adam: A Method for Stochastic Optimization",
        arXiv:1412.6980.

    Example:

    >>> table = keras.layers.Embedding(3, 1, embeddings_initializer="ones")
    >>> model = keras.Sequential([keras.Input((1,)), table])
    >>> model.compile(kopt.LazyAdam(0.1), "mse")
    >>> for row in (0, 2):
    ...     _ = model.train_on_batch(np.array([[row]]), np.zeros((1, 1, 1)))
    >>> print(table.embeddings.numpy()[:, 0].round(3))  # row 0 moved once, row 1 never
    [0.9   1.    0.926]
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        name: str = "lazy_adam",
        **options: Unpack[Options],
    ) -> None:
        options.setdefault("sparse", "lazy")
        super().__init__(
            learning_rate, beta_1, beta_2, epsilon, amsgrad, name, **options
        )
