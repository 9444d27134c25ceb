"""The table of optimizers, and how much an optimizer keeps."""

import re

import keras
import numpy as np
import pytest

import kopt
from kopt import _registry


@pytest.fixture(scope="module")
def rows():
    return {row.name: row for row in kopt.optimizers.table()}


def test_every_optimizer_has_a_row_and_a_paper(rows):
    kinds = [
        name
        for name in _registry.names("optimizers")
        if isinstance(entry := _registry.entry("optimizers", name), type)
        and issubclass(entry, keras.optimizers.Optimizer)
    ]
    assert sorted(rows) == sorted(kinds)
    for row in rows.values():
        assert re.search(r"[A-Z]\w+.*, (19|20)\d\d\b", row.paper), row.paper
        assert ";" not in row.paper


@pytest.mark.parametrize(
    ("name", "numbers"),
    [("SGD", 0), ("Lion", 1), ("Adam", 2), ("Muon", 1), ("AdEMAMix", 3)],
)
def test_state_is_counted_for_each_weight(rows, name, numbers):
    assert rows[name].state == numbers


def test_factored_states_are_as_small_as_their_papers_say(rows):
    # Adam keeps 2 numbers a weight. A 1000 x 500 kernel has 1500 rows and columns.
    assert rows["Adafactor"].state == pytest.approx(1500 / 500_000, abs=1e-3)
    assert rows["Adafactor"].state < 0.02 * rows["Adam"].state
    # CAME: one full momentum, and two factored statistics.
    assert rows["CAME"].state == pytest.approx(1 + 2 * 1500 / 500_000, abs=1e-3)
    # APOLLO: two moments of 256 x 1000.
    assert rows["APOLLO"].state == pytest.approx(2 * 256 * 1000 / 500_000, abs=1e-3)


def test_apollo_of_rank_one_keeps_next_to_nothing():
    kernel = keras.Variable(np.zeros((1000, 500), "float32"))
    mini = kopt.APOLLO(rank=1, scale=128.0, scale_type="tensor")
    mini.build([kernel])
    adam = kopt.Adam()
    adam.build([kernel])
    assert mini.state_memory() < 0.003 * adam.state_memory()


def test_state_memory_is_in_bytes_and_counts_everything_kept():
    variable = keras.Variable(np.zeros((100, 10), "float32"))
    plain, full = kopt.Adam(), kopt.Adam(use_ema=True, state_dtype="bfloat16")
    plain.build([variable])
    full.build([variable])
    counters = plain.state_memory() - 2 * 1000 * 4
    assert 0 < counters < 32
    # Two slots of 2 bytes, an average of 4, and where the model stands, of 4.
    assert full.state_memory() == 2 * 1000 * 2 + 1000 * 4 + 4 + counters


def test_memory_of_an_optimizer_without_state_is_refused():
    with pytest.raises(ValueError, match="is not built"):
        kopt.Adam().state_memory()


def test_markdown_and_text_have_a_line_for_each_row(rows):
    table = kopt.optimizers.table()
    assert len(str(table).splitlines()) == len(rows) + 1
    assert table.markdown().count("\n| `") == len(rows)
