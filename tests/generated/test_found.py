"""Each situation that the generator found is tried again in every run."""

import pytest

from tests.generated.found import FOUND
from tests.generated.search import replay


@pytest.mark.parametrize("line", FOUND)
def test_replay_of_a_situation_that_was_found(line):
    replay(line)
