"""Private names of Keras and TensorFlow stand in `kopt/_keras/` and nowhere else."""

import ast
import functools
import importlib
import inspect
import re
import textwrap
from pathlib import Path

import pytest

import kopt

PACKAGE = Path(kopt.__file__).parent
GROUND = PACKAGE / "_keras"
OUTSIDE = sorted(set(PACKAGE.rglob("*.py")) - set(GROUND.rglob("*.py")))
MODULES = ("keras.src", "tensorflow.python", "tf.python")
# Documented, in spite of their underscore.
OF_NAMED_TUPLES = {"_asdict", "_fields", "_make", "_replace"}
# What the ground may rest on.
FLOOR = {"_checks", "_living", "_variables"}
READS = {"getattr", "hasattr", "setattr", "delattr"}


def name_of(path):
    return str(path.relative_to(PACKAGE))


def is_private(name):
    return bool(re.match(r"_(?!_)", name)) and name not in OF_NAMED_TUPLES


def own_names(tree):
    """What a private attribute may hang on: oneself, a class, a module of kopt."""
    names = {"self", "cls", "kopt"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("kopt"):
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def defined_names(tree):
    """Private names that a file's own classes and functions define."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            # Past `__setattr__`: `self.__dict__["_name"] = ...`.
            if ast.unparse(node.value) == "self.__dict__":
                yield str(node.slice.value)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if owner(node.value) == "self":
                yield node.attr


def owner(node):
    """The name at the root of a chain of attributes, "self" for `super()`."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return "self" if node.func.id == "super" else None
    return None


def foreign_names(tree):
    """Private attributes that a file takes from objects that are not its own."""
    own, defined = own_names(tree), set(defined_names(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            if owner(node.value) not in own and node.attr not in defined:
                yield node.lineno, node.attr
        elif isinstance(node, ast.Call) and owner(node.func) in READS:
            subject, *texts = node.args
            for text in texts[:1]:
                found = isinstance(text, ast.Constant) and is_private(str(text.value))
                if found and owner(subject) not in own:
                    yield node.lineno, text.value


@pytest.mark.parametrize("path", OUTSIDE, ids=name_of)
def test_no_other_file_names_a_private_module(path):
    lines = path.read_text().splitlines()
    found = [line for line in lines if any(module in line for module in MODULES)]
    assert not found, f"move this into kopt/_keras: {found}"


@pytest.mark.parametrize("path", OUTSIDE, ids=name_of)
def test_no_other_file_reads_a_private_attribute_of_another_object(path):
    found = list(foreign_names(ast.parse(path.read_text())))
    assert not found, f"move this into kopt/_keras: {found}"


def classes_on_keras(path):
    """The classes of a file that derive from one of Keras's, with those bases."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
    for cls in vars(module).values():
        if inspect.isclass(cls) and cls.__module__ == module.__name__:
            bases = [base for base in cls.__mro__ if is_of_keras(base)]
            yield from [(cls, bases)] if bases else []


def is_of_keras(cls):
    return cls.__module__.startswith("keras.src.")


@functools.cache
def names_on_self(cls):
    """The private attributes and methods that a class's source takes from itself."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and is_private(node.attr)
        and owner(node.value) in ("self", "cls")
    }


MODULES_OUTSIDE = [path for path in OUTSIDE if path.stem != "__main__"]


@pytest.mark.parametrize("path", MODULES_OUTSIDE, ids=name_of)
def test_no_other_class_uses_a_private_name_of_its_base_in_keras(path):
    for cls, bases in classes_on_keras(path):
        theirs = {name for base in bases for name in vars(base) if is_private(name)}
        theirs = theirs.union(*(names_on_self(base) for base in bases))
        found = names_on_self(cls) & theirs
        assert not found, f"{cls.__name__}: reach these through kopt/_keras: {found}"


@pytest.mark.parametrize("path", sorted(GROUND.glob("*.py")), ids=name_of)
def test_the_ground_rests_on_no_area(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("kopt"):
            if node.module == "kopt":
                assert {alias.name for alias in node.names} <= FLOOR, node.names
            else:
                assert node.module.split(".")[1] in {"_keras", *FLOOR}, node.module


@pytest.mark.parametrize("path", sorted(GROUND.glob("[a-z]*.py")), ids=name_of)
def test_each_file_of_the_ground_has_its_canaries(path):
    assert (Path(__file__).parent / f"test_{path.stem}.py").exists()


def test_the_rule_sees_what_it_is_about():
    seen = foreign_names(
        ast.parse(
            "model._functional\ngetattr(layer, '_layers')\nself._x\n"
            "step._replace(a=1)\nself.layer._tracker\nsuper()._build()"
        )
    )
    assert sorted(name for _, name in seen) == ["_functional", "_layers", "_tracker"]
