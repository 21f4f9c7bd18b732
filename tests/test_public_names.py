"""The public face: every name that a package's stub promises is there, and means what it says."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import cytosae
from cytosae.common.errors import ArtifactError

ROOT = Path(cytosae.__file__).parent
PACKAGES = sorted(".".join(("cytosae", *stub.parent.relative_to(ROOT).parts)) for stub in ROOT.rglob("__init__.pyi"))


@pytest.fixture(scope="module", autouse=True)
def everything_imported() -> None:
    """A module that is imported becomes an attribute of its package, and would hide a public name of its own name."""
    for module in pkgutil.walk_packages([str(ROOT)], "cytosae."):
        if module.name != "cytosae.sae.screening.triton_kernels":  # needs Triton
            importlib.import_module(module.name)


def _promised(name: str) -> list[str]:
    """What the stub of a package promises."""
    assigned = [node for node in _stub(name).body if isinstance(node, ast.Assign)]
    return ast.literal_eval(assigned[0].value)


def _stub(name: str) -> ast.Module:
    return ast.parse((ROOT.joinpath(*name.split(".")[1:]) / "__init__.pyi").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", PACKAGES)
def test_every_public_name_is_there(name: str) -> None:
    package, stub, promised = importlib.import_module(name), _stub(name), _promised(name)
    modules = {a.name for n in stub.body if isinstance(n, ast.ImportFrom) and n.module is None for a in n.names}
    assert sorted(package.__all__) == sorted(promised)
    for public in promised:
        assert isinstance(getattr(package, public), ModuleType) == (public in modules), public
    assert set(promised) <= set(dir(package))


def test_an_import_of_the_package_loads_nothing_that_computes() -> None:
    program = (
        "import sys, cytosae, cytosae.sae as sae; sae.TopK; print({'torch', 'numpy', 'pandas'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError):
        _ = cytosae.nothing
    assert cytosae.__version__[0].isdigit()


OPENERS = sorted(f"{package}.{name}" for package in PACKAGES for name in _promised(package) if name.startswith("open_"))


@pytest.mark.parametrize(
    "name", sorted({*OPENERS} - {"cytosae.atlas.open_cells"})
)  # of cells that are away there are none
def test_what_opens_an_artifact_takes_a_path_in_words_and_says_that_there_is_none(name: str, tmp_path: Path) -> None:
    package, _, function = name.rpartition(".")
    with pytest.raises(ArtifactError, match=r"nowhere.* is no finished cytosae artifact"):
        getattr(importlib.import_module(package), function)(str(tmp_path / "nowhere"))
