"""A quick sample of situations for each law, the same ones in every run."""

import pytest

from tests.generated.all_laws import LAWS
from tests.generated.search import sample

SEED = 0


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(LAWS))
def test_a_law_holds_in_a_sample_of_situations(name):
    law = LAWS[name]
    try:
        # To make a failure smaller takes minutes.
        sample(law.situations, law.check, seed=SEED, examples=law.quick, shrink=False)
    except Exception as error:
        error.add_note(
            "A smaller situation is found by: python -m tests.generated.search "
            f"--laws {name} --seed {SEED} --examples {law.quick} --most 1"
        )
        raise
