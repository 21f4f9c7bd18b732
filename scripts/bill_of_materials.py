"""The software bill of materials of this environment's cytosae: CycloneDX 1.5, the same for the same environment.

    python scripts/bill_of_materials.py dist/cytosae.cdx.json [EXTRA ...]

Every distribution that cytosae (with the extras named) needs, as installed here, with version and licence.
"""

from __future__ import annotations

import json
import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement


def bill_of_materials(root: str = "cytosae", extras: tuple[str, ...] = ()) -> dict[str, Any]:
    """What `root` is made of, as a CycloneDX document."""
    found: dict[str, Distribution] = {}
    needs: dict[str, list[str]] = {}
    todo = [(root, extras)]
    seen: set[tuple[str, tuple[str, ...]]] = set()
    while todo:
        asked, with_extras = todo.pop()
        name = canonical(asked)
        if (name, with_extras) in seen:
            continue
        seen.add((name, with_extras))
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:  # needed elsewhere only, or left out by who installed this
            continue
        below = needed_by(found[name], with_extras)
        needs[name] = sorted({*needs.get(name, []), *(canonical(one.name) for one in below)})
        todo += [(one.name, tuple(sorted(one.extras))) for one in below]
    parts = {name: component(name, dist) for name, dist in sorted(found.items())}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {**parts.pop(canonical(root)), "type": "application"}},
        "components": list(parts.values()),
        "dependencies": [
            {"ref": reference(name, found[name]), "dependsOn": [reference(n, found[n]) for n in below if n in found]}
            for name, below in sorted(needs.items())
        ],
    }


def needed_by(dist: Distribution, extras: tuple[str, ...]) -> list[Requirement]:
    """What a distribution needs here."""
    asked = [Requirement(line) for line in dist.requires or []]
    return [
        one
        for one in asked
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in (*extras, ""))
    ]


def component(name: str, dist: Distribution) -> dict[str, Any]:
    """One distribution."""
    told = dist.metadata
    classified = [c.rpartition(" :: ")[2] for c in told.get_all("Classifier") or [] if c.startswith("License ::")]
    licence = told.get("License-Expression") or ", ".join(classified) or (told.get("License") or "").split("\n")[0]
    return {
        "type": "library",
        "bom-ref": reference(name, dist),
        "name": name,
        "version": dist.version,
        "purl": reference(name, dist),
        "licenses": [{"license": {"name": licence or "not told by its metadata"}}],
    }


def reference(name: str, dist: Distribution) -> str:
    return f"pkg:pypi/{name}@{dist.version}"


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    out = Path(sys.argv[1])
    out.parent.mkdir(parents=True, exist_ok=True)
    bill = bill_of_materials(extras=tuple(sys.argv[2:]))
    out.write_text(json.dumps(bill, indent=1) + "\n")
    print(f"{out}: {len(bill['components'])} components")
