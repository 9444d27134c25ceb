"""The number by which Optuna's storages know a trial."""

import optuna

from kopt._keras.optuna_trials import id_in_storage


def test_a_storage_writes_to_a_trial_by_its_number():
    storage = optuna.storages.InMemoryStorage()
    optuna.create_study(storage=storage, study_name="first").ask()
    study = optuna.create_study(storage=storage, study_name="second")
    trial = study.ask()
    (frozen,) = study.get_trials()
    assert trial.number == 0
    assert id_in_storage(trial) == id_in_storage(frozen)
    storage.set_trial_user_attr(id_in_storage(trial), "key", 5)
    assert study.get_trials()[0].user_attrs == {"key": 5}
