"""The promises of the package as a whole: names, imports, documentation."""

import ast
import dataclasses
import enum
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import kopt
from kopt import _registry
from kopt._command_line import markdown_table

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "kopt"
PACKAGES = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
AREAS = [name for name in PACKAGES if not name.startswith("_")]
HEAVY = (
    "ai_edge_litert",
    "keras_tuner",
    "matplotlib",
    "optuna",
    "rich",
    "sklearn",
    "tensorflow_model_optimization",
    "tf_keras",
)


def area(name):
    return importlib.import_module(f"kopt.{name}")


def public():
    """Every public class and function, by area and name."""
    for name in AREAS:
        area(name)
    return [(name, entry) for name in AREAS for entry in _registry.names(name)]


def issubclass_of(thing, base):
    return inspect.isclass(thing) and issubclass(thing, base)


def imports(path):
    """The modules of kopt that a file imports, and the names it takes from each."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            found += [(node.module, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            raise AssertionError(f"{path}:{node.lineno} has a relative import")
        elif isinstance(node, ast.Import):
            found += [(alias.name, None) for alias in node.names]
    return [(module, name) for module, name in found if module.split(".")[0] == "kopt"]


def siblings(path):
    """Pairs (area, module) of the other areas that a file of an area imports."""
    own = path.parent.name
    for module, name in imports(path):
        parts = module.split(".") + ([name] if module == "kopt" and name else [])
        if len(parts) > 1 and parts[1] in AREAS and parts[1] != own:
            yield parts[1], module, name


FILES = sorted(path for name in AREAS for path in (PACKAGE / name).glob("*.py"))


def test_areas_are_found():
    assert {"optimizers", "layers", "pruning", "quantization", "tuning"} <= set(AREAS)


@pytest.mark.parametrize("name", AREAS)
def test_an_areas_names_are_those_of_its_registry(name):
    module = area(name)
    assert list(module.__all__) == _registry.names(name)
    assert module.__all__, f"kopt.{name} is empty"
    for entry in module.__all__:
        assert getattr(module, entry) is _registry.entry(name, entry)


def test_optimizers_stand_at_the_top_of_the_package():
    for name in _registry.names("optimizers"):
        assert getattr(kopt, name) is getattr(kopt.optimizers, name)


def test_everything_promised_by_the_package_is_there():
    assert sorted(dir(kopt)) == sorted(kopt.__all__)
    assert set(AREAS) <= set(kopt.__all__)
    for name in kopt.__all__:
        assert getattr(kopt, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'kopt' has no attribute 'nope'"):
        _ = kopt.nope


def test_no_module_has_the_name_of_a_public_verb_beside_it():
    for path in FILES:
        assert path.stem not in _registry.names(path.parent.name), path


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_an_area_takes_only_public_names_from_its_siblings(path):
    for sibling, module, name in siblings(path):
        assert module in ("kopt", f"kopt.{sibling}"), (
            f"{path.name} imports {module}: take public names from kopt.{sibling}"
        )
        if module == f"kopt.{sibling}":
            assert not name.startswith("_"), f"{name} is not public in {module}"
            assert not inspect.ismodule(getattr(area(sibling), name)), (
                f"{path.name} imports the module {name} of {module}"
            )


def test_areas_do_not_import_each_other_in_a_circle():
    edges = {
        name: {
            sibling
            for path in (PACKAGE / name).glob("*.py")
            for sibling, _, _ in siblings(path)
        }
        for name in AREAS
    }
    while edges:
        free = [name for name, needs in edges.items() if not needs & set(edges)]
        assert free, f"a circle among {edges}"
        edges = {name: needs for name, needs in edges.items() if name not in free}


def test_importing_kopt_loads_nothing_heavy():
    # Keras itself loads matplotlib where it is installed.
    code = (
        "import sys, keras; before = set(sys.modules); import kopt;"
        f"print(sorted(set({HEAVY}) & (set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_packages_are_imported_where_they_are_used(path):
    allowed = {"keras_tuner"} if path.parent.name == "tuning" else set()
    for node in ast.parse(path.read_text()).body:
        names = [alias.name for alias in getattr(node, "names", [])]
        if isinstance(node, ast.ImportFrom):
            names = [node.module]
        if isinstance(node, ast.Import | ast.ImportFrom):
            heavy = {name.split(".")[0] for name in names} & (set(HEAVY) - allowed)
            assert not heavy, f"{path}:{node.lineno} imports {heavy} at its top"


def test_importing_kopt_leaves_the_environment_alone():
    code = "import os, keras; a = dict(os.environ); import kopt; print(a == os.environ)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "True"


def test_another_backend_is_refused_with_the_way_out():
    code = "import sys, types; import keras; keras.backend.backend = lambda: 'jax'"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport kopt"], capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "KERAS_BACKEND=tensorflow" in done.stderr


@pytest.mark.parametrize(("name", "entry"), public())
def test_every_public_name_is_documented(name, entry):
    thing = _registry.entry(name, entry)
    text = thing.__dict__.get("__doc__") or getattr(thing, "__doc__", None) or ""
    text = inspect.cleandoc(text)
    first = text.split("\n", 1)[0]
    assert first.endswith("."), f"the first line is no sentence: {first!r}"
    if issubclass_of(thing, enum.Enum):
        return  # its members are named; what Python makes enums from is not ours
    told = re.sub(r"`", "", text)
    for argument in inspect.signature(thing).parameters.values():
        if argument.kind in (argument.VAR_KEYWORD, argument.VAR_POSITIONAL):
            continue
        assert re.search(rf"\b{argument.name}\b", told), f"{argument.name} is not told"


@pytest.mark.parametrize(("name", "entry"), public())
def test_every_public_name_shows_an_example(name, entry):
    thing = _registry.entry(name, entry)
    if dataclasses.is_dataclass(thing) or issubclass_of(thing, Exception):
        return  # results and errors: shown where they come from
    assert ">>> " in (thing.__doc__ or "")


@pytest.mark.parametrize(("name", "entry"), public())
def test_every_public_name_says_its_types(name, entry):
    thing = _registry.entry(name, entry)
    made = thing.__init__ if inspect.isclass(thing) else thing
    if not getattr(made, "__module__", "").startswith("kopt"):
        pytest.skip("takes no arguments of its own")
    for argument in list(inspect.signature(made).parameters.values()):
        if argument.name != "self":
            assert argument.annotation is not argument.empty, argument.name


def test_the_readmes_table_is_the_registrys():
    readme = (ROOT / "README.md").read_text()
    found = re.search(r"<!-- areas -->\n(.*?)\n<!-- /areas -->", readme, re.DOTALL)
    assert found, "README.md has no table between <!-- areas --> and <!-- /areas -->"
    assert found[1] == markdown_table(AREAS), (
        "the table is out of date: put the output of `kopt list --markdown` there"
    )


def test_the_readmes_optimizers_are_the_librarys():
    readme = (ROOT / "README.md").read_text()
    found = re.search(
        r"<!-- optimizers -->\n(.*?)\n<!-- /optimizers -->", readme, re.DOTALL
    )
    assert found, "README.md has no table between the optimizers' marks"
    assert found[1] == kopt.optimizers.table().markdown(), (
        "the table is out of date: put kopt.optimizers.table().markdown() there"
    )
