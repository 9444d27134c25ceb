"""Models that carry more than their class knows: masks, or a way to be trained.

A `.keras` file has no room for what is attached to a model from outside. So such a
model becomes, in place, an instance of a subclass of its class, which stores the plain
model and, beside it, what it carries. Several can be put on one model.
"""

from __future__ import annotations

from functools import cache
from inspect import getattr_static
from typing import Any, ClassVar

import keras

from kopt._keras.h5_files import writes_h5
from kopt._keras.saved_whole import SavedWhole, refuse_h5


class Carrier(SavedWhole):
    """Mixed into the class of a model when it is given something to carry.

    A subclass names where that is kept and turns it into a configuration and back.
    """

    #: The model's attribute with what it carries.
    kept_as: ClassVar[str]
    plain_class: type[keras.Model]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        # Keras constructs a clone with the class of the original: a clone is plain.
        return cls.plain_class(*args, **kwargs)

    @classmethod
    def carried_config(cls, model: keras.Model, carried: Any) -> Any:
        """The configuration of what a model carries."""
        raise NotImplementedError

    @classmethod
    def carry_again(cls, model: keras.Model, config: Any) -> None:
        """Give a model what it carried when it was saved."""
        raise NotImplementedError

    @classmethod
    def adds_to(cls, model: Any) -> bool:
        return hasattr(model, getattr(cls, "kept_as", ""))

    def get_config(self: Any) -> dict[str, Any]:
        refuse_h5(self)
        kind, carried = type(self), getattr(self, self.kept_as, None)
        self.__class__ = kind.plain_class
        try:
            if writes_h5():
                return self.get_config()
            model = keras.saving.serialize_keras_object(self)
        finally:
            self.__class__ = kind
        # Keras compiles the whole, once.
        model.pop("compile_config", None)
        config = carried and kind.carried_config(self, carried)
        return {"model": model, "carried": config}

    def get_build_config(self) -> None:
        """Nothing: the plain model inside the configuration is built by its own."""
        return None

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        model = keras.saving.deserialize_keras_object(
            config["model"], custom_objects=custom_objects
        )
        if config["carried"]:
            cls.carry_again(model, config["carried"])
        return model


def build_config(model: keras.Model) -> dict[str, Any]:
    """What a model was built with, whatever it carries; empty if it does not say."""
    kind = type(model)
    while "plain_class" in dir(kind):
        kind = kind.plain_class
    return kind.get_build_config(model) or {}


def put_on(model: Any, carrier: type[Carrier], carried: Any) -> None:
    """Let a model carry something."""
    setattr(model, carrier.kept_as, carried)
    if not isinstance(model, carrier):
        # mypy takes the hash of a class for that of its instances.
        key: Any = (carrier, type(model))
        model.__class__ = _combined(*key)


def take_off(model: Any, carrier: type[Carrier]) -> None:
    """Take from a model what it carries, and give it its own class back."""
    delattr(model, carrier.kept_as)
    # Where another carrier was put on top, this one has to stay until that is taken
    # off; with nothing carried it trains and saves as the model that it was.
    while "plain_class" in vars(type(model)):
        if hasattr(model, type(model).kept_as):
            return
        model.__class__ = type(model).plain_class


def mark_as_added(variable: keras.Variable) -> keras.Variable:
    """Say of a variable that a carrier adds it to a model, anew whenever that loads."""
    variable.kopt_added = True
    return variable


def own_arrays(model: keras.Model) -> list[keras.Variable]:
    """The weights that a model's class makes, but scalars, in order.

    A carrier finds weights again by their place in this list. Added ones and scalars
    (ranges of a quantized model's activations) are put on when the model inside has
    been rebuilt.
    """
    return [
        variable
        for variable in model.weights
        if len(variable.shape) and not getattr(variable, "kopt_added", False)
    ]


@cache
def _combined(carrier: type[Carrier], plain_class: type[keras.Model]) -> type:
    # Where the plain class carries something too, its own way to be saved would come
    # before what all carriers have in common.
    own = {name: getattr_static(carrier, name) for name in _WAYS_OF_SAVING}
    body = {"plain_class": plain_class, "__module__": carrier.__module__, **own}
    # The name stays: Keras makes paths in weights files from it.
    combined = type(plain_class.__name__, (carrier, plain_class), body)
    registered(combined, carrier.__name__)
    # What loads is the class that every process has.
    registered(carrier, carrier.__name__)
    return combined


_WAYS_OF_SAVING = ("__new__", "get_config", "get_build_config", "from_config")


def registered(cls: type, name: str) -> type:
    """Save instances of a class under `name`, from which any process rebuilds them.

    All combinations with one carrier share its name: `from_config` looks at nothing
    but the configuration.
    """
    return keras.saving.register_keras_serializable("kopt", name)(cls)
