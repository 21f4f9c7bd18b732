"""A backbone as one ONNX file, computed by onnxruntime: no timm and no weights in another form are needed to serve it.

The file takes ``images`` [B, 3, H, W] and gives ``tokens`` [B, T, D], CLS first; what else must be known of it (block,
preprocessing, licence) stands as JSON under ``cytosae`` in its metadata. `export_onnx` writes such a file.
"""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypedDict

import numpy as np
import torch
from torch import Tensor

from cytosae.backbones.blocks import block_number
from cytosae.backbones.checkpoints import first_line, hash_weights_file
from cytosae.backbones.preprocessing import Preprocessing, refuse_other_shape
from cytosae.cells.focus.patch_grid import Grid, grid_of, side_of
from cytosae.common.errors import CytosaeError, UsageError, WeightsError
from cytosae.common.records import parse_record

if TYPE_CHECKING:
    from cytosae.backbones.backbone import Backbone

METADATA = "cytosae"
_OPSET = 17


class _Description(TypedDict):
    name: str
    source: str
    weights_hash: str
    licence: str
    block: int
    depth: int
    side: int | tuple[int, int]
    preprocessing: Preprocessing


class OnnxBackbone:
    """Tokens from an ONNX file; computes on the CPU.

    Parameters
    ----------
    path : Path
        The file.
    name : str
        As given to `load_backbone`.

    Attributes
    ----------
    width, n_tokens, grid, block, depth : int, int, tuple of int, int, int
        As of `AnyBackbone`.
    weights_hash : str
        sha256 of the file.

    Raises
    ------
    WeightsError
        for a missing, damaged or foreign file.
    """

    name: str
    weights_hash: str
    block: int
    depth: int
    width: int
    n_tokens: int
    grid: Grid
    device: torch.device
    prepare: Preprocessing

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._session = _open(path)
        known = _description(self._session, path)
        self._about = known
        self.name, self.weights_hash = name, hash_weights_file(path)
        self.block, self.depth, self.grid = known["block"], known["depth"], grid_of(known["side"])
        self.prepare, self.device = known["preprocessing"], torch.device("cpu")
        shape, n_tokens = self._run(np.zeros((1, 3, *self.prepare.shape), np.float32)).shape, 1 + math.prod(self.grid)
        if len(shape) != 3 or shape[1] != n_tokens:
            raise WeightsError(
                f"{path} gives tokens {list(shape)}, not [B, {n_tokens}, D] as its description says; export "
                "it again with cytosae.backbones.export_onnx."
            )
        self.n_tokens, self.width = shape[1:]

    def __call__(self, batch: Tensor, /) -> Tensor:
        """Tokens float32 [B, T, D] of a prepared batch [B, 3, H, W]."""
        refuse_other_shape(batch, self.prepare, self.name)
        return torch.from_numpy(self._run(batch.detach().cpu().float().numpy()))

    def to(self, device: Any, /) -> Self:
        """Stay on the CPU, wherever others go; tokens are moved by those who need them elsewhere."""
        return self

    def describe(self) -> dict[str, Any]:
        """Everything that the record of an artifact needs to know of the backbone, as JSON-able values."""
        return {
            "name": self.name,
            "source": f"{self._path.name} ({self._about['source']})",
            "licence": self._about["licence"],
            "weights_hash": self.weights_hash,
            "exported_from": self._about["weights_hash"],
            "block": self.block,
            "depth": self.depth,
            "width": self.width,
            "side": side_of(self.grid),
            "n_tokens": self.n_tokens,
            "preprocessing": self.prepare.describe(),
        }

    def _run(self, images: Any) -> Any:
        return self._session.run(["tokens"], {"images": images})[0]


def load_onnx(model: str, weights: Path | None, block: int | None) -> OnnxBackbone:
    """Load ``onnx:<model>``, whose file is ``weights``; `UsageError` where it was exported at another block."""
    if weights is None:
        raise UsageError(f"onnx:{model} needs its file: pass weights=PATH (--backbone.weights on the command line).")
    backbone = OnnxBackbone(weights, f"onnx:{model}")
    asked = block_number(block, backbone.depth, backbone.name)
    if asked != backbone.block:
        raise UsageError(
            f"{weights} gives the tokens after block {backbone.block}, not {asked}; export that block, or ask for "
            f"block={backbone.block} (--backbone.block)."
        )
    return backbone


def export_onnx(backbone: Backbone, path: str | Path) -> Path:
    """Write a backbone, up to its hooked block, as one ONNX file that `load_backbone` ("onnx:NAME", path) reads.

    Parameters
    ----------
    backbone : Backbone
        Of torch, on any device; any batch size can be computed with the file.
    path : str or Path
        Where to.

    Raises
    ------
    UsageError
        where the package ``onnx`` is missing.
    """
    try:
        import onnx
    except ImportError as problem:
        raise UsageError("Writing ONNX needs the package onnx; pip install 'cytosae[onnx]'.") from problem
    path = Path(path)
    images = torch.zeros(2, 3, *backbone.preprocessing.shape, device=backbone.device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer wonders about every shape that is fixed
        torch.onnx.export(
            backbone,
            (images,),
            str(path),
            input_names=["images"],
            output_names=["tokens"],
            dynamic_axes={"images": {0: "batch"}, "tokens": {0: "batch"}},
            opset_version=_OPSET,
            dynamo=False,
        )
    model = onnx.load(str(path))
    about = {key: value for key, value in backbone.describe().items() if key in _Description.__annotations__}
    onnx.helper.set_model_props(model, {METADATA: json.dumps(about)})
    onnx.save(model, str(path))
    return path


def _open(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as problem:
        raise UsageError("ONNX backbones need onnxruntime; pip install 'cytosae[onnx]'.") from problem
    if not path.is_file():
        raise WeightsError(f"There is no weights file {path}; check the path.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as problem:  # onnxruntime has an exception class for each of its status codes
        raise WeightsError(f"{path} is no ONNX file that can be computed ({first_line(problem)}).") from problem


def _description(session: Any, path: Path) -> _Description:
    text = session.get_modelmeta().custom_metadata_map.get(METADATA, "")
    try:
        names = [i.name for i in session.get_inputs()], [o.name for o in session.get_outputs()]
        if names != (["images"], ["tokens"]):
            raise ValueError(f"it goes from {names[0]} to {names[1]}")
        return parse_record(_Description, text.encode(), where="metadata")
    except (CytosaeError, ValueError) as problem:
        raise WeightsError(
            f"{path} does not say which block and preprocessing it is of ({first_line(problem)}); write it with "
            "cytosae.backbones.export_onnx."
        ) from problem
