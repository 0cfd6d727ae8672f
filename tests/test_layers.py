"""Imports run downward only: the layers of the design, checked in the source of every module."""

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "jaxdiff"

LAYERS = {
    0: "typing checks arrays divergence extras fields files tensors compiling",
    1: "schedules processes",
    2: "predictions oracles",
    3: "losses",
    4: "denoisers guidance",
    5: "dynamics flow solvers sampling likelihood latents",
    6: "nets",
    7: "data metrics plots",
    8: "train",
    9: "recipes",
}
LAYER_OF = {unit: layer for layer, units in LAYERS.items() for unit in units.split()}
# The only file that imports networks, solvers and losses together: it maps names to them.
NAMES = "jaxdiff.recipes.names"


def imported_units(module, source, *, is_package=False):
    """First-level units of jaxdiff that a module imports anywhere; "" is the package itself."""
    home = module.split(".") if is_package else module.split(".")[:-1]
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = home[: len(home) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            whole = origin == "jaxdiff"
            names |= {f"{origin}.{alias.name}" for alias in node.names} if whole else {origin}
    ours = [name.split(".") for name in names if name.split(".")[0] == "jaxdiff"]
    return {parts[1] if len(parts) > 1 else "" for parts in ours}


def violations(module, source, *, is_package=False):
    """The imports of a module that violate the rules, as one message each."""
    unit = module.split(".")[1]
    if unit not in LAYER_OF:
        return [f"{module} has no layer in the design"]
    others = imported_units(module, source, is_package=is_package) - {unit}
    found = []
    for other in sorted(others):
        if other not in LAYER_OF:
            found.append(f"{module} imports jaxdiff.{other}, which has no layer")
        elif LAYER_OF[other] > LAYER_OF[unit]:
            found.append(f"{module} (L{LAYER_OF[unit]}) imports {other} (L{LAYER_OF[other]})")
        elif unit == "nets" and LAYER_OF[other] > 0:
            found.append(f"{module} imports {other}: networks import typing and arrays only")
        elif unit == "train" and LAYER_OF[other] > 0 and other not in ("data", "plots"):
            found.append(f"{module} imports {other}: the loop knows no model")
    if module != NAMES and {"nets", "solvers", "losses"} <= others | {unit}:
        found.append(f"{module} sees networks, solvers and losses: only {NAMES} does")
    return found


def modules():
    """(name, source, is_package) of every module except the package's own ``__init__``."""
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        if name != "jaxdiff":
            yield name, path.read_text(encoding="utf-8"), is_package


def test_every_module_imports_downward_only():
    broken = [
        violation
        for name, source, is_package in modules()
        for violation in violations(name, source, is_package=is_package)
    ]
    assert not broken, "\n".join(broken)


def test_no_two_units_import_each_other_even_within_a_layer():
    graph = {}
    for name, source, is_package in modules():
        unit = name.split(".")[1]
        graph.setdefault(unit, set()).update(
            imported_units(name, source, is_package=is_package) - {unit}
        )
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def test_the_checker_reads_the_existing_modules():
    seen = {name: imported_units(name, source, is_package=p) for name, source, p in modules()}
    assert {"jaxdiff.arrays", "jaxdiff.processes.algebra", "jaxdiff.losses", NAMES} <= seen.keys()
    assert {"arrays", "typing"} <= seen["jaxdiff.processes.algebra"]
    assert {"nets", "solvers", "losses", "processes", "schedules"} <= seen[NAMES]


@pytest.mark.parametrize(
    ("module", "source", "message"),
    [
        ("jaxdiff.processes.bad", "from jaxdiff.losses import weights", "(L1) imports losses (L3)"),
        ("jaxdiff.losses.bad", "import jaxdiff.nets.unet as unet", "(L3) imports nets (L6)"),
        ("jaxdiff.losses.bad", "from jaxdiff import nets", "(L3) imports nets (L6)"),
        ("jaxdiff.losses.bad", "from .. import nets", "(L3) imports nets (L6)"),
        ("jaxdiff.losses.bad", "from ..nets.unet import UNet", "(L3) imports nets (L6)"),
        ("jaxdiff.losses.bad", "def f():\n    import jaxdiff.train", "imports train (L8)"),
        ("jaxdiff.train.bad", "from jaxdiff.recipes import build", "imports recipes (L9)"),
        ("jaxdiff.train.bad", "from jaxdiff.processes import VP", "the loop knows no model"),
        ("jaxdiff.train.bad", "from jaxdiff import nets", "the loop knows no model"),
        ("jaxdiff.nets.bad", "from jaxdiff.processes import VP", "typing and arrays only"),
        ("jaxdiff.oracles", "import jaxdiff", "no layer"),
        ("jaxdiff.oracles", "from jaxdiff import sample", "no layer"),
        ("jaxdiff.novelty", "", "no layer"),
        ("jaxdiff.recipes.bad", "from jaxdiff import losses, nets, solvers", "only jaxdiff."),
    ],
)
def test_the_checker_catches_a_violation(module, source, message):
    assert any(message in violation for violation in violations(module, source))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (NAMES, "from jaxdiff import losses, nets, solvers"),
        ("jaxdiff.losses.fine", "from jaxdiff.losses import weights\nfrom . import times"),
        ("jaxdiff.nets.fine", "import jax\nfrom jaxdiff.typing import Array"),
        ("jaxdiff.losses.fine", '"""Example:\n\n    >>> from jaxdiff import nets\n"""'),
    ],
)
def test_the_checker_accepts_allowed_imports(module, source):
    assert violations(module, source) == []


def test_the_conftest_lies_above_all_tests(pytestconfig):
    """Where pytest also finds it for the docstring examples of a single module."""
    settings = pytestconfig.pluginmanager.get_plugin(str(pytestconfig.rootpath / "conftest.py"))
    assert settings is not None
    assert all((pytestconfig.rootpath / name).is_dir() for name in pytestconfig.getini("testpaths"))
