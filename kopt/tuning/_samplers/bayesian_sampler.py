"""Expected improvement over a Gaussian process, as one of Optuna's samplers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna import Study, distributions
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from kopt.tuning._samplers.encoded import Array, Encoding, differences
from kopt.tuning._samplers.gaussian_process import (
    GaussianProcess,
    log_expected_improvement,
    normal_scores,
)
from kopt.tuning._trials import records

_RANDOM, _LEADERS, _NEAR_EACH, _ROUNDS, _PER_ROUND = 1000, 5, 40, 4, 100
_WIDTHS = (0.1, 0.03, 0.01, 0.003)


class BayesianSampler(BaseSampler):
    """The point with the largest log expected improvement under a Gaussian process.

    Completed trials count by the rank of their value, failed ones whose configuration
    is to blame by the worst. Trials that run are imagined at their predicted mean;
    pruned ones likewise, but no better than the median, and never at what they were
    pruned with.

    Args:
        seed: Seed of the candidates, which differ from trial to trial.
        startup: Trials before the first model.
        before: The sampler for these, and for names that no trial has had yet.
    """

    def __init__(self, seed: int, startup: int, before: BaseSampler):
        self._seed = seed
        self._random = np.random.default_rng(seed)
        self._startup = startup
        self._before = before

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, distributions.BaseDistribution]:
        seen = _completed(study)
        if len(seen) < self._startup:
            return {}
        # The latest distribution of a name, where its range moves.
        space = {name: one for t in seen for name, one in t.distributions.items()}
        return {name: space[name] for name in sorted(space) if not space[name].single()}

    def sample_relative(
        self,
        study: Study,
        trial: FrozenTrial,
        search_space: dict[str, distributions.BaseDistribution],
    ) -> dict[str, Any]:
        if not search_space:
            return {}
        trials = study.get_trials(deepcopy=False)
        place = records.ordinal(trials, trial)
        self._random = np.random.default_rng([self._seed, place])
        trials = records.tried(trials, but=trial.number)
        encoding = Encoding(search_space, [t.params for t in _completed(study)])
        process, rows = self._process(study, trials, encoding)
        mean, _ = process.predict(differences(rows, rows, encoding.choices))
        best = float(mean.min())

        def gain(candidates: Array) -> Array:
            apart = differences(rows, candidates, encoding.choices)
            return log_expected_improvement(*process.predict(apart), best)

        every = encoding.rows([t.params for t in trials])
        leaders = rows[np.argsort(mean)[:_LEADERS]]
        return encoding.configuration(self._best(encoding, gain, leaders, every))

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: distributions.BaseDistribution,
    ) -> Any:
        return self._before.sample_independent(
            study, trial, param_name, param_distribution
        )

    def _process(
        self, study: Study, trials: Sequence[FrozenTrial], encoding: Encoding
    ) -> tuple[GaussianProcess, Array]:
        """The process on what was seen, and then on what is imagined besides."""
        sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
        seen = [t for t in trials if t.state == TrialState.COMPLETE]
        failed = [t for t in trials if records.is_infeasible(t)]
        values = [sign * float(t.value or 0.0) for t in seen]
        values += [np.inf] * len(failed)
        targets = normal_scores(np.array(values))
        rows = encoding.rows([t.params for t in (*seen, *failed)])
        apart = differences(rows, rows, encoding.choices)
        process = GaussianProcess.fitted(apart, targets)
        pruned = [t for t in trials if t.state == TrialState.PRUNED]
        running = [t for t in trials if t.state == TrialState.RUNNING and t.params]
        if not pruned and not running:
            return process, rows
        imagined = encoding.rows([t.params for t in (*pruned, *running)])
        means, _ = process.predict(differences(rows, imagined, encoding.choices))
        means[: len(pruned)] = np.maximum(means[: len(pruned)], 0.0)
        rows = np.concatenate([rows, imagined])
        apart = differences(rows, rows, encoding.choices)
        targets = np.concatenate([targets, means])
        return (
            GaussianProcess.given(process.lengths, process.noise, apart, targets),
            rows,
        )

    def _best(
        self, encoding: Encoding, gain: Any, leaders: Array, tried: Array
    ) -> Array:
        """The candidate with the largest gain: from anywhere, then ever nearer."""
        near = np.repeat(leaders, _NEAR_EACH, axis=0)
        candidates = np.concatenate(
            [self._anywhere(encoding, _RANDOM), self._moved(encoding, near, _WIDTHS[0])]
        )
        kept, gains = np.empty((0, len(encoding.space))), np.empty(0)
        for width in (*_WIDTHS, None):
            fresh = encoding.completed(candidates)
            fresh = fresh[~_stand_among(fresh, tried)]
            if len(fresh):
                kept = np.concatenate([kept, fresh])
                gains = np.concatenate([gains, gain(fresh)])
            if width is None or not len(kept):
                break
            order = np.argsort(-gains, kind="stable")[:3]
            kept, gains = kept[order], gains[order]
            near = np.repeat(kept, _PER_ROUND // len(kept), axis=0)
            candidates = self._moved(encoding, near, width)
        # Where nothing near is new, the search's own rule finds what is left.
        return kept[np.argmax(gains)] if len(kept) else candidates[0]

    def _anywhere(self, encoding: Encoding, count: int) -> Array:
        rows = self._random.random((count, len(encoding.space)))
        return np.where(encoding.choices > 0, np.floor(rows * encoding.choices), rows)

    def _moved(self, encoding: Encoding, rows: Array, width: float) -> Array:
        """Rows with some of their names moved; absent ones drawn anew."""
        anywhere = self._anywhere(encoding, len(rows))
        names = len(encoding.space)
        moves = self._random.random(rows.shape) < max(0.3, 1.0 / names)
        moves[np.arange(len(rows)), self._random.integers(names, size=len(rows))] = True
        steps = self._random.normal(scale=width, size=rows.shape)
        shifted = np.clip(rows + steps, 0.0, 1.0)
        # A small step may end on the value it came from.
        far = self._random.random(rows.shape) < 0.2
        moved = np.where((encoding.choices > 0) | far, anywhere, shifted)
        return np.where(np.isnan(rows), anywhere, np.where(moves, moved, rows))


def _completed(study: Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _stand_among(rows: Array, others: Array) -> Array:
    """Which rows are among others, to nine digits."""
    known = {row.tobytes() for row in np.round(others, 9) + 0.0}
    return np.array(
        [row.tobytes() in known for row in np.round(rows, 9) + 0.0], dtype=bool
    )
