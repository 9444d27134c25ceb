"""Every example of a docstring and of the README runs and prints what it says."""

import doctest
import re
from pathlib import Path

import keras
import numpy as np
import pytest

import kopt
from kopt import _registry
from tests.test_public_api import public

ROOT = Path(__file__).parents[1]
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
PAGES = ["README.md", "docs/pruning.md", "docs/quantization.md", "docs/tuning.md"]


@pytest.mark.parametrize(("area", "name"), public())
def test_docstring_example_shows_what_happens(area, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # for examples that write a file
    thing = _registry.entry(area, name)
    report = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=FLAGS)
    for test in doctest.DocTestFinder(recurse=False).find(
        thing, name, globs={"keras": keras, "kopt": kopt, "np": np}
    ):
        runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_examples_of_a_page_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / page).read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 2
    names: dict[str, object] = {}
    for number, block in enumerate(blocks, start=1):
        exec(compile(block, f"{page}, example {number}", "exec"), names)
