import keras
import numpy as np
import pytest

import kopt
from tests.interruption import Setting, X, Y, dense_model

# Calls of a callback: 13 an epoch without validation, of 6 batches.
MIDDLE = (4, 19, 33)


@pytest.mark.parametrize("at", range(2, 41, 5))
def test_a_run_that_is_cut_off_anywhere_ends_as_a_whole_one(at, tmp_path):
    whole = Setting().check(tmp_path, [at])
    assert whole["epochs"] == [0, 1, 2]
    assert whole["optimizer"][0] == 18


def test_it_may_be_cut_off_again_and_again(tmp_path):
    Setting(save_freq=1).check(tmp_path, [3, 5, 2, 9, 7, 12, 4])


@pytest.mark.parametrize("save_freq", ["epoch", 1, 7, 100])
def test_any_frequency_of_backups_is_exact(save_freq, tmp_path):
    Setting(save_freq=save_freq).check(tmp_path, [27])


OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "accumulating": lambda: keras.optimizers.Adam(gradient_accumulation_steps=4),
    "average": lambda: keras.optimizers.Adam(0.05, use_ema=True, ema_momentum=0.9),
    "overwriting": lambda: keras.optimizers.Adam(
        0.05, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=4
    ),
    "loss scaling": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(0.05), initial_scale=4.0, dynamic_growth_steps=5
    ),
    "schedule": lambda: keras.optimizers.SGD(
        keras.optimizers.schedules.CosineDecay(0.1, 18)
    ),
    "kopt": lambda: kopt.Adam(0.05),
    "kopt, accumulating": lambda: kopt.Adam(0.05, gradient_accumulation_steps=4),
    "kopt, average": lambda: kopt.SGD(0.05, use_ema=True, ema_momentum=0.9),
    "weight average": lambda: kopt.WeightAverage(kopt.Adam(0.05)),
    "schedule-free": lambda: kopt.ScheduleFreeAdamW(0.05),
    "lookahead": lambda: kopt.Lookahead(kopt.SGD(0.1), sync_period=4),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_kind_of_optimizer_goes_on_where_it_was(name, tmp_path):
    setting = Setting(lambda: dense_model(OPTIMIZERS[name]()))
    setting.check(tmp_path, MIDDLE)


@pytest.mark.parametrize(
    "arguments",
    [
        {"validation_data": (X, Y)},
        {"validation_split": 0.25, "validation_freq": 2},
        {"sample_weight": np.linspace(0, 2, len(X))},
        {"class_weight": {0: 1.0, 1: 3.0}},
        {"initial_epoch": 1, "epochs": 4},
        {"shuffle": False},
        {"shuffle": "batch"},
        {"steps_per_epoch": 3, "epochs": 6},
    ],
    ids=str,
)
def test_the_arguments_of_fit_count(arguments, tmp_path):
    Setting(**arguments).check(tmp_path, MIDDLE)
