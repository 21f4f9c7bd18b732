"""Train the bundled `tiny` backbone without labels, on `acevedo` and `bccd_cells` only.

    python scripts/train_tiny.py --data ../shared/data --out runs/tiny

A denoising masked autoencoder. Two views of every cell (crop, rotation, stain, focus: all drawn anew) enter with 70%
of their patches hidden, and a small decoder predicts what about half of those look like in the ORIGINAL stain: the
pixels, normalised by patch (He et al. 2022, MAE), and the patch's mean colour. Two small terms shape the tokens of the
hooked block (the 5th of 6), from which the sparse autoencoder will learn:

* agreement: the views' mean and CLS tokens, through a projector, are alike (VICReg, Bardes et al. 2022);
* isotropy: the covariance C of the patch tokens, scaled to mean variance 1, is near the identity: ||C - I||^2 / D.
  Without it, one direction takes up half of the tokens' variance.

`--synthetic N` adds N drawn cells (every type, every laboratory in turn) to the real ones.
Positions are rotary, so that they are not a part of the residual stream. Seeded; `--resume` goes on from the newest
checkpoint. With `--minutes`, the schedule is bound by the clock as well as by `--steps`, whichever is further on.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
import torch._inductor.config
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from safetensors.torch import save_file
from timm.models.eva import Eva
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from cytosae.cells.synthetic import DOMAINS, TYPES, draw_cell
from cytosae.cells.synthetic.domains import vary_domain

ARCHITECTURE = {
    "class": "Eva",
    "arguments": {
        "img_size": 128,
        "patch_size": 8,
        "num_classes": 0,
        "embed_dim": 192,
        "depth": 6,
        "num_heads": 3,
        "mlp_ratio": 4.0,
        "use_abs_pos_emb": False,
        "use_rot_pos_emb": True,
    },
}
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
STORED = 176  # pixels at which the images are held in memory: enough for crops at 128 px
SYNTHETIC_SEED = 7
LOG_EVERY = 20
PATCH, SIZE, WIDTH, HOOK = 8, 128, 192, 4


@dataclass(frozen=True)
class Recipe:
    """What can be varied between trials; the defaults are those of the shipped weights.

    Those were made with `--steps 6000 --minutes 52`: the clock ended the schedule at step 2,090.
    """

    steps: int = 2090
    batch: int = 32
    views: int = 2
    masked: float = 0.7
    predicted: float = 0.375  # share of the patches that the decoder predicts; the other hidden ones cost nothing
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.04
    widest: float = 1.0  # largest area of a crop in areas of the image; beyond 1, its surroundings are mirrored
    denoise: int = 1  # 1: the target is the original stain; 0: the stain that the encoder sees
    stain: float = 1.0
    colour_weight: float = 0.2
    agreement: float = 0.02
    isotropy: float = 0.01
    synthetic: int = 0  # drawn cells beside the real ones
    seed: int = 0


def read_images(data: Path, synthetic: int = 0) -> Tensor:
    """All training images, plainly resized, then drawn ones: uint8 [N, 3, 176, 176]."""
    paths = sorted(data.glob("acevedo/PBC_dataset_normal_DIB/*/*.jpg")) + sorted(data.glob("bccd_cells/images/*/*.png"))
    if not paths:
        raise SystemExit(
            f"no training images under {data}: expected acevedo/PBC_dataset_normal_DIB and bccd_cells/images"
        )
    images = torch.empty(len(paths) + synthetic, 3, STORED, STORED, dtype=torch.uint8)
    for i, image in enumerate(itertools.chain(map(Image.open, paths), drawn_images(synthetic))):
        with image:
            small = image.convert("RGB").resize((STORED, STORED), Image.Resampling.BILINEAR)
        images[i] = (
            torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8).view(STORED, STORED, 3).permute(2, 0, 1)
        )
    return images


def drawn_images(n: int) -> Iterator[Image.Image]:
    """``n`` cells of the generator: types and laboratories in turn, each cell from a seed of its own."""
    pairs = itertools.cycle(itertools.product(TYPES, DOMAINS.values()))
    for i, (name, domain) in enumerate(itertools.islice(pairs, n)):
        rng = np.random.default_rng([SYNTHETIC_SEED, i])
        yield Image.fromarray(draw_cell(name, vary_domain(domain, rng, 1.0), rng).image)


def uniform(shape: tuple[int, ...], low: float, high: float, rng: torch.Generator) -> Tensor:
    """Uniform random numbers in [low, high)."""
    return torch.rand(shape, generator=rng) * (high - low) + low


def random_crops(images: Tensor, widest: float, rng: torch.Generator) -> Tensor:
    """Random resized, rotated and flipped crops: uint8 [B, 3, 176, 176] -> float32 [B, 3, 128, 128] in [0, 1]."""
    n = len(images)
    side = uniform((n,), 0.3, widest + 0.1, rng).clamp(max=widest).sqrt()  # some are the whole image, as in use
    ratio = torch.exp(uniform((n,), -0.15, 0.15, rng))
    sx, sy = side * ratio, side / ratio
    flip = torch.where(torch.rand(n, generator=rng) < 0.5, -1.0, 1.0)
    quarter = torch.randint(4, (n,), generator=rng) * (math.pi / 2)
    free = torch.where(
        torch.rand(n, generator=rng) < 0.5, uniform((n,), -math.pi / 4, math.pi / 4, rng), torch.zeros(n)
    )
    angle = quarter + free
    cx, cy = uniform((n,), -1, 1, rng) * (1 - side), uniform((n,), -1, 1, rng) * (1 - side)
    cos, sin = angle.cos(), angle.sin()
    theta = torch.stack(
        [torch.stack([cos * sx * flip, -sin * sy, cx], 1), torch.stack([sin * sx * flip, cos * sy, cy], 1)], 1
    )
    grid = F.affine_grid(theta, [n, 3, SIZE, SIZE], align_corners=False)
    return F.grid_sample(images.float() / 255, grid, padding_mode="reflection", align_corners=False).clamp(0, 1)


@dataclass(frozen=True)
class Stain:
    """How another laboratory would have pictured the same crops: random numbers, one row a crop."""

    mix: Tensor  # [B, 3, 3] of optical densities: stain
    tint: Tensor  # [B, 3, 1] optical density of the background
    turn: Tensor  # [B, 3, 3] hue and saturation
    gamma: Tensor  # [B, 1, 1, 1], as all below
    contrast: Tensor
    brightness: Tensor
    blur: Tensor
    noise: Tensor


def draw_stain(n: int, strength: float, rng: torch.Generator) -> Stain:
    """Draw the changes of stain, camera and focus for n crops; strength 0 is no change of colour."""

    def normal(*shape: int) -> Tensor:
        return strength * torch.randn(n, *shape, generator=rng)

    gain = torch.exp(0.25 * normal(1, 1) + 0.12 * normal(3, 1))
    saturation = torch.exp(0.35 * normal(1, 1))
    saturation[torch.rand(n, generator=rng) < 0.1 * strength] = 0.0
    # rotation about the grey axis k = (1, 1, 1) / sqrt 3 (Rodrigues), which leaves the mean of the channels alone
    angle = 0.5 * normal(1, 1).clamp(-2, 2)
    cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    grey = torch.full((3, 3), 1 / 3)
    colours = angle.cos() * (torch.eye(3) - grey) + angle.sin() * cross
    return Stain(
        mix=(torch.eye(3) + 0.12 * normal(3, 3)) * gain,
        tint=0.12 * normal(3, 1).clamp(min=-1),
        turn=grey + saturation * colours,
        gamma=torch.exp(0.25 * normal(1, 1, 1)),
        contrast=torch.exp(0.2 * normal(1, 1, 1)),
        brightness=0.08 * normal(1, 1, 1),
        blur=uniform((n, 1, 1, 1), -1.0, 1.0, rng).clamp(min=0),
        noise=uniform((n, 1, 1, 1), -0.03, 0.03, rng).clamp(min=0),
    )


def apply_stain(x: Tensor, stain: Stain, noise: Tensor) -> Tensor:
    """Change stain (in optical density: Beer-Lambert), camera and focus of [B, 3, H, W] in [0, 1]."""
    density = -torch.log(x.clamp(min=1 / 255)).flatten(2)
    x = torch.exp(-(torch.bmm(stain.mix, density) + stain.tint)).clamp(1e-3, 1)
    x = torch.bmm(stain.turn, x).view_as(noise).clamp(1e-3, 1)
    x = torch.exp(torch.log(x) * stain.gamma)
    x = (x - 0.5) * stain.contrast + 0.5 + stain.brightness
    blurred = F.interpolate(F.avg_pool2d(x, 2), size=(SIZE, SIZE), mode="bilinear", align_corners=False)
    return (x + stain.blur * (blurred - x) + stain.noise * noise).clamp(0, 1)


class Learner(nn.Module):
    """The encoder that is kept, with the decoder and the projector that are thrown away after training."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.encoder = Eva(**ARCHITECTURE["arguments"])
        self.project_in = nn.Linear(WIDTH, 96)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, 96))
        self.decoder_position = nn.Parameter(0.02 * torch.randn(1, (SIZE // PATCH) ** 2, 96))
        self.decoder = nn.ModuleList([Block(96, 3, qkv_bias=True) for _ in range(2)])
        self.predict = nn.Sequential(nn.LayerNorm(96), nn.Linear(96, 3 * PATCH * PATCH + 3))
        self.projector = nn.Sequential(
            nn.Linear(2 * WIDTH, 512), nn.LayerNorm(512), nn.GELU(), nn.Linear(512, 512), nn.GELU(), nn.Linear(512, 256)
        )

    def encode(self, x: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens of the kept patches, CLS first, after the hooked block and at the end: [B, 1 + K, D] twice."""
        encoder = self.encoder
        tokens = encoder.patch_embed(x)
        tokens = tokens.gather(1, keep[..., None].expand(-1, -1, WIDTH))
        tokens = torch.cat([encoder.cls_token.expand(len(tokens), -1, -1), tokens], 1)
        rope = encoder.rope.get_embed()[keep].unsqueeze(1)
        hooked = tokens
        for i, block in enumerate(encoder.blocks):
            tokens = block(tokens, rope=rope)
            if i == HOOK:
                hooked = tokens
        return hooked, encoder.norm(tokens)

    def decode(self, tokens: Tensor, keep: Tensor, hidden: Tensor) -> Tensor:
        """Predict the hidden patches [B, H] from the final tokens of the kept ones [B, K]: [B, H, 195]."""
        y = self.project_in(tokens)
        masks = self.mask_token.to(y.dtype).expand(len(y), hidden.shape[1], -1)
        positions = self.decoder_position.expand(len(y), -1, -1)
        where = torch.cat([keep, hidden], 1)[..., None].expand(-1, -1, y.shape[-1])
        y = torch.cat([y[:, :1], torch.cat([y[:, 1:], masks], 1) + positions.gather(1, where)], 1)
        for block in self.decoder:
            y = block(y)
        return self.predict(y[:, -hidden.shape[1] :])

    def forward(self, seen: Tensor, target: Tensor, order: Tensor) -> dict[str, Tensor]:
        """The terms of the loss: seen and target [B, 3, 128, 128] in [0, 1], order [B, P] a permutation of patches."""
        n_patches = order.shape[1]
        n_keep = int(n_patches * (1 - self.recipe.masked))
        keep, hidden = order[:, :n_keep], order[:, n_keep : n_keep + int(n_patches * self.recipe.predicted)]
        mean, std = seen.new_tensor(MEAN).view(3, 1, 1), seen.new_tensor(STD).view(3, 1, 1)
        with torch.autocast("cpu", torch.bfloat16):
            hooked, final = self.encode((seen - mean) / std, keep)
            predicted = self.decode(final, keep, hidden)
            pooled = torch.cat([hooked[:, 0], hooked[:, 1:].mean(1)], 1)
            embedded = self.projector(pooled)
        predicted = predicted.float()
        pixels, colour = (t.gather(1, hidden[..., None].expand(-1, -1, t.shape[-1])) for t in patch_targets(target))
        return {
            "pixels": F.mse_loss(predicted[..., :-3], pixels),
            "colour": F.mse_loss(predicted[..., -3:], colour),
            "agreement": disagreement(*embedded.float().chunk(2)),
            "isotropy": anisotropy(hooked[:, 1:].float().flatten(0, 1)),
        }


def patch_targets(x: Tensor) -> tuple[Tensor, Tensor]:
    """Normalised pixels [B, P, 192] and mean colours [B, P, 3], the latter in s.d. of their own image's patches."""
    n, side = len(x), SIZE // PATCH
    patches = x.view(n, 3, side, PATCH, side, PATCH).permute(0, 2, 4, 1, 3, 5).reshape(n, side * side, 3, PATCH * PATCH)
    colour = patches.mean(3)
    flat = patches.flatten(2)
    # the floor of 0.02 (five grey levels) keeps JPEG noise of the empty background from being a target
    pixels = (flat - flat.mean(2, keepdim=True)) / (flat.var(2, keepdim=True) + 4e-4).sqrt()
    colour = (colour - colour.mean((1, 2), keepdim=True)) / (colour.std((1, 2), keepdim=True) + 0.02)
    return pixels, colour


def disagreement(a: Tensor, b: Tensor) -> Tensor:
    """VICReg loss (Bardes, Ponce and LeCun 2022, eqs. 1-6; weights 25, 25, 1) of two views [B, E] of the same cells."""

    def spread(z: Tensor) -> Tensor:
        z = z - z.mean(0)
        covariance = z.T @ z / (len(z) - 1)
        off = covariance.square().sum() - covariance.diagonal().square().sum()
        return 25 * F.relu(1 - (z.var(0) + 1e-4).sqrt()).mean() + off / z.shape[1]

    return 25 * F.mse_loss(a, b) + spread(a) + spread(b)


def anisotropy(tokens: Tensor) -> Tensor:
    """||C - I||^2 / D of the covariance C [D, D] of tokens [N, D], scaled to mean variance 1: 0 if isotropic."""
    centred = tokens - tokens.mean(0)
    covariance = centred.T @ centred / len(tokens)
    covariance = covariance / covariance.diagonal().mean()
    return (covariance - torch.eye(len(covariance))).square().sum() / len(covariance)


class Training:
    """State of a run: model, optimiser, random numbers, clock; all of it is in a checkpoint."""

    def __init__(self, images: Tensor, recipe: Recipe, *, compiled: bool) -> None:
        torch.manual_seed(recipe.seed)
        torch._inductor.config.cpp.dynamic_threads = True  # OMP_NUM_THREADS may differ when a run goes on
        self.images, self.recipe = images, recipe
        self.rng = torch.Generator().manual_seed(recipe.seed)
        self.learner = Learner(recipe)
        self.loss = torch.compile(self.learner) if compiled else self.learner
        self.stain = torch.compile(apply_stain) if compiled else apply_stain
        decayed = [p for p in self.learner.parameters() if p.ndim > 1 and p.shape[0] > 1]
        others = [p for p in self.learner.parameters() if not (p.ndim > 1 and p.shape[0] > 1)]
        groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.95))
        self.queue = torch.empty(0, dtype=torch.long)
        self.step_number, self.seconds = 0, 0.0

    def next_cells(self) -> Tensor:
        """Numbers of the next batch of cells: every cell once an epoch."""
        while len(self.queue) < self.recipe.batch:
            self.queue = torch.cat([self.queue, torch.randperm(len(self.images), generator=self.rng)])
        batch, self.queue = self.queue[: self.recipe.batch], self.queue[self.recipe.batch :]
        return batch

    def step(self, progress: float) -> dict[str, float]:
        """One step of optimisation at `progress` in [0, 1) of the schedule."""
        r = self.recipe
        ramp = min(1.0, progress / r.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = r.learning_rate * ramp * (0.5 + 0.5 * math.cos(math.pi * progress)) + 1e-6
        chosen = self.images[self.next_cells()].repeat(r.views, 1, 1, 1)
        with torch.no_grad():
            original = random_crops(chosen, r.widest, self.rng)
            noise = torch.randn(original.shape, generator=self.rng)
            seen = self.stain(original, draw_stain(len(chosen), r.stain, self.rng), noise)
        order = torch.rand(len(chosen), (SIZE // PATCH) ** 2, generator=self.rng).argsort(1)
        terms = self.loss(seen, original if r.denoise else seen, order)
        total = terms["pixels"] + r.colour_weight * terms["colour"]
        total = total + r.agreement * terms["agreement"] + r.isotropy * terms["isotropy"]
        self.optimiser.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(self.learner.parameters(), 3.0)
        self.optimiser.step()
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
    state = {k: v.detach().half().contiguous() for k, v in training.learner.encoder.state_dict().items()}
    save_file(state, folder / "tiny.safetensors.part")
    digest = hashlib.sha256((folder / "tiny.safetensors.part").read_bytes()).hexdigest()
    metadata = {
        "name": "tiny",
        "architecture": ARCHITECTURE,
        "preprocessing": {"size": SIZE, "mean": MEAN, "std": STD, "interpolation": "bilinear"},
        "sha256": digest,
        "licence": "Apache-2.0",
        "data": {
            "acevedo": "Acevedo et al., Mendeley Data snkd93bnjr v1, CC BY 4.0",
            "bccd_cells": "Shenggan/BCCD_Dataset, MIT",
            **({"synthetic": "drawn by cytosae.cells.synthetic"} if training.recipe.synthetic else {}),
            "cells": len(training.images),
        },
        "recipe": {
            **asdict(training.recipe),
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
    parser.add_argument("--data", type=Path, required=True, help="folder that holds acevedo/ and bccd_cells/")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint and exported weights")
    parser.add_argument("--minutes", type=float, default=math.inf, help="end the schedule by then")
    parser.add_argument("--save-every", type=float, default=4.0, help="minutes between checkpoints")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument("--eager", action="store_true", help="do not compile (where there is no C++ compiler)")
    for name, default in asdict(Recipe()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    options = parser.parse_args()
    recipe = Recipe(**{name: getattr(options, name) for name in asdict(Recipe())})
    options.out.mkdir(parents=True, exist_ok=True)
    training = Training(read_images(options.data, recipe.synthetic), recipe, compiled=not options.eager)
    checkpoint = options.out / "checkpoint.pt"
    if options.resume and checkpoint.exists():
        training.load(checkpoint)
    run(training, options.minutes, options.save_every, options.out)


def run(training: Training, minutes: float, save_every: float, out: Path) -> None:
    """Step until the schedule ends; a line every 50 steps."""
    print("recipe", json.dumps(asdict(training.recipe)), "cells", len(training.images), flush=True)
    before, last, saved, sums = training.seconds, time.monotonic(), 0.0, {}
    start = last
    while (progress := max(training.step_number / training.recipe.steps, training.seconds / (60 * minutes))) < 1:
        for name, value in training.step(progress).items():
            sums[name] = sums.get(name, 0.0) + value / LOG_EVERY
        now = time.monotonic()
        training.seconds = before + now - start
        if training.step_number % LOG_EVERY == 0:
            rate = LOG_EVERY * training.recipe.batch * training.recipe.views / (now - last)
            clock = f"{progress:.0%}, {training.seconds / 60:.1f} min, {rate:.0f} views/s"
            terms = " ".join(f"{name} {value:.4f}" for name, value in sums.items())
            print(f"step {training.step_number} ({clock}) {terms}", flush=True)
            last, sums = now, {}
        if now - start - saved > 60 * save_every:
            saved = now - start
            training.save(out / "checkpoint.pt")
            export(training, out)
    training.save(out / "checkpoint.pt")
    export(training, out)
    print(f"done: {training.step_number} steps, {training.seconds / 60:.1f} min", flush=True)


if __name__ == "__main__":
    main()
