"""The model card of an SAE, in the hub's format: what it is, what it was made from, how well it does and where not.

Every word of it comes from the artifact's record, and from the study that made it where that is at hand (`CardFacts`).
Data sets that are not published are counted and not named: a card leaves the machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cytosae.common.artifact import Artifact

WEIGHTS, CONFIG = "model.safetensors", "config.json"
USE = (
    "For research on what a vision transformer sees in single blood cells: to list, point at and compare its concepts.",
    "Not a medical device, and not for diagnosis: nothing here was validated for a decision about a patient.",
    "Only on tokens of the backbone, block, preprocessing and stain named above; cytosae refuses others.",
)


@dataclass(frozen=True)
class DataFacts:
    """A data set that an SAE was trained on, or described by.

    Attributes
    ----------
    name : str
        Of a published data set; "" for images of one's own, which are not named.
    role : str
        ``training`` or ``description``.
    cells, patients : int
        How many; 0 patients where none are known.
    licence, citation : str
        As published; "" where nobody says.
    """

    name: str
    role: str
    cells: int
    patients: int
    licence: str = ""
    citation: str = ""


@dataclass(frozen=True)
class CardFacts:
    """What only the study that made an SAE knows.

    Attributes
    ----------
    data : tuple of DataFacts
        Its data sets.
    backbone : mapping of str to object
        As it describes itself.
    measures : tuple of (str, str, str, str)
        What was measured, its value, the control, and the control's value.
    failures : tuple of str
        What is known to fail or to be untested, a sentence each.
    """

    data: tuple[DataFacts, ...] = ()
    backbone: Mapping[str, Any] | None = None
    measures: tuple[tuple[str, str, str, str], ...] = ()
    failures: tuple[str, ...] = ()


def model_card(artifact: Artifact, repo_id: str, *, licence: str | None = None, facts: CardFacts | None = None) -> str:
    """Text of the model card.

    Parameters
    ----------
    artifact : Artifact
        Of kind "sae".
    repo_id : str
        "owner/name" under which it is, or may be, shared.
    licence : str or None
        Identifier of the hub; left out by default.
    facts : CardFacts or None
        What the study knows; without it the card says that these are missing.
    """
    config = json.loads((artifact.path / CONFIG).read_text(encoding="utf-8"))
    facts = facts or CardFacts()
    return "\n".join([*_head(licence, facts), *_body(config, artifact, repo_id, facts)]) + "\n"


def _head(licence: str | None, facts: CardFacts) -> list[str]:
    """What the hub reads of a card, in YAML; JSON strings are YAML strings."""
    base = str((facts.backbone or {}).get("name", ""))
    return [
        "---",
        "library_name: cytosae",
        *([f"license: {json.dumps(licence)}"] if licence else []),
        *(["base_model: MarrLab/DinoBloom"] if base.startswith("dinobloom") else []),
        *("tags:", "- sparse-autoencoder", "- interpretability", "- hematology", "---", ""),
    ]


def _body(config: Mapping[str, Any], artifact: Artifact, repo_id: str, facts: CardFacts) -> Iterator[str]:
    yield f"# {repo_id.rpartition('/')[2]}\n"
    yield "A sparse autoencoder on the tokens of a vision transformer for single blood cells, written by"
    yield f"cytosae {artifact.package}.\n"
    yield from _table(("fact", "value"), list(_facts(config, artifact).items()))
    yield "## Data and backbone\n"
    yield from _data(facts)
    yield "## Recipe\n"
    recipe = (config.get("train") or {}).get("recipe") or artifact.config.get("recipe") or {}
    rows = [(name, value) for name, value in _flat(recipe) if not name.endswith("type")]
    yield from _table(("option", "value"), rows, "The record of this SAE does not say how it was trained.\n")
    yield "## Metrics beside controls\n"
    metrics = {k: v for k, v in (config.get("metrics") or {}).items() if isinstance(v, (int, float))}
    yield from _table(("metric on tokens of the training data sets", "value"), list(metrics.items()))
    missing = "No control was measured with this SAE: a number without one shows little.\n"
    yield from _table(("measure", "value", "control", "its value"), facts.measures, missing)
    yield "## Known failures\n"
    yield from (f"- {sentence}" for sentence in facts.failures or ("Not looked for: the study is not at hand.",))
    yield "\n## Intended use\n"
    yield from (f"- {sentence}" for sentence in USE)
    yield f"\n```python\nimport cytosae\n\nsae = cytosae.load_sae({json.dumps(repo_id)})"
    yield "activations = sae.encode(tokens)  # tokens [N, d_in] of the backbone and block named above\n```"


def _data(facts: CardFacts) -> Iterator[str]:
    rows = [
        (d.name or "images of one's own", d.role, f"{d.cells:,}", f"{d.patients:,}" if d.patients else "unknown",
         d.licence or "not known; ask the authors", d.citation or "none")
        for d in facts.data
    ]  # fmt: skip
    missing = "The study is not at hand, so its data sets and their licences are not known here.\n"
    yield from _table(("data set", "used for", "cells", "patients", "licence", "citation"), rows, missing)
    backbone = facts.backbone or {}
    named = [
        (name, backbone[name]) for name in ("name", "source", "licence", "weights_hash", "block") if name in backbone
    ]
    yield from _table(("backbone", "value"), named)


def _facts(config: Mapping[str, Any], artifact: Artifact) -> dict[str, Any]:
    facts = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and "type" in value:
            rest = ", ".join(f"{name} = {_cell(item)}" for name, item in value.items() if name != "type")
            facts[key] = f"{value['type']}({rest})" if len(rest) < 200 else value["type"]
        elif isinstance(value, (str, int, float)) and not key.startswith("format"):
            facts[key] = value
    for key in ("backbone", "block"):
        if artifact.details.get(key) is not None:
            facts[key] = artifact.details[key]
    facts.pop("metrics", None)
    facts |= {f"level: {name}": value for name, value in _flat(config.get("level") or {})}
    facts["fingerprint"] = f"`{artifact.details.get('fingerprint', artifact.fingerprint)}`"
    facts[f"SHA-256 of {WEIGHTS}"] = f"`{artifact.files[WEIGHTS]['sha256']}`"
    return facts


def _flat(plain: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in plain.items():
        if isinstance(value, Mapping):
            yield from [(f"{path}{name}", value["type"])] if "type" in value else []
            yield from _flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]], missing: str = "") -> Iterator[str]:
    if not rows:
        yield from [missing] if missing else []
        return
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    yield from (f"| {' | '.join(_cell(value) for value in row)} |" for row in rows)
    yield ""


def _cell(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
