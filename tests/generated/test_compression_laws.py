"""A quick sample of models for each law of compression, and many of them for long."""

import os

import pytest

from tests.generated.compression_laws.all_laws import LAWS
from tests.generated.compression_search import first_failure, search


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(LAWS))
def test_a_law_of_compression_holds_in_a_sample_of_models(name):
    failure = first_failure(LAWS[name], LAWS[name].quick, seed=0)
    assert failure is None, failure


@pytest.mark.slow
@pytest.mark.thorough
def test_no_model_is_found_on_which_a_law_of_compression_is_broken():
    minutes = float(os.environ.get("KOPT_GENERATED_MINUTES", "10"))
    broken = search(minutes)
    assert not broken, "\n".join(broken.values())
