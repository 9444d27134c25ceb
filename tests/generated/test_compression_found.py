"""What broke a law of compression once holds now."""

import pytest

from tests.generated.compression_found import FOUND
from tests.generated.compression_laws.all_laws import LAWS


@pytest.mark.slow
@pytest.mark.parametrize(("law", "situation"), FOUND)
def test_a_law_that_was_broken_holds(law, situation):
    LAWS[law].check(*situation)
