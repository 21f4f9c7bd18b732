"""What learns: the encoder that becomes the bundled backbone, its teachers, and the terms of its loss."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file
from timm.layers import resample_abs_pos_embed
from timm.models.eva import Eva
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from cytosae.backbones import Backbone, Preprocessing, load_backbone

WIDTH, SIDE = 192, 16  # numbers a token, patches along a side
DECODER = 96
PIXELS = 8  # a hidden patch is predicted at 8 x 8 pixels, whatever its own size
PREDICTED = 3 * PIXELS * PIXELS + 3
BUNDLED = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
TEACHER_BLOCK = {"deit": 9, "bundled": 5}  # of 12 and of 6: where each teacher's tokens say most about cells


@dataclass(frozen=True)
class Recipe:
    """What can be varied between trials; the weights that are shipped so far were made by others (the model card)."""

    start: str = "deit"  # "nothing", "bundled" (the weights that are shipped so far) or "deit" (its first blocks)
    depth: int = 8  # blocks; the sparse autoencoder reads the second to last
    steps: int = 2000
    batch: int = 16
    views: int = 2
    masked: float = 0.6
    predicted: float = 0.25  # share of the patches that the decoder predicts; the other hidden ones cost nothing
    learning_rate: float = 5e-4
    weight_decay: float = 0.05
    warmup: float = 0.04
    widest: float = 1.0  # largest area of a crop in areas of the image; beyond 1, its surroundings are mirrored
    stain: float = 1.0
    pixels: float = 1.0  # weight of the hidden patches' pixels
    colour: float = 0.2  # weight of their mean colours
    teachers: str = ""  # of "deit", "bundled" (both frozen) and "self" (its own mean over steps), with + between
    teaching: float = 1.0  # weight of the teachers' tokens, of plain views
    momentum: float = 0.996  # of the teacher "self"
    agreement: float = 0.02
    isotropy: float = 0.01
    position: float = 0.3  # weight of the share of variance that a token's place takes
    synthetic: int = 0  # drawn cells beside the real ones
    seed: int = 0


def architecture(recipe: Recipe) -> dict[str, Any]:
    """The arguments of timm's `Eva`: rotary positions from nothing, DeiT's absolute ones at 256 px from DeiT."""
    deit = recipe.start == "deit"
    return {
        "img_size": 256 if deit else 128,
        "patch_size": 16 if deit else 8,
        "num_classes": 0,
        "embed_dim": WIDTH,
        "depth": recipe.depth if deit else 6,
        "num_heads": 3,
        "mlp_ratio": 4.0,
        "use_abs_pos_emb": deit,
        "use_rot_pos_emb": not deit,
    }


def preprocessing(recipe: Recipe) -> Preprocessing:
    """Size and colours that the encoder takes."""
    mean, std = IMAGENET if recipe.start == "deit" else BUNDLED
    return Preprocessing(size=architecture(recipe)["img_size"], mean=mean, std=std, interpolation="bilinear")


def first_encoder(recipe: Recipe, deit: Path | None) -> Eva:
    """The encoder as training begins."""
    if recipe.start == "bundled":
        return load_backbone("tiny").model.requires_grad_()
    if recipe.start == "nothing":
        return Eva(**architecture(recipe))
    return deit_encoder(deit, recipe.depth)


def deit_encoder(file: Path | None, depth: int) -> Eva:
    """The first blocks of DeiT-tiny as an `Eva` for 256 px, the same function of its tokens.

    `Eva` has no bias of the keys: it adds the same number to all scores of a query and is lost in the softmax.
    """
    if file is None:
        raise SystemExit("this recipe starts from or learns from DeiT-tiny: give its weights as --deit FILE")
    model = Eva(**architecture(Recipe(depth=depth)))
    state: dict[str, Tensor] = {}
    for key, value in load_file(file).items():
        name = key.removeprefix("blocks.")
        if key.startswith(("head", "norm.")) or (name != key and int(name.split(".")[0]) >= depth):
            continue
        if key.endswith("qkv.bias"):
            q, _, v = value.float().chunk(3)
            state |= {key.replace("qkv.bias", "q_bias"): q, key.replace("qkv.bias", "v_bias"): v}
        else:
            state[key] = value.float()
    state["pos_embed"] = resample_abs_pos_embed(state["pos_embed"], (SIDE, SIDE), num_prefix_tokens=1)
    state |= {key: value for key, value in model.state_dict().items() if key.startswith("fc_norm")}
    model.load_state_dict(state)
    return model


def untouched_deit(file: Path, block: int) -> Backbone:
    """DeiT-tiny as it came, cut so that `block` is the second to last."""
    return as_backbone(deit_encoder(file, block + 1), preprocessing(Recipe()), block, "DeiT-tiny")


def as_backbone(model: nn.Module, prepare: Preprocessing, block: int, name: str) -> Backbone:
    """A net that is not in the package, with the package's interface."""
    return Backbone(model, name=name, preprocessing=prepare, block=block, weights_hash="", source="", licence="")


class Teacher(nn.Module):
    """A net that gives targets, without gradients: its patch tokens of plain views, at mean 0 and variance 1.

    The mean is that of the token's place, so that nothing is to be learned about where a patch lies; mean and variance
    are running ones.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (backbone.preprocessing.mean, backbone.preprocessing.std))
        self.scale = (mean, std)
        self.register_buffer("mean", torch.zeros(SIDE * SIDE, WIDTH))
        self.register_buffer("variance", torch.zeros(WIDTH))
        self.register_buffer("seen", torch.zeros(()))

    @torch.no_grad()
    def forward(self, plain: Tensor) -> Tensor:
        """Targets [B, P, D] of plain views [B, 3, S, S] in [0, 1]."""
        size = self.backbone.preprocessing.size
        if plain.shape[-1] != size:
            plain = F.interpolate(plain, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
        mean, std = self.scale
        with torch.autocast("cpu", torch.bfloat16):
            tokens = self.backbone((plain - mean) / std)[:, 1:]
        self.seen += 1
        share = (1 / self.seen).clamp(min=0.01)
        self.mean.lerp_(tokens.mean(0), share)
        centred = tokens - self.mean
        self.variance.lerp_(centred.square().mean((0, 1)), share)
        return centred / (self.variance + 1e-6).sqrt()


class Learner(nn.Module):
    """The encoder that is kept, with decoder, projector, readers and teachers, which are thrown away after training."""

    def __init__(self, recipe: Recipe, deit: Path | None = None) -> None:
        super().__init__()
        self.recipe, self.preprocessing = recipe, preprocessing(recipe)
        self.encoder = first_encoder(recipe, deit)
        self.hook = len(self.encoder.blocks) - 2
        self.project_in = nn.Linear(WIDTH, DECODER)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, DECODER))
        self.decoder_position = nn.Parameter(0.02 * torch.randn(1, SIDE * SIDE, DECODER))
        self.decoder = nn.ModuleList([Block(DECODER, 3, qkv_bias=True) for _ in range(2)])
        names = [name for name in recipe.teachers.split("+") if name]
        self.teachers = nn.ModuleDict({name: self.make_teacher(name, deit) for name in names})
        self.teachers.requires_grad_(requires_grad=False)
        taught = len(names) * WIDTH
        self.predict = nn.Sequential(nn.LayerNorm(DECODER), nn.Linear(DECODER, PREDICTED + taught))
        self.read = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, taught)) if names else nn.Identity()
        self.projector = nn.Sequential(
            nn.Linear(2 * WIDTH, 512), nn.LayerNorm(512), nn.GELU(), nn.Linear(512, 512), nn.GELU(), nn.Linear(512, 256)
        )

    def make_teacher(self, name: str, deit: Path | None) -> Teacher:
        """One of the teachers that a recipe can name."""
        if name == "deit":
            return Teacher(untouched_deit(deit or Path(), TEACHER_BLOCK[name]))
        if name == "bundled":
            return Teacher(load_backbone("tiny", block=TEACHER_BLOCK[name]))
        if name == "self":
            own = copy.deepcopy(self.encoder)
            return Teacher(as_backbone(own, self.preprocessing, self.hook + 1, name))
        raise SystemExit(f"there is no teacher {name!r}; the recipe knows self, deit and bundled, with + between")

    @torch.no_grad()
    def follow(self) -> None:
        """Move the teacher "self" a little towards the encoder."""
        if "self" in self.teachers:
            own = self.teachers["self"].backbone.model
            for slow, quick in zip(own.parameters(), self.encoder.parameters(), strict=True):
                slow.lerp_(quick.detach(), 1 - self.recipe.momentum)

    def encode(self, x: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens of the kept patches, CLS first, after the hooked block and at the end: [B, 1 + K, D] twice."""
        encoder = self.encoder
        patches = encoder.patch_embed(x)
        first = encoder.cls_token
        if encoder.pos_embed is not None:
            patches, first = patches + encoder.pos_embed[:, 1:], first + encoder.pos_embed[:, :1]
        patches = patches.gather(1, keep[..., None].expand(-1, -1, WIDTH))
        tokens = torch.cat([first.expand(len(patches), -1, -1).to(patches.dtype), patches], 1)
        rope = None if encoder.rope is None else encoder.rope.get_embed()[keep].unsqueeze(1)
        hooked = tokens
        for i, block in enumerate(encoder.blocks):
            tokens = block(tokens, rope=rope)
            if i == self.hook:
                hooked = tokens
        return hooked, tokens

    def decode(self, tokens: Tensor, keep: Tensor, hidden: Tensor) -> Tensor:
        """Predict the hidden patches [B, H] from the final tokens of the kept ones [B, K]: [B, H, 195 + taught]."""
        y = self.project_in(tokens)
        masks = self.mask_token.to(y.dtype).expand(len(y), hidden.shape[1], -1)
        positions = self.decoder_position.expand(len(y), -1, -1)
        where = torch.cat([keep, hidden], 1)[..., None].expand(-1, -1, y.shape[-1])
        y = torch.cat([y[:, :1], torch.cat([y[:, 1:], masks], 1) + positions.gather(1, where)], 1)
        for block in self.decoder:
            y = block(y)
        return self.predict(y[:, -hidden.shape[1] :])

    def targets(self, plain: Tensor) -> Tensor:
        """What the teachers say about plain views [B, 3, S, S] in [0, 1], side by side: [B, P, D x teachers]."""
        said = [teacher(plain) for teacher in self.teachers.values()]
        return torch.cat(said, 2) if said else plain.new_zeros(len(plain), SIDE * SIDE, 0)

    def forward(self, seen: Tensor, plain: Tensor, order: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The terms of the loss: seen and plain [B, 3, S, S] in [0, 1], order [B, P] a permutation of patches."""
        n_keep = int(order.shape[1] * (1 - self.recipe.masked))
        keep, hidden = order[:, :n_keep], order[:, n_keep : n_keep + int(order.shape[1] * self.recipe.predicted)]
        mean, std = (seen.new_tensor(v).view(3, 1, 1) for v in (self.preprocessing.mean, self.preprocessing.std))
        with torch.autocast("cpu", torch.bfloat16):
            hooked, final = self.encode((seen - mean) / std, keep)
            predicted = self.decode(final, keep, hidden)
            embedded = self.projector(torch.cat([hooked[:, 0], hooked[:, 1:].mean(1)], 1))
            said = self.read(hooked[:, 1:])
        predicted, patches = predicted.float(), hooked[:, 1:].float()
        pixels, colour = (at(t, hidden) for t in patch_targets(plain))
        terms = {
            "pixels": F.mse_loss(predicted[..., : PREDICTED - 3], pixels),
            "colour": F.mse_loss(predicted[..., PREDICTED - 3 : PREDICTED], colour),
            "agreement": disagreement(*embedded.float().chunk(2)),
            "isotropy": anisotropy(patches.flatten(0, 1)),
            "position": position_share(patches, keep),
        }
        if len(self.teachers):
            shown = F.mse_loss(said.float(), at(targets, keep))
            guessed = F.mse_loss(predicted[..., PREDICTED:], at(targets, hidden))
            terms["teaching"] = (shown + guessed) / 2
        return terms


def total_loss(terms: dict[str, Tensor], recipe: Recipe) -> Tensor:
    """The terms with the recipe's weights: each has the name of its field."""
    return sum((getattr(recipe, name) * value for name, value in terms.items()), torch.zeros(()))


def at(values: Tensor, places: Tensor) -> Tensor:
    """Rows [B, K, F] of values [B, P, F] at places [B, K]."""
    return values.gather(1, places[..., None].expand(-1, -1, values.shape[-1]))


def patch_targets(x: Tensor) -> tuple[Tensor, Tensor]:
    """Normalised pixels [B, P, 192] and mean colours [B, P, 3], the latter in s.d. of their own image's patches."""
    n, pixels = len(x), SIDE * PIXELS
    if x.shape[-1] != pixels:
        x = F.avg_pool2d(x, x.shape[-1] // pixels)
    patches = x.view(n, 3, SIDE, PIXELS, SIDE, PIXELS).permute(0, 2, 4, 1, 3, 5).reshape(n, SIDE * SIDE, 3, -1)
    colour = patches.mean(3)
    flat = patches.flatten(2)
    # the floor of 0.02 (five grey levels) keeps JPEG noise of the empty background from being a target
    normalised = (flat - flat.mean(2, keepdim=True)) / (flat.var(2, keepdim=True) + 4e-4).sqrt()
    colour = (colour - colour.mean((1, 2), keepdim=True)) / (colour.std((1, 2), keepdim=True) + 0.02)
    return normalised, colour


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


def position_share(tokens: Tensor, places: Tensor) -> Tensor:
    """Share of the variance of tokens [B, K, D] that means by place [B, K] explain, less what chance would give.

    Views are cropped and turned at random, so that a place as such says nothing about a cell.
    """
    flat, place = tokens.flatten(0, 1), places.flatten()
    centred = flat - flat.mean(0)
    n = torch.zeros(SIDE * SIDE).index_add(0, place, torch.ones(len(flat)))
    sums = torch.zeros(SIDE * SIDE, flat.shape[1]).index_add(0, place, centred)
    between = (sums.square().sum(1) / n.clamp(min=1)).sum() / centred.square().sum()
    return between - int((n > 0).sum()) / max(1, len(flat))


def learning_rate(progress: float, recipe: Recipe) -> float:
    """Warm-up, then half a cosine, at `progress` in [0, 1)."""
    ramp = min(1.0, progress / recipe.warmup)
    return recipe.learning_rate * ramp * (0.5 + 0.5 * math.cos(math.pi * progress)) + 1e-6
