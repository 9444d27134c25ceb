"""A quick sample of situations for each law, the same ones in every run."""

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.generated.all_laws import LAWS


@pytest.mark.parametrize("name", sorted(LAWS))
def test_a_law_holds_in_a_sample_of_situations(name):
    law = LAWS[name]

    @settings(
        max_examples=law.quick,
        derandomize=True,
        database=None,
        deadline=None,
        print_blob=True,
        # A training takes a second where Hypothesis expects milliseconds.
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        phases=[Phase.generate, Phase.shrink],
    )
    @given(law.situations)
    def check(situation):
        law.check(situation)

    check()
