"""Thousands of situations, as long as `KOPT_GENERATED_MINUTES` says."""

import os
import random

import pytest

from tests.generated.search import search


@pytest.mark.thorough
def test_no_situation_is_found_in_which_a_law_is_broken():
    minutes = float(os.environ.get("KOPT_GENERATED_MINUTES", "10"))
    seed = random.SystemRandom().randrange(2**32)
    print(f"\nsituations from seed {seed} on, {minutes:g} minutes")
    findings = search(minutes, seed=seed)
    print(findings)
    assert not findings.broken, "\n".join(findings.broken)
