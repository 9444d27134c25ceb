import importlib

import keras
import pytest

from kopt.quantization import rule as rules

# As kopt has them: other tests may register more.
_NAMES = sorted(name for name in rules._RULES_BY_NAME if name.startswith("keras."))


def test_some_rules_are_for_classes_without_a_public_name():
    assert len(_NAMES) > 10


@pytest.mark.parametrize("name", _NAMES)
def test_keras_still_has_the_private_class_that_a_rule_is_for(name):
    module, _, class_name = name.rpartition(".")
    found = getattr(importlib.import_module(module), class_name)
    assert issubclass(found, keras.Operation)
    assert f"{found.__module__}.{found.__qualname__}" == name
