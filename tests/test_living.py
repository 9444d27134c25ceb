import gc

from kopt._living import living


class Plant: ...


class Tree(Plant): ...


class Stone: ...


class Proxy:
    """Says that it is a plant."""

    __class__ = Plant


def test_objects_of_a_class_and_of_its_subclasses_are_found():
    plant, tree = Plant(), Tree()
    things = [plant, tree, Stone(), Proxy()]
    assert living(Plant, things) == [plant, tree]
    assert {id(one) for one in living(Plant)} == {id(plant), id(tree)}


def test_what_nobody_holds_is_not_found():
    Tree()
    assert living(Tree) == []


def test_frozen_objects_are_not_listed():
    plant = Plant()
    gc.freeze()
    assert living(Plant) == [] and living(Plant, [plant]) == [plant]
