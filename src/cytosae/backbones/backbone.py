"""The backbone: a frozen vision transformer that stops after a chosen block and gives its residual stream as tokens."""

from __future__ import annotations

import math
from typing import Any

import torch
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from cytosae.backbones.preprocessing import Preprocessing, refuse_other_shape
from cytosae.cells.focus.patch_grid import Grid, side_of
from cytosae.common.errors import InputError, WeightsError


class Backbone(nn.Module):
    """Images to tokens: the residual stream after one block of a vision transformer.

    In evaluation mode, without gradients with respect to its weights; blocks after the hooked one are kept for `finish`
    but are not computed by `forward`.

    Parameters
    ----------
    model : Module
        A timm `VisionTransformer` or `Eva` with a CLS token.
    name : str
        As given to `load_backbone`.
    preprocessing : Preprocessing
        Of the images.
    block : int
        Number of the hooked block, 1 for the first.
    weights_hash : str
        sha256 of the weights, hexadecimal.
    source, licence : str
        Of the weights.

    Attributes
    ----------
    width : int
        D, numbers a token.
    grid : tuple of int
        Rows and columns of the patches.
    n_tokens : int
        1 + rows x columns: CLS and patches.
    depth : int
        Blocks of the whole transformer.
    registers : int
        Register tokens of the model; they take part in its computation and are left out of the tokens.

    Raises
    ------
    WeightsError
        for an architecture that has no CLS token, or is no plain vision transformer.
    """

    grid: Grid
    registers: int
    name: str
    preprocessing: Preprocessing
    block: int
    weights_hash: str
    source: str
    licence: str
    n_tokens: int

    def __init__(
        self,
        model: nn.Module,
        *,
        name: str,
        preprocessing: Preprocessing,
        block: int,
        weights_hash: str,
        source: str,
        licence: str,
    ) -> None:
        super().__init__()
        self.grid, self.registers = _check_geometry(model, name)
        self.model: Any = model.eval().requires_grad_(requires_grad=False)
        self.name, self.preprocessing, self.block = name, preprocessing, block
        self.weights_hash, self.source, self.licence = weights_hash, source, licence
        self.depth: int = len(self.model.blocks)
        self.width: int = int(self.model.embed_dim)
        self.n_tokens = 1 + math.prod(self.grid)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.model.parameters()).device

    @property
    def prepare(self) -> Preprocessing:
        """Images to a batch: `prepare(images) -> float32 [B, 3, H, W]`; see `Preprocessing`.

        A value without the network in it, so that it can be sent to worker processes.
        """
        return self.preprocessing

    def forward(self, batch: Tensor) -> Tensor:
        """Compute the tokens of a batch of prepared images.

        Parameters
        ----------
        batch : Tensor, shape (B, 3, H, W), float
            From `prepare`; moved to the device of the weights.

        Returns
        -------
        Tensor, shape (B, 1 + P, D), float32
            The CLS token first, then the patches row by row.

        Raises
        ------
        InputError
            for a batch of another shape.
        """
        refuse_other_shape(batch, self.preprocessing, self.name)
        place = next(self.model.parameters())
        with torch.no_grad():
            ((patches, prefix),) = self.model.forward_intermediates(
                batch.to(place.device, place.dtype),
                indices=[self.block - 1],
                return_prefix_tokens=True,
                norm=False,
                stop_early=True,
                output_fmt="NLC",
                intermediates_only=True,
            )
        return torch.cat([prefix[:, :1], patches], dim=1).float()

    def finish(self, tokens: Tensor) -> Tensor:
        """Run the remaining blocks and the final norm on (edited) tokens of the hooked block; gradients flow through.

        Parameters
        ----------
        tokens : Tensor, shape (B, 1 + P, D), float
            As `forward` gives them.

        Returns
        -------
        Tensor, shape (B, 1 + P, D), float32
            What the whole transformer gives.

        Raises
        ------
        InputError
            for tokens of another shape, or a model with register tokens, whose state is not part of the tokens.
        """
        if self.registers:
            raise InputError(
                f"Backbone {self.name} has {self.registers} register tokens, which `forward` leaves out, "
                "so its later blocks cannot be run on tokens; take a model without registers."
            )
        if tokens.ndim != 3 or tuple(tokens.shape[1:]) != (self.n_tokens, self.width):
            raise InputError(
                f"Backbone {self.name} has tokens [B, {self.n_tokens}, {self.width}], not {list(tokens.shape)}."
            )
        place = next(self.model.parameters())
        x = tokens.to(place.device, place.dtype)
        rope = getattr(self.model, "rope", None)
        positions = {} if rope is None else {"rope": rope.get_embed()}
        for block in self.model.blocks[self.block :]:
            x = block(x, **positions)
        return self.model.norm(x).float()

    def train(self, mode: bool = True) -> Backbone:
        """Stay in evaluation mode: tokens must not depend on the mode of a module around."""
        return super().train(mode=False)

    def describe(self) -> dict[str, Any]:
        """Everything that the record of an artifact needs to know of the backbone, as JSON-able values."""
        return {
            "name": self.name,
            "source": self.source,
            "licence": self.licence,
            "weights_hash": self.weights_hash,
            "block": self.block,
            "depth": self.depth,
            "width": self.width,
            "side": side_of(self.grid),
            "n_tokens": self.n_tokens,
            "registers_left_out": self.registers,
            "preprocessing": self.preprocessing.describe(),
        }


def _check_geometry(model: nn.Module, name: str) -> tuple[Grid, int]:
    """Return the grid of patches and the number of registers, or refuse the model."""
    if not isinstance(model, (VisionTransformer, Eva)):
        raise WeightsError(f"{name} is a {type(model).__name__}, not a plain vision transformer; take a ViT of timm.")
    if getattr(model, "cls_token", None) is None:
        raise WeightsError(f"{name} has no CLS token, which cytosae needs as the first token; take a model with one.")
    rows, columns = model.patch_embed.grid_size
    if isinstance(model, Eva) and getattr(model, "rope_mixed", False):
        raise WeightsError(f"{name} has rotary positions of its own for every block, which cytosae does not support.")
    registers = int(model.num_prefix_tokens) - 1
    if rows * columns != model.patch_embed.num_patches:
        raise WeightsError(f"{name} has {model.patch_embed.num_patches} patches on a grid of {rows} x {columns}.")
    return (rows, columns), registers
