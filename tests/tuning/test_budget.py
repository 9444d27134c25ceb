import pytest

import kopt


def test_a_budget_shows_what_limits_it():
    assert repr(kopt.tuning.Budget(epochs=9)) == "Budget(epochs=9)"


@pytest.mark.parametrize("name", ["minutes", "trials", "epochs"])
@pytest.mark.parametrize("value", [0, -1])
def test_nothing_is_no_budget(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        kopt.tuning.Budget(**{name: value})


def test_a_limit_for_a_trial_alone_is_no_budget():
    with pytest.raises(TypeError, match="needs a limit for the whole search"):
        kopt.tuning.Budget(trial_minutes=1)
