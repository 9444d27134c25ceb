"""Canaries: values are asked for when an active name is met for the first time."""

import keras_tuner

from kopt._keras.asked_values import AskedHyperParameters


def asked(values):
    met = []

    def ask(hyperparameter):
        met.append(hyperparameter.name)
        return values[hyperparameter.name]

    return AskedHyperParameters(ask), met


def test_a_name_is_asked_for_once():
    hp, met = asked({"units": 7})
    assert hp.Int("units", 1, 9) == 7
    assert hp.Int("units", 1, 9) == 7
    assert hp.get("units") == hp["units"] == 7
    assert met == ["units"]


def test_every_kind_is_asked_for():
    hp, met = asked({"a": 2, "b": 0.5, "c": "x", "d": True, "e": 3})
    assert hp.Int("a", 1, 9) == 2
    assert hp.Float("b", 0, 1) == 0.5
    assert hp.Choice("c", ["x", "y"]) == "x"
    assert hp.Boolean("d") is True
    assert hp.Fixed("e", 3) == 3
    assert met == list("abcde")


def test_inactive_names_are_not_asked_for():
    hp, met = asked({"kind": "mlp", "units": 7})
    hp.Choice("kind", ["mlp", "cnn"])
    with hp.conditional_scope("kind", ["cnn"]):
        assert hp.Int("filters", 1, 9) is None
    with hp.conditional_scope("kind", ["mlp"]):
        assert hp.Int("units", 1, 9) == 7
    assert met == ["kind", "units"]
    assert hp.values == {"kind": "mlp", "units": 7}


def test_scopes_are_part_of_the_name():
    hp, met = asked({"head/units": 7})
    with hp.name_scope("head"):
        assert hp.Int("units", 1, 9) == 7
    assert met == ["head/units"]


def test_values_that_stand_already_are_kept():
    hp, met = asked({})
    hp.values["units"] = 5
    assert hp.Int("units", 1, 9) == 5
    assert met == []


def test_names_that_are_merged_in_are_asked_for_too():
    others = keras_tuner.HyperParameters()
    others.Int("units", 1, 9)
    hp, met = asked({"units": 7})
    hp.merge(others)
    assert (hp.values, met) == ({"units": 7}, ["units"])
