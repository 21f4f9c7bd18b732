"""Latent parallel: a dictionary wider than one device, split over the latents with torch's DTensor.

Each of R ranks holds m / R latents: columns of W_enc, entries of b_enc, rows of W_dec (and their gradients and moments)
are `DTensor` parameters with one shard a rank; b_dec is replicated. All ranks see the same tokens. A step exchanges the
reconstruction (N, d), for TopK the candidates (N, R k), and the gradient of b_dec (d,): nothing of size m, and nothing
of size N x m. What the variants, the objective and the trainer compute is the same as on one device.
"""

from __future__ import annotations

from typing import TypeGuard, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Shard

from cytosae.common.errors import UsageError
from cytosae.common.ranks import leave_at_exit
from cytosae.sae.model.autoencoder import SparseAutoencoder
from cytosae.sae.model.choices import FromData

LATENT_DIMENSION = {"W_enc": 1, "b_enc": 0, "W_dec": 0}
"""The dimension of each parameter that runs over the latents; of what a variant trains it is the first."""


def shard_latents(sae: SparseAutoencoder, mesh: DeviceMesh | None = None) -> SparseAutoencoder:
    """Split the latents of ``sae``, the same on all ranks, over ``mesh``, in place; returns ``sae``.

    Do this before the `Trainer` is made (its optimizer then holds moments of the shard alone). Every rank has to go
    through the same steps with the same tokens.

    Parameters
    ----------
    sae : SparseAutoencoder
        Its number of latents must be a multiple of the ranks.
    mesh : DeviceMesh or None
        One-dimensional; all ranks by default (``torchrun`` and Slurm set what ``torch.distributed`` needs).
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
    parts: list[tuple[nn.Module, str, int]] = [(sae, name, dimension) for name, dimension in LATENT_DIMENSION.items()]
    parts += [(sae.state, name, 0) for name, tensor in sae.state.named_parameters() if len(tensor) == sae.d_sae]
    for module, name, dimension in parts:
        parameter = getattr(module, name)
        if not is_sharded(parameter):
            setattr(module, name, nn.Parameter(scatter(parameter.detach(), mesh, dimension)))
    return sae


def gather_latents(sae: SparseAutoencoder) -> SparseAutoencoder:
    """The whole SAE on the CPU, an ordinary one that can be saved; all ranks have to call this together."""
    whole = SparseAutoencoder(sae.d_in, sae.d_sae, sae.sparsity, sae.normalisation, initialisation=sae.initialisation)
    whole.load_state_dict({name: full(tensor).detach().cpu() for name, tensor in sae.state_dict().items()})
    whole.seed = sae.seed
    return whole.train(sae.training)


def latent_mesh(device: torch.device | str = "cpu") -> DeviceMesh:
    """All ranks in one row; joins the process group if that has not happened yet."""
    kind = torch.device(device).type
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if kind == "cuda" else "gloo")
        leave_at_exit()
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
