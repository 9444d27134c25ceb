import pytest

from kopt.callbacks._step_guard import StepGuard


class Model:
    """Stands for a model in `fit`; its training step raises what it is given."""

    def train_function(self, raised):
        if raised is not None:
            raise raised
        return "logs"


class Calls:
    count = 0

    def __call__(self):
        self.count += 1


@pytest.mark.parametrize("raised", [RuntimeError(), KeyboardInterrupt(), SystemExit()])
def test_a_failing_step_is_told_and_the_exception_passes(raised):
    model, failed = Model(), Calls()
    guard = StepGuard(model, failed)
    guard.expect()
    with pytest.raises(type(raised)):
        model.train_function(raised)
    assert failed.count == 1


def test_a_step_that_works_gives_its_logs():
    model, failed = Model(), Calls()
    guard = StepGuard(model, failed)
    guard.expect()
    assert model.train_function(None) == "logs"
    assert failed.count == 0


def test_the_end_of_the_data_is_no_failure():
    model, failed = Model(), Calls()
    StepGuard(model, failed).expect()
    with pytest.raises(StopIteration):
        model.train_function(StopIteration())
    assert failed.count == 0


def test_each_watch_is_for_one_step():
    # A guard left behind by a fit that something else ended.
    model, failed = Model(), Calls()
    guard = StepGuard(model, failed)
    guard.expect()
    model.train_function(None)
    with pytest.raises(RuntimeError):
        model.train_function(RuntimeError())
    assert failed.count == 0


def test_the_model_gets_its_own_function_back():
    model = Model()
    own = model.train_function
    guard = StepGuard(model, Calls())
    assert model.train_function != own
    guard.remove()
    assert model.train_function == own


def test_a_function_that_was_made_anew_is_left_alone():
    model = Model()
    guard = StepGuard(model, Calls())
    model.train_function = new = object()
    guard.remove()
    assert model.train_function is new
