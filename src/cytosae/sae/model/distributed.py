"""Latent parallel: a dictionary wider than one device, split over the latents with torch's DTensor.

Each of R ranks holds m / R latents: columns of W_enc, entries of b_enc, rows of W_dec (and their gradients and moments)
are `DTensor` parameters with one shard a rank; b_dec is replicated. All ranks see the same tokens. A step exchanges the
reconstruction (N, d), for TopK the candidates (N, R k), and the gradient of b_dec (d,): nothing of size m, and nothing
of size N x m. What the variants, the objective and the trainer compute is the same as on one device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard

from cytosae.common.errors import UsageError
from cytosae.sae.model.sparse import Activations, Pattern, SparseActivations, score_active
from cytosae.sae.screening.paths import Screening
from cytosae.sae.training.initialisation import FromData

if TYPE_CHECKING:
    from cytosae.sae.model.autoencoder import SparseAutoencoder
    from cytosae.sae.model.encoder import Rule

LATENT_DIMENSION = {"W_enc": 1, "b_enc": 0, "W_dec": 0, "state.log_threshold": 0}
"""The dimension of each parameter that runs over the latents."""


def shard_latents(sae: SparseAutoencoder, mesh: DeviceMesh | None = None) -> SparseAutoencoder:
    """Split the latents of ``sae``, the same on all ranks, over ``mesh``, in place; returns ``sae``.

    Do this before the `Trainer` is made (its optimizer then holds moments of the shard alone). Every rank has to go
    through the same steps with the same tokens.

    Parameters
    ----------
    sae : its number of latents must be a multiple of the ranks
    mesh : one-dimensional; all ranks by default (``torchrun`` and Slurm set what ``torch.distributed`` needs)
    """
    mesh = mesh or latent_mesh(sae.b_dec.device)
    ranks = mesh.size()
    if isinstance(sae.initialisation, FromData):
        raise UsageError(
            "weights that start from data cannot be split over ranks before that; choose Independent or Tied."
        )
    if mesh.ndim != 1 or sae.d_sae % ranks:
        raise UsageError(
            f"{sae.d_sae} latents cannot be split evenly over a mesh of shape {tuple(mesh.shape)}; choose a d_sae "
            "that is a multiple of the ranks, on a one-dimensional mesh."
        )
    for name, dimension in LATENT_DIMENSION.items():
        owner, _, short = name.rpartition(".")
        module = sae.get_submodule(owner)
        parameter = getattr(module, short, None)
        if parameter is not None and not is_sharded(parameter):
            setattr(module, short, nn.Parameter(scatter(parameter.detach(), mesh, dimension)))
    return sae


def gather_latents(sae: SparseAutoencoder) -> SparseAutoencoder:
    """The whole SAE on the CPU, an ordinary one that can be saved; all ranks have to call this together."""
    from cytosae.sae.model.autoencoder import SparseAutoencoder

    whole = SparseAutoencoder(sae.d_in, sae.d_sae, sae.sparsity, sae.normalisation, initialisation=sae.initialisation)
    whole.load_state_dict({name: full(tensor).detach().cpu() for name, tensor in sae.state_dict().items()})
    whole.seed = sae.seed
    return whole.train(sae.training)


def latent_mesh(device: torch.device | str = "cpu") -> DeviceMesh:
    """All ranks in one row; joins the process group if that has not happened yet."""
    kind = torch.device(device).type
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if kind == "cuda" else "gloo")
    return init_device_mesh(kind, (torch.distributed.get_world_size(),), mesh_dim_names=("latents",))


def is_sharded(tensor: Tensor | None) -> TypeGuard[DTensor]:
    """Whether the tensor is split over ranks."""
    return isinstance(tensor, DTensor)


def full(tensor: Tensor) -> Tensor:
    """The whole tensor: collective where it is sharded, itself where it is not."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def scatter(tensor: Tensor, mesh: DeviceMesh, dimension: int) -> DTensor:
    """This rank's part of a tensor that all ranks hold; keeps its layout in memory (W_enc lies latent by latent)."""
    count = tensor.shape[dimension] // mesh.size()
    part = tensor.narrow(dimension, mesh.get_local_rank() * count, count).clone(memory_format=torch.preserve_format)
    return DTensor.from_local(
        part, mesh, [Shard(dimension)], run_check=False, shape=tensor.shape, stride=tensor.stride()
    )


def copy_into(target: Tensor, source: Tensor) -> None:
    """Copy a whole tensor into one that may be sharded."""
    if is_sharded(target):
        placement = cast(Shard, target.placements[0])
        target.to_local().copy_(scatter(source, target.device_mesh, placement.dim).to_local())
    else:
        target.copy_(source)


def parameter_groups(parameters: Iterable[nn.Parameter]) -> list[dict[str, Any]]:
    """Groups for an optimizer: its fused kernels take sharded and ordinary tensors, but not in one call."""
    groups: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
    for parameter in parameters:
        groups[is_sharded(parameter)].append(parameter)
    return [{"params": group} for group in groups if group]


# --- what the encoder and the objective do on shards -----------------------------------------------------------------


def activate_sharded(sae: SparseAutoencoder, x: Tensor, rule: Rule, latents: Tensor | None) -> ShardedActivations:
    """`encoder.activate` where the latents are split: this rank's part of the activations that ``rule`` chooses.

    `TopPerToken` and `TopOfBatch` are exact: a latent among the k best of all is among the k best of its rank, so the
    ranks exchange the scores of their k candidates, and each keeps those that are among the best of all.
    """
    from cytosae.sae.model.encoder import Above, TopPerToken, activate  # the encoder hands over to this module

    part = _Part.of(sae)
    chosen = None if latents is None else part.inside(latents)
    if isinstance(rule, Above):
        threshold = rule.threshold
        rule = Above(threshold.to_local() if isinstance(threshold, DTensor) else threshold)
        return ShardedActivations(activate(part.as_sae(), x, rule, latents=chosen), part)
    if chosen is not None and not len(chosen):
        # no candidate here; still a node of the graph, whose backward pass joins the other ranks' exchange
        pattern = Pattern(chosen, chosen.new_zeros(len(x) + 1), part.count)
        values = score_active(x.new_zeros(0), x, part.W_enc, part.b_enc, part.b_dec, pattern)
        local = SparseActivations(values, pattern)
    else:
        local = cast(SparseActivations, activate(part.as_sae(), x, rule, latents=chosen))
    offsets = local.pattern.offsets
    by_token = isinstance(rule, TopPerToken)
    groups, k = (offsets, rule.k) if by_token else (offsets[[0, -1]], rule.k * len(x))
    return ShardedActivations(local.keep(_among_the_best(local.values.detach(), groups, k, part.mesh)), part)


def ghost_direction(sae: SparseAutoencoder, x: Tensor, dead: Tensor) -> Tensor:
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
    def of(cls, sae: SparseAutoencoder) -> _Part:
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

    def as_sae(self) -> SparseAutoencoder:
        """What `encoder.activate` needs of an autoencoder: the weights and their number."""
        return cast("SparseAutoencoder", self)

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
