"""Train the bundled `tiny` backbone without labels, on Acevedo's cells and BCCD's.

    python scripts/train_tiny.py --data DATA --deit deit_tiny_patch16_224.safetensors --out runs/tiny

Two views of every cell are drawn (crop, rotation, stain, focus: all anew), part of their patches is hidden, and the
loss is a weighted sum (`scripts/tiny_learner.py`; the weights are options of the recipe):

* pixels, colour: a small decoder predicts what some of the hidden patches look like in the ORIGINAL stain: the pixels,
  normalised by patch (He et al. 2022, MAE), and the patch's mean colour;
* teaching: tokens of one or several teachers that see the whole crop in the original stain (Baevski et al. 2022,
  data2vec; Zhou et al. 2022, iBOT), read from the visible tokens and predicted for the hidden ones. Teachers are the
  encoder's own mean over the steps ("self"), DeiT-tiny ("deit") and the weights that were bundled before ("bundled");
* agreement: the views' mean and CLS tokens, through a projector, are alike (VICReg, Bardes et al. 2022);
* isotropy: the covariance C of the patch tokens, scaled to mean variance 1, is near the identity: ||C - I||^2 / D;
* position: a token's place in the (randomly cropped) view explains little of its variance.

Agreement, isotropy, position and teaching act on the tokens of the second to last block, from which the sparse
autoencoder learns. `--synthetic N` adds N drawn cells (every type, every laboratory in turn). Images are packed once,
beside `--out`. Seeded; a training that was stopped goes on from its checkpoint with `--resume`, and takes the same
steps as one that was not. With `--minutes`, the schedule is bound by the clock as well as by `--steps`, whichever is
further on; how far it went is in the checkpoint.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
import torch._inductor.config
from safetensors.torch import save_file
from tiny_images import Cells, apply_stain, draw_stain, random_crops
from tiny_learner import SIDE, Learner, Recipe, architecture, learning_rate, total_loss
from torch import nn

LOG_EVERY = 20
DATA = {
    "acevedo": "Acevedo et al., Mendeley Data snkd93bnjr v1, CC BY 4.0",
    "bccd_cells": "Shenggan/BCCD_Dataset, MIT",
}
STARTS = {
    "deit": "DeiT-tiny, ImageNet-1k, Touvron et al. 2021, Apache-2.0",
    "bundled": "tiny-2026a, the weights that were bundled before, Apache-2.0",
    "synthetic": "drawn by cytosae.cells.synthetic",
}


class Training:
    """State of a run: model, optimiser, random numbers, clock; all of it is in a checkpoint."""

    def __init__(self, cells: Cells, recipe: Recipe, deit: Path | None = None, *, compiled: bool = False) -> None:
        torch.manual_seed(recipe.seed)
        torch._inductor.config.cpp.dynamic_threads = True  # OMP_NUM_THREADS may differ when a run goes on
        self.cells, self.recipe = cells, recipe
        self.rng = torch.Generator().manual_seed(recipe.seed)
        self.learner = Learner(recipe, deit)
        self.loss = torch.compile(self.learner) if compiled else self.learner
        self.stain = torch.compile(apply_stain) if compiled else apply_stain
        learned = [p for p in self.learner.parameters() if p.requires_grad]
        decayed = [p for p in learned if p.ndim > 1 and p.shape[0] > 1]
        others = [p for p in learned if not (p.ndim > 1 and p.shape[0] > 1)]
        groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.95))
        self.queue = torch.empty(0, dtype=torch.long)
        self.step_number, self.seconds = 0, 0.0

    def next_cells(self) -> torch.Tensor:
        """Numbers of the next batch of cells: every cell once an epoch."""
        while len(self.queue) < self.recipe.batch:
            self.queue = torch.cat([self.queue, torch.randperm(len(self.cells), generator=self.rng)])
        batch, self.queue = self.queue[: self.recipe.batch], self.queue[self.recipe.batch :]
        return batch

    def step(self, progress: float) -> dict[str, float]:
        """One step of optimisation at `progress` in [0, 1) of the schedule."""
        r = self.recipe
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(progress, r)
        chosen = self.cells[self.next_cells()].repeat(r.views, 1, 1, 1)
        with torch.no_grad():
            plain = random_crops(chosen, self.learner.preprocessing.size, r.widest, self.rng)
            noise = torch.randn(plain.shape, generator=self.rng)
            seen = self.stain(plain, draw_stain(len(chosen), r.stain, self.rng), noise)
        order = torch.rand(len(chosen), SIDE * SIDE, generator=self.rng).argsort(1)
        terms = self.loss(seen, plain, order, self.learner.targets(plain))
        total = total_loss(terms, r)
        self.optimiser.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_([p for p in self.learner.parameters() if p.requires_grad], 3.0)
        self.optimiser.step()
        self.learner.follow()
        self.step_number += 1
        return {name: value.item() for name, value in {"total": total, **terms}.items()}

    def save(self, path: Path) -> None:
        """Write everything that going on needs, beside and then renamed."""
        state = {
            "learner": self.learner.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "rng": self.rng.get_state(),
            "queue": self.queue,
            "step": self.step_number,
            "seconds": self.seconds,
            "recipe": asdict(self.recipe),
        }
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint of the same recipe."""
        state = torch.load(path, weights_only=True)
        if state["recipe"] != asdict(self.recipe):
            raise SystemExit(f"{path} was made by another recipe; give the same options or another --out")
        self.learner.load_state_dict(state["learner"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.rng.set_state(state["rng"])
        self.queue, self.step_number, self.seconds = state["queue"], state["step"], state["seconds"]


def export(training: Training, folder: Path) -> None:
    """Write tiny.safetensors (float16) and tiny.json, each beside and then renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe, prepare = training.recipe, training.learner.preprocessing
    state = {k: v.detach().half().contiguous() for k, v in training.learner.encoder.state_dict().items()}
    save_file(state, folder / "tiny.safetensors.part")
    digest = hashlib.sha256((folder / "tiny.safetensors.part").read_bytes()).hexdigest()
    used = {recipe.start, *recipe.teachers.split("+"), "synthetic" if recipe.synthetic else ""}
    metadata = {
        "name": "tiny",
        "architecture": {"class": "Eva", "arguments": architecture(recipe)},
        "preprocessing": {
            "size": prepare.size,
            "mean": prepare.mean,
            "std": prepare.std,
            "interpolation": prepare.interpolation,
        },
        "sha256": digest,
        "licence": "Apache-2.0",
        "data": {**DATA, **{k: v for k, v in STARTS.items() if k in used}, "cells": len(training.cells)},
        "recipe": {
            **asdict(recipe),
            "steps_done": training.step_number,
            "minutes": round(training.seconds / 60, 1),
        },
        "script": "scripts/train_tiny.py",
        "use": "for trying out and testing; not for clinical or scientific use",
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ"),
    }
    (folder / "tiny.json.part").write_text(json.dumps(metadata, indent=1) + "\n")
    (folder / "tiny.safetensors.part").replace(folder / "tiny.safetensors")
    (folder / "tiny.json.part").replace(folder / "tiny.json")


def main() -> None:
    """Read the options, train, and export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder that holds acevedo/, acevedo_more/, bccd_cells/"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint and exported weights")
    parser.add_argument("--deit", type=Path, help="weights of DeiT-tiny, where the recipe starts or learns from them")
    parser.add_argument("--minutes", type=float, default=math.inf, help="end the schedule by then")
    parser.add_argument("--save-every", type=float, default=4.0, help="minutes between checkpoints")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument("--eager", action="store_true", help="do not compile (where there is no C++ compiler)")
    for name, default in asdict(Recipe()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    options = parser.parse_args()
    recipe = Recipe(**{name: getattr(options, name) for name in asdict(Recipe())})
    options.out.mkdir(parents=True, exist_ok=True)
    cells = Cells.pack(options.data, options.out.parent, recipe.synthetic)
    training = Training(cells, recipe, options.deit, compiled=not options.eager)
    checkpoint = options.out / "checkpoint.pt"
    if options.resume and checkpoint.exists():
        training.load(checkpoint)
    run(training, options.minutes, options.save_every, options.out)


def run(training: Training, minutes: float, save_every: float, out: Path) -> None:
    """Step until the schedule ends; a line every 20 steps."""
    print("recipe", json.dumps(asdict(training.recipe)), "cells", len(training.cells), flush=True)
    before, last, saved = training.seconds, time.monotonic(), 0.0
    start, rows = last, []
    while (progress := max(training.step_number / training.recipe.steps, training.seconds / (60 * minutes))) < 1:
        rows.append(training.step(progress))
        now = time.monotonic()
        training.seconds = before + now - start
        if training.step_number % LOG_EVERY == 0:
            rate = len(rows) * training.recipe.batch * training.recipe.views / (now - last)
            clock = f"{progress:.0%}, {training.seconds / 60:.1f} min, {rate:.0f} views/s"
            terms = " ".join(f"{name} {np.mean([row[name] for row in rows]):.4f}" for name in rows[0])
            print(f"step {training.step_number} ({clock}) {terms}", flush=True)
            last, rows = now, []
        if now - start - saved > 60 * save_every:
            saved = now - start
            training.save(out / "checkpoint.pt")
            export(training, out)
    training.save(out / "checkpoint.pt")
    export(training, out)
    print(f"done: {training.step_number} steps, {training.seconds / 60:.1f} min", flush=True)


if __name__ == "__main__":
    main()
