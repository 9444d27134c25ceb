import keras
import pytest

from kopt import _registry


@pytest.fixture
def area(monkeypatch):
    """An empty area of its own, gone after the test."""
    monkeypatch.setitem(_registry._AREAS, "gadgets", {})
    return "gadgets"


def test_registered_names_are_listed_in_order(area):
    for name in ("Zeta", "Alpha"):
        _registry.register(area, serializable=False)(type(name, (), {}))
    assert _registry.names(area) == ["Alpha", "Zeta"]
    assert area in _registry.areas()


def test_a_second_object_of_a_name_is_refused(area):
    _registry.register(area, serializable=False)(type("Thing", (), {}))
    with pytest.raises(ValueError, match=r"already has a 'Thing'.*another name"):
        _registry.register(area, serializable=False)(type("Thing", (), {}))


def test_registering_the_same_object_twice_changes_nothing(area):
    thing = type("Thing", (), {})
    for _ in range(2):
        assert _registry.register(area, serializable=False)(thing) is thing
    assert _registry.names(area) == ["Thing"]


def test_keras_finds_a_registered_class_again(area):
    @_registry.register(area)
    class Gadget(keras.layers.Layer):
        pass

    assert keras.saving.get_registered_name(Gadget) == "kopt>Gadget"
    assert keras.saving.get_registered_object("kopt>Gadget") is Gadget


def test_functions_are_listed_but_not_registered_with_keras(area):
    @_registry.register(area)
    def verb():
        pass

    assert _registry.names(area) == ["verb"]
    assert keras.saving.get_registered_name(verb) == "verb"


@pytest.mark.parametrize("name", ["DropPath", "drop_path", "droppath", "DROP_PATH"])
def test_names_are_found_however_they_are_written(area, name):
    thing = type("DropPath", (), {})
    _registry.register(area, serializable=False)(thing)
    assert _registry.entry(area, name) is thing


def test_unknown_name_lists_the_known_ones(area):
    _registry.register(area, serializable=False)(type("Alpha", (), {}))
    with pytest.raises(ValueError, match=r"kopt.gadgets has no 'Beta'. It has: Alpha."):
        _registry.entry(area, "Beta")
    with pytest.raises(ValueError, match="It has: nothing"):
        _registry.entry("nowhere", "Beta")


class TestGet:
    @pytest.fixture(autouse=True)
    def dense(self, area):
        @_registry.register(area)
        class Sized(keras.layers.Layer):
            def __init__(self, size=1, **kwargs):
                super().__init__(**kwargs)
                self.size = size

            def get_config(self):
                return {**super().get_config(), "size": self.size}

        self.area, self.sized = area, Sized

    def test_a_name_and_a_class_take_arguments(self):
        assert _registry.get(self.area, "sized", size=3).size == 3
        assert _registry.get(self.area, self.sized, size=4).size == 4

    def test_a_finished_object_comes_back_as_it_is(self):
        finished = self.sized(5)
        assert _registry.get(self.area, finished) is finished

    def test_arguments_beside_a_finished_object_are_refused(self):
        with pytest.raises(ValueError, match=r"\['size'\] were given together with"):
            _registry.get(self.area, self.sized(5), size=6)

    def test_a_serialized_object_is_made_again(self):
        config = keras.saving.serialize_keras_object(self.sized(7))
        assert _registry.get(self.area, config).size == 7
