"""Extraction: images through a backbone into a token store, in pieces that survive any interruption."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from cytosae.cells.focus.patch_grid import side_of
from cytosae.cells.stain.normalisation import ChangedPrepare, prepare_stained
from cytosae.common.ahead import one_ahead
from cytosae.common.artifact import Record, digest, read_artifact, record_path, renew_record
from cytosae.common.configuration import to_plain
from cytosae.common.errors import ArtifactError, InputError, NewerArtifactError
from cytosae.common.progress import Bar, progress
from cytosae.common.records import read_record
from cytosae.tokens.config import ExtractConfig
from cytosae.tokens.extraction.batches import prepared_batches
from cytosae.tokens.extraction.compiled import compiled_forward
from cytosae.tokens.extraction.known_rows import KnownRows
from cytosae.tokens.extraction.work import Recipe, Shard, Work, only_process, plan_shards
from cytosae.tokens.store.encoding import Planes, allocate, encoding_of, largest_magnitude
from cytosae.tokens.store.token_store import MANIFEST, TokenStore, open_tokens

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from cytosae.backbones import AnyBackbone
    from cytosae.cells import CellTable


def extract(
    cells: CellTable,
    backbone: AnyBackbone,
    out: Path,
    *,
    config: ExtractConfig | None = None,
    fabric: Fabric | None = None,
    inputs: Mapping[str, str] | None = None,
) -> TokenStore:
    """Make the token store of ``cells`` at ``out``, or finish, update or simply open what is there.

    An interrupted extraction goes on where it stopped. Cells whose tokens are there in the same recipe (backbone,
    weights, preprocessing, storage) are copied, others computed. With several ranks each makes every n-th shard.

    Parameters
    ----------
    cells : CellTable
        The cell table, n cells.
    backbone : AnyBackbone
        Makes tokens [b, T, D].
    out : Path
        Directory of the store; the work lies beside it in ``.<name>.partial`` until it is complete.
    config : ExtractConfig or None
        How.
    fabric : Fabric or None
        Launched; None for this process alone.
    inputs : mapping of str to str or None
        Fingerprints for the record of the artifact; None for those of cell identities and backbone.

    Raises
    ------
    InputError
        no cells; an image that changed or broke since its table was made; tokens that are not finite or too large
    ArtifactError
        another process at work, too little space, a full disk, something else standing at ``out``
    """
    config = config or ExtractConfig()
    out = Path(out)
    cell_ids = [str(cell) for cell in cells.frame["cell_id"]]
    if not cell_ids:
        raise InputError(f"The table {cells.name!r} has no cells; give images that can be read.")
    recipe = recipe_for(backbone, config)
    inputs = dict(inputs) if inputs is not None else {"cells": digest(cell_ids), "backbone": recipe.fingerprint}
    work = Work(out, recipe, plan_shards(cell_ids, config.shard_cells, recipe))
    ranks = _Ranks(fabric)
    with ExitStack() as held:
        ranks.first(lambda: held.enter_context(only_process(out)))
        if not ranks.first(lambda: _is_current(work, config, inputs)):
            ranks.first(lambda: _begin(work))
            _make_shards(work, cells, backbone, config, ranks)
            ranks.wait()
            ranks.first(lambda: work.publish(cells.name, config.shard_cells, config=config, inputs=inputs))
        return open_tokens(out, verify=False)


def estimated_bytes(n_cells: int, backbone: AnyBackbone, config: ExtractConfig | None = None) -> int:
    """Bytes that the tokens of ``n_cells`` cells will take on disk, known before anything is computed."""
    return n_cells * recipe_for(backbone, config or ExtractConfig()).cell_bytes


def estimate(n_cells: int, backbone: AnyBackbone, config: ExtractConfig | None = None) -> str:
    """`estimated_bytes` as a sum to be read: "2,503 cells x 257 x 192 x 2 bytes = 247 MB"."""
    config = config or ExtractConfig()
    size = estimated_bytes(n_cells, backbone, config)
    each = {"float16": "2 bytes", "bfloat16": "2 bytes", "uint8": "1 byte + 8 bytes a token"}[config.dtype]
    total = f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.0f} MB"
    return f"{n_cells:,} cells x {backbone.n_tokens} x {backbone.width} x {each} = {total}"


def recipe_for(backbone: AnyBackbone, config: ExtractConfig) -> Recipe:
    """What decides the stored numbers: compare ``.fingerprint`` with a manifest's ``recipe``."""
    # Named only where there is one, so that stores which were made before there was a choice keep their recipe.
    stain = {} if config.stain == "none" else {"stain": config.stain}
    return Recipe(
        backbone={**to_plain(backbone.describe()), **stain},
        weights_hash=backbone.weights_hash,
        n_tokens=backbone.n_tokens,
        width=backbone.width,
        side=side_of(backbone.grid),
        dtype=config.dtype,
        precision=config.precision,
    )


class _Ranks:
    """This process among its ranks; the only one where there is no Fabric."""

    def __init__(self, fabric: Fabric | None) -> None:
        self.rank = fabric.global_rank if fabric else 0
        self.size = fabric.world_size if fabric else 1
        self._fabric = fabric

    def first(self, act: Callable[[], Any]) -> Any:
        """Run ``act`` on rank 0 and give its result, or its error, to all ranks."""
        result, error = None, None
        if self.rank == 0:
            try:
                result = act()
            except Exception as problem:  # raised below, once the other ranks know
                error = problem
        if self._fabric is not None and self.size > 1:
            sentence = None if error is None else str(error)
            result, sentence = self._fabric.broadcast((result, sentence), src=0)
            if sentence is not None and error is None:
                error = ArtifactError(sentence)
        if error is not None:
            raise error
        return result

    def wait(self) -> None:
        """Until all ranks are here."""
        if self._fabric is not None and self.size > 1:
            self._fabric.barrier()

    def device(self, backbone: AnyBackbone) -> torch.device:
        """Where this rank computes."""
        return self._fabric.device if self._fabric is not None else backbone.device


def _is_current(work: Work, config: ExtractConfig, inputs: Mapping[str, str]) -> bool:
    """Whether the wanted store stands there undamaged; the record of the request is renewed where it differs."""
    out = work.out
    if not out.exists():
        return False
    try:
        artifact, store = read_artifact(out, "tokens"), open_tokens(out, verify=False)
        cell_ids = store.cell_ids
    except NewerArtifactError:
        raise
    except ArtifactError as problem:
        if not _is_store(out):
            raise ArtifactError(
                f"{out} exists and is no token store of cytosae; remove it or choose another place."
            ) from problem
        return False  # damaged: what is whole in it is used again
    wanted = [cell for shard in work.shards for cell in shard.cell_ids]
    asked = (work.recipe.fingerprint, config.shard_cells, wanted)
    if (store.manifest["recipe"], store.manifest["shard_cells"], cell_ids) != asked:
        return False
    if (artifact.config, artifact.inputs) != (to_plain(config), dict(inputs)):
        renew_record(artifact, config=config, inputs=inputs)
    work.clear()
    return True


def _is_store(out: Path) -> bool:
    with suppress(ArtifactError):
        return read_record(Record, record_path(out), "")["kind"] == "tokens"
    return (out / MANIFEST).is_file()


def _begin(work: Work) -> None:
    work.tidy()
    finished = work.finished(work.shards, verify=False)
    work.check_space(sum(len(shard.cell_ids) for shard in work.shards if shard.index not in finished))


def _make_shards(work: Work, cells: CellTable, backbone: AnyBackbone, config: ExtractConfig, ranks: _Ranks) -> None:
    """Make this rank's shards that are not there yet; one is written while the next is computed."""
    mine = work.shards[ranks.rank :: ranks.size]
    finished = work.finished(mine, verify=True)
    todo = [shard for shard in mine if shard.index not in finished]
    known = KnownRows(work, {cell for shard in todo for cell in shard.cell_ids})
    missing = [known.missing(shard) for shard in todo]
    batches = [
        [shard.start + row for row in rows[first : first + config.batch_size]]
        for shard, rows in zip(todo, missing, strict=True)
        for first in range(0, len(rows), config.batch_size)
    ]
    forward = Forward(backbone, config, ranks.device(backbone))
    tokens = forward.over(cells, batches)
    total, left = (sum(len(shard.cell_ids) for shard in some) for some in (mine, todo))
    bar = progress(f"Extracting tokens of {cells.name}", total, "cells", done=total - left)
    with bar as shown:
        filled = (
            (shard, _fill_shard(work, shard, rows, known, tokens, shown))
            for shard, rows in zip(todo, missing, strict=True)
        )
        for _ in one_ahead(lambda made: work.write(*made), filled):
            pass


def _fill_shard(
    work: Work, shard: Shard, missing: Sequence[int], known: KnownRows, tokens: Iterator[torch.Tensor], bar: Bar
) -> Planes:
    """Stored tensors [n, T, ...] of one shard: known rows copied, the others taken from ``tokens`` in order."""
    n, T = len(shard.cell_ids), work.recipe.n_tokens
    encoding = encoding_of(work.recipe.dtype)
    flat = allocate(encoding, (n * T,), work.recipe.width)
    planes = {name: plane.view(n, T, *plane.shape[1:]) for name, plane in flat.items()}
    if len(missing) < n:
        known.copy(shard, T, flat)
        bar.advance(n - len(missing))
    done = 0
    while done < len(missing):
        batch = next(tokens)
        rows = torch.tensor(missing[done : done + len(batch)])
        for name, stored in encoding.encode(batch).items():
            planes[name][rows] = stored.cpu()
        done += len(batch)
        bar.advance(len(batch))
    return planes


class Forward:
    """The backbone at work on the cells of a table.

    Attributes
    ----------
    backbone : AnyBackbone
        Moved to ``device``.
    config : ExtractConfig
        Precision, compile, storage type and workers are used; batches are the caller's, of ``batch_size`` at most.
    device : device
        Where it computes.
    """

    backbone: AnyBackbone

    def __init__(self, backbone: AnyBackbone, config: ExtractConfig, device: torch.device) -> None:
        self.backbone = backbone.to(device)
        self.config = config
        self.device = device
        self._compute = compiled_forward(self.backbone, config.batch_size) if config.compile else self.backbone
        self._limit = encoding_of(config.dtype).limit

    def over(
        self,
        cells: CellTable,
        batches: Sequence[Sequence[int]],
        *,
        changed: bool = False,
        change: Callable[[Any, Any], Any] | None = None,
    ) -> Iterator[torch.Tensor]:
        """Tokens float32 [b, T, D] of each batch of rows; every value is finite and can be stored.

        With ``changed``, the stain of each image is changed before anything else (`change_stain`); with ``change``,
        (image, mask or None) -> image, each image is what that makes of it, before its stain is normalised.
        """
        prepare = prepare_stained(self.backbone.prepare, self.config.stain)
        prepare = ChangedPrepare(prepare) if changed else prepare
        images = prepared_batches(cells, prepare, batches, workers=self.config.workers, change=change)
        for rows, batch in zip(batches, images, strict=True):
            tokens = self(batch)
            self._check(tokens, cells, rows)
            yield tokens

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Tokens float32 [b, T, D] of prepared images [b, 3, S, S]."""
        low = self.config.precision == "bfloat16"
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=low):
            return self._compute(images.to(self.device, non_blocking=True)).float()

    def _check(self, tokens: torch.Tensor, cells: CellTable, rows: Sequence[int]) -> None:
        largest = largest_magnitude(tokens)
        storable = largest <= self._limit  # False for NaN
        if storable.all():
            return
        first = int(storable.logical_not().nonzero()[0])
        value, image = float(largest[first]), cells.image_path(rows[first])
        if not math.isfinite(value):
            raise InputError(f"The tokens of {image} are not finite; check the image and the backbone's weights.")
        raise InputError(
            f"The tokens of {image} reach {value:,.0f}, too large for {self.config.dtype} "
            f"(at most {self._limit:,.0f}); store them as bfloat16."
        )
