"""What is computed on latents that are split over ranks: each rank's part, and the exchanges between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard

from cytosae.sae.model.encoder import activate
from cytosae.sae.model.interface import Above, Rule, TopPerToken, Weights
from cytosae.sae.model.sparse import Activations, Pattern, SparseActivations, score_active
from cytosae.sae.screening.paths import Screening


def activate_sharded(sae: Weights, x: Tensor, rule: Rule, latents: Tensor | None) -> ShardedActivations:
    """`encoder.activate` where the latents are split: this rank's part of the activations that ``rule`` chooses.

    `TopPerToken` and `TopOfBatch` are exact: a latent among the k best of all is among the k best of its rank, so the
    ranks exchange the scores of their k candidates, and each keeps those that are among the best of all.
    """
    part = _Part.of(sae)
    chosen = None if latents is None else part.inside(latents)
    if isinstance(rule, Above):
        threshold = rule.threshold
        rule = Above(threshold.to_local() if isinstance(threshold, DTensor) else threshold)
        return ShardedActivations(activate(part, x, rule, latents=chosen), part)
    if chosen is not None and not len(chosen):
        # no candidate here; still a node of the graph, whose backward pass joins the other ranks' exchange
        pattern = Pattern(chosen, chosen.new_zeros(len(x) + 1), part.count)
        values = score_active(x.new_zeros(0), x, part.W_enc, part.b_enc, part.b_dec, pattern)
        local = SparseActivations(values, pattern)
    else:
        local = cast(SparseActivations, activate(part, x, rule, latents=chosen))
    offsets = local.pattern.offsets
    by_token = isinstance(rule, TopPerToken)
    groups, k = (offsets, rule.k) if by_token else (offsets[[0, -1]], rule.k * len(x))
    return ShardedActivations(local.keep(_among_the_best(local.values.detach(), groups, k, part.mesh)), part)


def ghost_direction(sae: Weights, x: Tensor, dead: Tensor) -> Tensor:
    """exp(scores of the ``dead`` latents) times their decoder rows, (N, d), summed over the ranks."""
    part = _Part.of(sae)
    here = part.inside(dead)
    scores = torch.addmm(part.b_enc[here], x - part.b_dec, part.W_enc.T[here].T)
    return _sum_over_ranks(scores.exp() @ part.W_dec[here], part.mesh)


@dataclass(frozen=True, eq=False)
class _Part:
    """The latents ``start`` to ``start + count`` - 1, as ordinary tensors through which gradients reach the shards."""

    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    start: int
    count: int
    mesh: DeviceMesh

    @classmethod
    def of(cls, sae: Weights) -> _Part:
        encoder, bias, decoder = (cast(DTensor, tensor) for tensor in (sae.W_enc, sae.b_enc, sae.W_dec))
        mesh = encoder.device_mesh
        count = sae.d_sae // mesh.size()
        # each rank knows only its latents' share of the gradient of b_dec: the backward pass adds them up
        shared = DTensor.from_local(sae.b_dec, mesh, [Replicate()], run_check=False).to_local(
            grad_placements=[Partial()]
        )
        parts = (encoder.to_local(), bias.to_local(), decoder.to_local())
        return cls(*parts, shared, mesh.get_local_rank() * count, count, mesh)

    @property
    def d_sae(self) -> int:
        return self.count

    @property
    def screening(self) -> Screening:
        """Shares of a dictionary are searched by dense products."""
        return Screening("dense")

    def inside(self, latents: Tensor) -> Tensor:
        """Those of ``latents`` that lie here, counted from the first one here."""
        return latents[(latents >= self.start) & (latents < self.start + self.count)] - self.start


@dataclass(frozen=True, eq=False)
class ShardedActivations:
    """This rank's part of the activations; figures and reconstructions are those of all ranks together.

    The same face as `sparse.SparseActivations`; tensors of all latents that are passed in are sharded ones.
    """

    local: Activations
    part: _Part

    def decode(self, W_dec: Tensor) -> Tensor:
        """(N, d), the sum over all ranks' latents."""
        return _sum_over_ranks(self.local.decode(cast(DTensor, W_dec).to_local()), self.part.mesh)

    def map(self, function: Callable[..., Tensor], *per_latent: Tensor) -> ShardedActivations:
        """Apply ``function(values, *per_latent)`` entry by entry."""
        mine = (tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in per_latent)
        return ShardedActivations(self.local.map(function, *mine), self.part)

    def total(self) -> Tensor:
        """Sum of all values."""
        return _sum_over_ranks(self.local.total(), self.part.mesh)

    def active(self) -> int:
        """How many values are > 0."""
        return int(_sum_over_ranks(torch.tensor(self.local.active(), device=self.part.b_dec.device), self.part.mesh))

    def fired(self) -> Tensor:
        """(m,) bool on every rank: the latents that are > 0 on any of the tokens."""
        fired = self.local.fired().to(torch.uint8)
        return DTensor.from_local(fired, self.part.mesh, [Shard(0)], run_check=False).full_tensor() > 0

    def smallest(self) -> Tensor:
        """The smallest value, () without gradient; infinite where there is none."""
        return _over_ranks(self.local.smallest(), self.part.mesh, "min")

    def latents(self, start: int, stop: int) -> ShardedActivations:
        """Only the entries of the latents ``start`` to ``stop`` - 1 of all."""
        first = self.part.start
        inside = (min(max(edge - first, 0), self.part.count) for edge in (start, stop))
        return ShardedActivations(self.local.latents(*inside), self.part)

    def to_dense(self) -> Tensor:
        """(N, m) on every rank; for looking at small ones."""
        dense = DTensor.from_local(self.local.to_dense(), self.part.mesh, [Shard(1)], run_check=False)
        return dense.full_tensor()


def _sum_over_ranks(tensor: Tensor, mesh: DeviceMesh) -> Tensor:
    """Sum of all ranks' tensors, on every rank; the gradient goes to each as it is."""
    return _over_ranks(tensor, mesh, "sum")


def _over_ranks(tensor: Tensor, mesh: DeviceMesh, operation: str) -> Tensor:
    partial = DTensor.from_local(tensor, mesh, [Partial(operation)], run_check=False)
    return partial.redistribute(placements=[Replicate()]).to_local()


def _among_the_best(values: Tensor, offsets: Tensor, k: int, mesh: DeviceMesh) -> Tensor:
    """(nnz,) bool: which of this rank's positive values are among the ``k`` largest of all ranks, group by group.

    ``offsets`` (G + 1,) bounds the groups, at most k values each. Equal values: the lower rank has precedence, as the
    lower index has on one device, and all ranks decide alike, since all look at the same numbers.
    """
    counts = offsets.diff()
    group = torch.arange(len(counts), device=values.device).repeat_interleave(counts)
    place = torch.arange(len(values), device=values.device) - offsets[group]
    mine = values.new_zeros(len(counts), k)
    mine[group, place] = values
    all_ranks = DTensor.from_local(mine, mesh, [Shard(1)], run_check=False).full_tensor()
    best = torch.topk(all_ranks, k, dim=1, sorted=False).indices
    chosen = torch.zeros_like(all_ranks, dtype=torch.bool).scatter_(1, best, value=True)
    start = mesh.get_local_rank() * k
    return chosen[:, start : start + k][group, place]
