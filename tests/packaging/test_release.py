"""What a release holds beside the wheel, and the workflows that make it."""

from __future__ import annotations

import importlib.util
from importlib.metadata import version
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("bill_of_materials", ROOT / "scripts" / "bill_of_materials.py")
script = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(script)
bill_of_materials = script.bill_of_materials


def test_the_bill_names_every_dependency_with_version_and_licence():
    bill = bill_of_materials()
    parts = {part["name"]: part for part in bill["components"]}
    assert bill["metadata"]["component"]["name"] == "cytosae"
    for name in ("torch", "timm", "safetensors", "markupsafe"):  # the last by way of another
        assert parts[name]["version"] == version(name)
        assert parts[name]["purl"] == f"pkg:pypi/{name}@{version(name)}"
        assert parts[name]["licenses"][0]["license"]["name"]
    assert "fastapi" not in parts
    assert "fastapi" in {part["name"] for part in bill_of_materials(extras=("explorer",))["components"]}
    refs = {part["bom-ref"] for part in bill["components"]} | {bill["metadata"]["component"]["bom-ref"]}
    assert all({edge["ref"], *edge["dependsOn"]} <= refs for edge in bill["dependencies"])
    assert bill_of_materials() == bill


def test_workflows_run_what_exists_on_three_systems():
    tests = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())
    assert {s.split("-")[0] for s in tests["jobs"]["elsewhere"]["strategy"]["matrix"]["os"]} == {
        "ubuntu",
        "macos",
        "windows",
    }
    targets = {line.split(":")[0] for line in (ROOT / "Makefile").read_text().splitlines() if line[:1].isalpha()}
    for file in (ROOT / ".github/workflows").glob("*.yml"):
        for job in yaml.safe_load(file.read_text())["jobs"].values():
            runs = [line for step in job["steps"] for line in str(step.get("run", "")).splitlines()]
            assert {line.split()[1] for line in runs if line.startswith("make ")} <= targets
