"""What a wrapper keeps for each variable, and how it is written on all devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import tensorflow as tf

from kopt._keras.layouts import layout
from kopt._keras.optimizer_adapter import KerasDoor
from kopt._variables import NARROW, is_floating

if TYPE_CHECKING:
    from kopt.optimizers._wrapper import Wrapper

# A slot that only variables of 16 bits have: what they held when the model was brought
# to its evaluation point. Others leave that in the slot that they take the point from.
PUT_ASIDE = "put_aside"


@dataclass
class Track:
    """One variable of the model with what a wrapper keeps for it.

    Args:
        index: Its position among the optimizer's variables.
        variable: The variable of the model.
        dtype: Dtype of the arithmetic and of the slots, float32 or float64.
        slots: The wrapper's own variables by name.
    """

    index: int
    variable: keras.Variable
    dtype: str
    slots: dict[str, keras.Variable] = field(default_factory=dict)


class Batch(NamedTuple):
    """What a wrapper knows of the batch in hand.

    Args:
        tracks: The variables that have a gradient.
        gradients: Their gradients, as they were given.
        rate: The learning rate of the inner optimizer, a float64 scalar.
        due: Which variables are going to take a step, a boolean vector by position,
            where each of them counts the gradients that it accumulates; `None` where
            all of the batch move together.
    """

    tracks: list[Track]
    gradients: list[Any]
    rate: Any
    due: Any = None

    def taken(self, moved: Any) -> Any:
        """Which variables took a step, by position, or whether all of them did.

        Args:
            moved: A boolean tensor, whether any of them did.
        """
        return moved if self.due is None else self.due


def make_tracks(wrapper: Wrapper, variables: Sequence[keras.Variable]) -> list[Track]:
    """Create a wrapper's slots beside the variables, on their devices."""
    tracks = []
    for index, variable in enumerate(variables):
        dtype = "float64" if variable.dtype == "float64" else "float32"
        track = Track(index, variable, dtype)
        names = {name: dtype for name in (*wrapper.copies, *wrapper.zeros)}
        if wrapper.evaluates_at and variable.dtype in NARROW:
            names[PUT_ASIDE] = variable.dtype
        if is_floating(variable) and not wrapper.is_overwritten(variable):
            for name, kind in names.items():
                track.slots[name] = _slot(wrapper, variable, name, kind)
        tracks.append(track)
    return tracks


def _slot(
    wrapper: KerasDoor, variable: keras.Variable, name: str, dtype: str
) -> keras.Variable:
    with wrapper.colocated(variable):
        return wrapper.add_variable(
            shape=variable.shape,
            dtype=dtype,
            name=f"{variable.path.replace('/', '_')}_{name}",
            layout=layout(variable),
        )


def read(variable: keras.Variable, dtype: str | None = None) -> tf.Tensor:
    """The present value, which later assignments leave alone."""
    value = tf.convert_to_tensor(variable.value)
    return value if dtype is None else tf.cast(value, dtype)


def write(variable: keras.Variable, value: tf.Tensor) -> None:
    """Assign a value of any float dtype, without reading it back."""
    variable.value.assign(tf.cast(value, variable.dtype))


def exchange(track: Track, slot_name: str, *, to_eval: bool) -> None:
    """Bring a variable to its evaluation point, or back to where it was before."""
    slot = track.slots[slot_name]
    if PUT_ASIDE in track.slots:
        # The slot is wider, so it cannot be put into the variable and taken out again.
        aside = track.slots[PUT_ASIDE]
        if to_eval:
            write(aside, read(track.variable))
        write(track.variable, read(slot if to_eval else aside))
        return
    present = read(track.variable)
    write(track.variable, read(slot))
    write(slot, present)


def for_each(
    function: Callable[..., None],
    tracks: Sequence[Track],
    *columns: Sequence[Any],
    scalars: Sequence[Any] = (),
    when: Any = None,
) -> None:
    """Call `function(track, *row, *scalars)` for each variable, on all its devices.

    Args:
        function: Assigns to the variables of a track.
        tracks: The variables.
        *columns: Lists with one tensor a variable.
        scalars: Tensors that all variables get.
        when: A boolean tensor; nothing is done where it is false.
    """
    if not tracks:
        return
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:

        def run() -> None:
            for track, *row in zip(tracks, *columns, strict=True):
                function(track, *row, *scalars)

        _if(when, run)
        return

    # A condition may not contain a meeting of the replicas, so they meet first.
    def meet(
        strategy: tf.distribute.Strategy, when: Any, columns: Any, scalars: Any
    ) -> None:
        def run() -> None:
            for track, *row in zip(tracks, *columns, strict=True):
                strategy.extended.update(
                    track.variable.value,
                    lambda _, *row, track=track: function(track, *row),
                    args=(*row, *scalars),
                    group=False,
                )

        if when is not None:
            when = strategy.experimental_local_results(when)[0]
        _if(when, run)

    context = tf.distribute.get_replica_context()
    context.merge_call(meet, args=(when, list(columns), list(scalars)))


def own(value: Any, track: Track) -> Any:
    """A variable's own number, of a vector by position or of one for all."""
    return value[track.index] if value.shape.rank else value


def constrain(tracks: Sequence[Track], when: Any = None) -> None:
    """Apply the constraints that variables have, where `when` holds.

    `when` is a boolean, for all of them or by their position.
    """
    for track in tracks:
        variable = track.variable
        if variable.constraint is not None:
            value = tf.convert_to_tensor(variable.constraint(variable))
            if when is not None:
                value = tf.where(own(when, track), value, read(variable))
            variable.assign(value)


def summed_over_replicas(gradients: Sequence[Any]) -> list[Any]:
    """Dense gradients of the whole batch, as replicas give their parts."""
    dense = [tf.convert_to_tensor(gradient) for gradient in gradients]
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return dense
    context = tf.distribute.get_replica_context()
    return list(context.all_reduce(tf.distribute.ReduceOp.SUM, dense))


def _if(when: Any, run: Callable[[], None]) -> None:
    if when is None:
        run()
    else:
        tf.cond(when, run, lambda: None)
