"""Write what weights that come with cytosae give for the known cell, after every block.

    python scripts/known_answers.py

Run it when new weights are bundled: those in the package and in weights/ are computed on the CPU, in float32, and
written to cytosae/backbones/weights/known_answers.json. What is there for other weights stays.
"""

from __future__ import annotations

import json
from pathlib import Path

from cytosae.backbones import REGISTRY, load_backbone
from cytosae.backbones.known_answer import summarise

FILE = Path(__file__).parents[1] / "src/cytosae/backbones/weights/known_answers.json"


def main() -> None:
    known = json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}
    for weights in (None, *REGISTRY["tiny"].former):
        first = load_backbone("tiny", weights, block=1)
        blocks = [load_backbone("tiny", weights, block=number) for number in range(1, first.depth + 1)]
        known[first.weights_hash] = {str(b.block): [float(f"{v:.6g}") for v in summarise(b).tolist()] for b in blocks}
    lines = [
        f'"{weights}": {{\n' + ",\n".join(f'"{block}": {json.dumps(v)}' for block, v in answers.items()) + "}"
        for weights, answers in known.items()
    ]
    FILE.write_text("{" + ",\n".join(lines) + "}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
