"""One SAE in training: objective, optimizer and the counters that belong to it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cytosae.sae.model.autoencoder import SparseAutoencoder
from cytosae.sae.model.encoder import is_split
from cytosae.sae.screening.backend import has_kernels
from cytosae.sae.screening.paths import Screening
from cytosae.sae.screening.update import RowUpdate
from cytosae.sae.training.config import TrainConfig
from cytosae.sae.training.dead_latents import ghost_loss
from cytosae.sae.training.schedule import rate_factor

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class StepLog:
    """What one step of one SAE measured, on its batch and before the update.

    Attributes
    ----------
    mse : float
        Reconstruction term as the variant defines it.
    l1 : float
        Sparsity penalty (of `ReluL1` the L1, of `JumpRelu` the L0 penalty; 0 where sparsity is built in).
    ghost : float
        Dead-latent term (ghost gradients, or AuxK).
    loss : float
        Their sum.
    l0 : float
        Mean number of active latents of a token.
    dead : int
        Latents that had not fired for more than the dead window.
    explained_variance : float
        Of the batch, in normalised units.
    learning_rate : float
        Of this step.
    """

    mse: float
    l1: float
    ghost: float
    loss: float
    l0: float
    dead: int
    explained_variance: float
    learning_rate: float


class Objective(nn.Module):
    """The loss as a module's forward pass, so that Fabric's strategies can wrap it."""

    sae: SparseAutoencoder
    ghost_gradients: bool

    def __init__(self, sae: SparseAutoencoder, *, ghost_gradients: bool) -> None:
        super().__init__()
        self.sae, self.ghost_gradients = sae, ghost_gradients

    def forward(self, x: Tensor, dead: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Loss (), terms and sums [mse, penalty, auxiliary, active, squared error] (5,), fired latents (m,) bool."""
        losses = self.sae.sparsity.losses(self.sae, x, dead)
        auxiliary = losses.auxiliary
        residual = (losses.reconstruction - x if losses.residual is None else losses.residual).detach()
        if self.ghost_gradients and dead is not None:
            error = residual.square() if losses.error is None else losses.error
            auxiliary = auxiliary + ghost_loss(self.sae, x, losses.reconstruction, error, dead)
        loss = losses.mse + losses.penalty + auxiliary
        active = loss.new_full((), losses.activations.active())
        squared = torch.linalg.vector_norm(residual).square()
        terms = torch.stack([losses.mse, losses.penalty, auxiliary, active, squared]).detach()
        return loss, terms, losses.activations.fired()


class Optimisation:
    """Steps one SAE on normalised tokens; owns its optimizer and dead counters.

    Parameters
    ----------
    sae : SparseAutoencoder
        Trained in place.
    config : TrainConfig
        Of the training.
    fabric : Fabric or None
        Where to compute; None for plain PyTorch on the SAE's device.
    """

    sae: SparseAutoencoder
    config: TrainConfig
    fabric: Fabric | None
    steps: int
    since_fired: Tensor
    fused: bool
    split: bool
    adam: torch.optim.Adam

    def __init__(self, sae: SparseAutoencoder, config: TrainConfig, fabric: Fabric | None = None) -> None:
        self.sae, self.config, self.fabric = sae, config, fabric
        self.steps = 0
        self.module: nn.Module = Objective(sae, ghost_gradients=config.ghost_gradients)
        if fabric is not None:
            sae.to(fabric.device)
        self.since_fired = torch.zeros(sae.d_sae, dtype=torch.int64, device=sae.b_enc.device)
        self.fused = config.fused_adam and sae.b_enc.device.type in ("cpu", "cuda")
        self.split = is_split(sae.W_enc)
        sae.screening = Screening(config.path)
        self._rows: RowUpdate | None = None
        self.adam = torch.optim.Adam(
            _parameter_groups(sae), lr=config.learning_rate, betas=config.betas, eps=config.epsilon, fused=self.fused
        )
        self._optimizer: Any = self.adam
        if fabric is not None:
            self.module, self._optimizer = fabric.setup(self.module, self.adam)

    def step(self, x: Tensor) -> StepLog:
        """One update on (N, d) normalised tokens."""
        config, sae = self.config, self.sae
        rate = config.learning_rate * rate_factor(
            config.schedule, self.steps, steps=config.steps, warmup_steps=config.warmup_steps
        )
        for group in self.adam.param_groups:
            group["lr"] = rate
        update = self._row_update(x)
        if update is None:
            sae.normalise_decoder()
        dead = self.dead.nonzero()[:, 0]
        with nullcontext() if update is None else update.listen():
            loss, terms, fired = self.module(x, dead if len(dead) else None)
            if self.fabric is None:
                loss.backward()
            else:
                self.fabric.backward(loss)
        if update is not None:
            update.finish()
        self._shape_gradients()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._count(fired)
        self._share_thresholds()
        self.steps += 1
        return self._log(x, self._mean_over_ranks(terms), len(dead), rate)

    def _row_update(self, x: Tensor) -> RowUpdate | None:
        """The fused update where latents are screened; None where whole gradients are needed (ranks, clipping)."""
        ranks = 1 if self.fabric is None else self.fabric.world_size
        if self.split or ranks > 1 or self.config.gradient_clip is not None or self._compiled():
            return None
        if self.sae.screening.screen_for(x, self.sae.W_enc.detach().T) is None or not has_kernels(x.device):
            return None
        self._rows = self._rows or RowUpdate(self.sae.W_enc, self.sae.W_dec, self.adam)
        return self._rows

    def _compiled(self) -> bool:
        """Whether torch.compile has the objective: what a listener takes in would be a side effect of its graph."""
        if self.fabric is None:
            return False
        from cytosae.common.runtime import CompilingFabric

        return isinstance(self.fabric, CompilingFabric)

    @property
    def dead(self) -> Tensor:
        """(m,) bool: silent for more than the dead window."""
        return self.since_fired > self.config.dead_window

    def finite(self) -> bool:
        """Whether every parameter is a finite number."""
        return all(bool(torch.isfinite(p.detach().sum())) for p in self.sae.parameters())

    def tensors(self) -> dict[str, Tensor]:
        """Everything a resumption needs, by name: weights, buffers, Adam's moments, dead counters."""
        tensors = {f"sae.{name}": tensor for name, tensor in self.sae.state_dict().items()}
        for name, parameter in self.sae.named_parameters():
            for key, value in self.adam.state.get(parameter, {}).items():
                tensors[f"optimizer.{name}.{key}"] = value
        tensors["since_fired"] = self.since_fired
        tensors["steps"] = torch.tensor(self.steps)
        return {name: _whole(tensor).detach().cpu().contiguous() for name, tensor in tensors.items()}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Inverse of `tensors`."""
        weights = {name.removeprefix("sae."): t for name, t in tensors.items() if name.startswith("sae.")}
        shards = {name: p for name, p in self.sae.named_parameters() if is_split(p)}
        self.sae.load_state_dict({name: t for name, t in weights.items() if name not in shards}, strict=not shards)
        for name, parameter in shards.items():
            _copy_into(parameter.detach(), weights[name])
        for name, parameter in self.sae.named_parameters():
            prefix = f"optimizer.{name}."
            state = {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
            if state:
                self.adam.state[parameter] = {key: self._placed(key, t, parameter) for key, t in state.items()}
        self.since_fired.copy_(tensors["since_fired"])
        self.steps = int(tensors["steps"])

    def _placed(self, key: str, tensor: Tensor, parameter: Tensor) -> Tensor:
        if key == "step":
            return tensor.to(parameter.device) if self.fused else tensor
        # moments must lie in memory as their parameter does: the fused optimizer walks both in storage order
        moment = torch.empty_like(parameter).detach()
        _copy_into(moment, tensor)
        return moment

    @torch.no_grad()
    def _shape_gradients(self) -> None:
        """Take out the part parallel to each decoder row, keep memory layouts equal, clip."""
        gradient, W_dec = self.sae.W_dec.grad, self.sae.W_dec
        if gradient is not None:
            parallel = torch.linalg.vecdot(gradient, W_dec)
            gradient.addcmul_(W_dec, parallel[:, None], value=-1)
        for parameter in self.sae.parameters():
            if parameter.grad is not None and parameter.grad.stride() != parameter.stride():
                parameter.grad = torch.empty_like(parameter).copy_(parameter.grad)
        if self.config.gradient_clip is not None:
            self._clip(self.config.gradient_clip)

    def _clip(self, limit: float) -> None:
        groups = [group["params"] for group in self.adam.param_groups]
        norms = [nn.utils.get_total_norm([p.grad for p in group if p.grad is not None]) for group in groups]
        total = torch.linalg.vector_norm(torch.stack([_whole(norm) for norm in norms]))
        for group in groups:
            nn.utils.clip_grads_with_norm_(group, limit, total)

    def _count(self, fired: Tensor) -> None:
        if self.fabric is not None and self.fabric.world_size > 1:
            fired = self.fabric.all_reduce(fired.to(torch.float32), reduce_op="sum") > 0  # pyright: ignore
        self.since_fired += 1
        self.since_fired[fired] = 0

    @torch.no_grad()
    def _share_thresholds(self) -> None:
        """Bring what the ranks learned from their own tokens (BatchTopK's threshold) to the mean over the ranks."""
        for buffer in self.sae.state.buffers():
            buffer.copy_(self._mean_over_ranks(buffer))

    def _mean_over_ranks(self, terms: Tensor) -> Tensor:
        if self.fabric is None or self.fabric.world_size == 1:
            return terms
        return self.fabric.all_reduce(terms, reduce_op="mean")  # pyright: ignore[reportReturnType]

    def _log(self, x: Tensor, terms: Tensor, dead: int, rate: float) -> StepLog:
        mse, penalty, auxiliary, active, squared = terms.tolist()
        mean = self._mean_over_ranks(x.mean(0))
        # in parts on a CPU, where fresh memory for all tokens costs more than the arithmetic
        squares = [torch.linalg.vector_norm(p - mean).square() for p in x.split(len(x) if x.is_cuda else 512)]
        variance = float(self._mean_over_ranks(torch.stack(squares).sum()))
        return StepLog(
            mse=mse,
            l1=penalty,
            ghost=auxiliary,
            loss=mse + penalty + auxiliary,
            l0=active / len(x),
            dead=dead,
            explained_variance=1 - squared / variance if variance > 0 else float("nan"),
            learning_rate=rate,
        )


def _parameter_groups(sae: SparseAutoencoder) -> list[dict[str, Any]]:
    """One group, or two: the fused optimizer takes split and ordinary tensors, but not in one call."""
    groups = ([p for p in sae.parameters() if is_split(p) == split] for split in (False, True))
    return [{"params": group} for group in groups if group]


def _whole(tensor: Tensor) -> Tensor:
    """All of a tensor that may be split over ranks; then every rank has to ask."""
    if not is_split(tensor):
        return tensor
    from cytosae.sae.model.distributed import full

    return full(tensor)


def _copy_into(target: Tensor, source: Tensor) -> None:
    if not is_split(target):
        target.copy_(source)
        return
    from cytosae.sae.model.distributed import copy_into

    copy_into(target, source)
