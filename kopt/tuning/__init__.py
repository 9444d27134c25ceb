from kopt import _registry
from kopt.tuning.asha import ASHA as ASHA
from kopt.tuning.bayesian import Bayesian as Bayesian
from kopt.tuning.budget import Budget as Budget
from kopt.tuning.from_predictions import FromPredictions as FromPredictions
from kopt.tuning.grid import Grid as Grid
from kopt.tuning.hyper_cnn import HyperCNN as HyperCNN
from kopt.tuning.hyper_mlp import HyperMLP as HyperMLP
from kopt.tuning.hyperband import Hyperband as Hyperband
from kopt.tuning.median import Median as Median
from kopt.tuning.metric_direction import objective as objective
from kopt.tuning.optuna import Optuna as Optuna
from kopt.tuning.oracle import Oracle as Oracle
from kopt.tuning.random import Random as Random
from kopt.tuning.results import Results as Results
from kopt.tuning.searching import tune as tune
from kopt.tuning.sobol import Sobol as Sobol
from kopt.tuning.tensor_board import TensorBoard as TensorBoard
from kopt.tuning.tpe import TPE as TPE
from kopt.tuning.tuner import Tuner as Tuner

__all__ = _registry.names("tuning")
