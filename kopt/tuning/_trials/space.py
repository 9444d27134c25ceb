"""The names that a study has met, as far as its trials have shown them."""

from __future__ import annotations

from typing import Any

from keras_tuner.engine import hyperparameters as kinds
from optuna import Study, distributions
from optuna.trial import Trial

from kopt.tuning._trials import records
from kopt.tuning._trials.errors import SpaceError
from kopt.tuning._trials.finite import cardinality, contains, enumerated
from kopt.tuning._trials.questions import Question, question

# Values of a parent are listed up to here, so that its conditions can be counted.
_LISTED = 100


class Space:
    """The search space of a study, in the order in which its names were met.

    It is kept in the study. A name that stands under several conditions is one
    parameter for each of them: `"units"`, `"units (2)"`.

    Args:
        study: The study. Its sampler is told the values that a trial was given.
    """

    def __init__(self, study: Study):
        self._study = study
        self._entries: dict[str, dict[str, Any]] = {
            entry["key"]: entry for entry in study.user_attrs.get(records.SPACE, [])
        }
        # Until one trial has run, what differs from the study was changed by the user.
        self.resumed = bool(self._entries)

    def refresh(self) -> None:
        """Take over names that other workers have met, and keep what they lack."""
        kept = {e["key"]: e for e in self._study.user_attrs.get(records.SPACE, [])}
        lacking = self._entries.keys() - kept.keys()
        for key, entry in kept.items():
            if key not in self._entries or entry["moves"]:
                self._entries[key] = entry
        if lacking:
            self._study.set_user_attr(records.SPACE, list(self._entries.values()))

    def ask(self, trial: Trial, hyperparameter: Any) -> Any:
        """The value of a hyperparameter for a trial."""
        if isinstance(hyperparameter, kinds.Fixed):
            self._enter(hyperparameter, None, [hyperparameter.value])
            return hyperparameter.value
        asked = question(hyperparameter)
        size = cardinality(asked.distribution)
        values = None
        if size is not None and size <= _LISTED:
            values = [asked.value(one) for one in enumerated(asked.distribution)]
        key = self._enter(hyperparameter, asked.distribution, values)
        given = trial.user_attrs.get(records.GIVEN, {})
        if hyperparameter.name in given:
            self._fix(asked, hyperparameter.name, key, given[hyperparameter.name])
        return asked.ask(trial, key)

    def _fix(self, asked: Question, name: str, key: str, value: Any) -> None:
        sampler: Any = self._study.sampler
        try:
            parameter = asked.parameter(value)
            inside = contains(asked.distribution, parameter)
        except (ValueError, TypeError):
            inside = False
        if not inside:
            raise SpaceError(
                f"`initial` has {name!r}={value!r}, which is not in its range: "
                f"{asked.distribution}. Give one of its values, or leave it out."
            )
        sampler.fixed[key] = parameter

    def names(self) -> list[str]:
        """The parameters of Optuna's trials, in the order in which they were met."""
        return [key for key, entry in self._entries.items() if entry["domain"]]

    def is_known(self) -> bool:
        """Whether a trial has asked for all of its names, here or elsewhere."""
        trials = self._study.get_trials(deepcopy=False)
        return any(
            one.state in records.COUNTED or one.user_attrs.get(records.DRAWN) is True
            for one in trials
        )

    def size(self) -> int | None:
        """How many configurations there are; `None` if they are no finite number.

        Exact for conditional scopes. A name that is met in an `if` only counts as one
        that is always there, once it was met.
        """
        if not self._entries:
            return None
        entries = list(self._entries.values())
        parents = {name for entry in entries for name, _ in entry["conditions"]}
        return _configurations(entries, parents, {})

    def endless_names(self) -> list[str]:
        """Names without a finite number of values."""
        return [e["name"] for e in self._entries.values() if e["size"] is None]

    def _enter(
        self,
        hyperparameter: Any,
        distribution: distributions.BaseDistribution | None,
        values: list[Any] | None,
    ) -> str:
        name = hyperparameter.name
        conditions = [[one.name, list(one.values)] for one in hyperparameter.conditions]
        key, number = name, 1
        while key in self._entries and self._entries[key]["conditions"] != conditions:
            number += 1
            key = f"{name} ({number})"
        domain = (
            None
            if distribution is None
            else distributions.distribution_to_json(distribution)
        )
        size = 1 if distribution is None else cardinality(distribution)
        fresh = {
            "key": key,
            "name": name,
            "conditions": conditions,
            "domain": domain,
            "size": size,
            "values": values,
            "moves": False,
        }
        known = self._entries.get(key)
        if known is None or (domain is None and known["domain"] is None):
            self._keep(fresh, known)
        elif known["domain"] != domain:
            self._check_change(known, domain)
            # Its range depends on other values.
            self._keep({**fresh, "size": None, "values": None, "moves": True}, known)
        return key

    def _keep(self, entry: dict[str, Any], known: dict[str, Any] | None) -> None:
        if entry != known:
            self._entries[entry["key"]] = entry
            self._study.set_user_attr(records.SPACE, list(self._entries.values()))

    def _check_change(self, known: dict[str, Any], domain: str | None) -> None:
        moves = known["moves"]
        compatible = known["domain"] is not None and domain is not None
        if compatible:
            before = distributions.json_to_distribution(known["domain"])
            now = distributions.json_to_distribution(domain or "")
            try:
                distributions.check_distribution_compatibility(before, now)
            except ValueError:
                compatible = False
        if not compatible or (self.resumed and not moves):
            raise SpaceError(
                f"The hyperparameter {known['name']!r} is {_told(domain)} here, and "
                f"{_told(known['domain'])} in the study {self._study.study_name!r}. "
                "If the space has changed, start a study with another `name=`, or "
                "another `directory=`. If two branches of the model use one name, "
                "give each its own, or put them in `hp.conditional_scope(...)`."
            )


def _configurations(
    entries: list[dict[str, Any]], parents: set[str], chosen: dict[str, Any]
) -> int | None:
    total = 1
    for place, entry in enumerate(entries):
        if not all(chosen.get(name) in values for name, values in entry["conditions"]):
            continue
        if entry["size"] is None:
            return None
        if entry["name"] not in parents or entry["values"] is None:
            total *= entry["size"]
            continue
        rest = [
            _configurations(entries[place + 1 :], parents, {**chosen, entry["name"]: v})
            for v in entry["values"]
        ]
        return None if None in rest else total * sum(rest)  # type: ignore[arg-type]
    return total


def _told(domain: str | None) -> str:
    if domain is None:
        return "fixed"
    return str(distributions.json_to_distribution(domain))
