"""The sparse autoencoder: parameters, encoding and decoding; what it is trained for lies in its sparsity."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Generator, Tensor, nn

from cytosae.common.artifact import digest
from cytosae.common.configuration import to_plain
from cytosae.common.errors import UsageError
from cytosae.sae.model.choices import FromData, Independent, Initialisation, NoNormalisation, Normalisation
from cytosae.sae.model.encoder import activate, is_split
from cytosae.sae.model.interface import Rule
from cytosae.sae.model.sparse import Activations, csr
from cytosae.sae.model.token_normalisation import Normaliser
from cytosae.sae.screening.paths import Screening
from cytosae.sae.training.initialisation import initial_weights, weights_from_data
from cytosae.sae.variants.relu_l1 import ReluL1
from cytosae.sae.variants.sparsity import Sparsity

SPARSE_BLOCK = 4096
"""Tokens that `SparseAutoencoder.encode_sparse` takes at a time on a CPU."""
GPU_BLOCK = 32_768
"""The same on a GPU."""


class SparsityState(nn.Module):
    """Tensors that a sparsity owns (a threshold); empty for most."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Tensor: ...

    def __init__(self, sparsity: Sparsity, d_sae: int) -> None:
        super().__init__()
        for name, tensor in sparsity.state(d_sae).items():
            if isinstance(tensor, nn.Parameter):
                self.register_parameter(name, tensor)
            else:
                self.register_buffer(name, tensor)


class SparseAutoencoder(nn.Module):
    """x^ = a W_dec + b_dec with sparse a = f((x - b_dec) W_enc + b_enc), in normalised units.

    Parameters ``W_enc`` (d, m), ``b_enc`` (m,), ``W_dec`` (m, d), ``b_dec`` (d,), float32. The encoder lies in memory
    latent by latent (``W_enc.T`` is contiguous), because gradients and gathers touch single latents.

    Parameters
    ----------
    d_in : int
        d, width of a token.
    d_sae : int
        m, number of latents.
    sparsity : Sparsity or None
        The variant with its parameters.
    normalisation : Normalisation or None
        What is done to tokens before encoding and undone after decoding; fitted by the trainer.
    initialisation : Initialisation or None
        Where the weights start.
    seed : int
        Of the initial weights.

    Attributes
    ----------
    level : dict of str to object or None
        The tokens it was trained on (weights and block of the backbone, preprocessing, grid, stain), where known;
        atlases and maps refuse others.

    Examples
    --------
    >>> import torch
    >>> from cytosae.sae import SparseAutoencoder, TopK
    >>> sae = SparseAutoencoder(8, 32, TopK(k=4))
    >>> x = torch.ones(5, 8)
    >>> sae.encode(x).shape, sae(x).shape
    (torch.Size([5, 32]), torch.Size([5, 8]))
    """

    d_in: int
    d_sae: int
    seed: int
    W_enc: nn.Parameter
    b_enc: nn.Parameter
    W_dec: nn.Parameter
    b_dec: nn.Parameter
    state: SparsityState
    screening: Screening
    normaliser: Normaliser
    level: dict[str, Any] | None

    def __init__(
        self,
        d_in: int,
        d_sae: int,
        sparsity: Sparsity | None = None,
        normalisation: Normalisation | None = None,
        *,
        initialisation: Initialisation | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if d_in < 1 or d_sae < 1:
            raise UsageError(f"a sparse autoencoder needs d_in and d_sae of at least 1, not {d_in} and {d_sae}.")
        self.d_in, self.d_sae, self.seed = d_in, d_sae, seed
        self.level = None
        self.sparsity: Sparsity = sparsity or ReluL1()
        self.normalisation: Normalisation = normalisation or NoNormalisation()
        self.initialisation: Initialisation = initialisation or Independent()
        self.sparsity.check(d_in, d_sae)
        encoder, decoder = initial_weights(d_in, d_sae, self.initialisation, Generator().manual_seed(seed))
        self.W_enc = nn.Parameter(encoder.T)
        self.b_enc = nn.Parameter(torch.zeros(d_sae))
        self.W_dec = nn.Parameter(decoder)
        self.b_dec = nn.Parameter(torch.zeros(d_in))
        self.state = SparsityState(self.sparsity, d_sae)
        self.screening = Screening()
        self.normaliser = Normaliser(self.normalisation, d_in)

    @property
    def device(self) -> torch.device:
        """Where the weights lie. Tokens are moved there; activations and reconstructions stay there."""
        return self.b_dec.device

    def encode(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
        """Activations of raw tokens, dense.

        Parameters
        ----------
        x : Tensor, shape (..., d), float32
            (B, T, d) means B images with the positions 0 to T - 1.
        positions : Tensor or None
            (...) int64, position of each token, where the normalisation works by position.

        Returns
        -------
        Tensor, shape (..., m), float32
            >= 0.
        """
        activations = self.activations(*self._flat(x, positions))
        return activations.to_dense().view(*x.shape[:-1], self.d_sae)

    def encode_sparse(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
        """Activations of raw tokens (N, d) as ``torch.sparse_csr`` (N, m) float32; never dense over all of them.

        Tokens may lie anywhere: they are moved to the SAE's device a block at a time. The result lies there too, or on
        the CPU where the device has no such tensors (`cytosae.sae.model.sparse.csr`).
        """
        if x.ndim != 2:
            raise UsageError(f"encode_sparse needs tokens of the shape [N, {self.d_in}], not {list(x.shape)}.")
        self._check_width(x)
        positions = self._positions(x, positions)
        size = GPU_BLOCK if self.device.type == "cuda" else SPARSE_BLOCK
        blocks = range(0, max(len(x), 1), size)  # no tokens are one block, too
        with torch.no_grad():
            parts = [
                self.activations(x[i : i + size], None if positions is None else positions[i : i + size]).to_csr()
                for i in blocks
            ]
        if len(parts) == 1:
            return parts[0]
        counts = torch.cat([part.crow_indices().diff() for part in parts])
        columns, values = torch.cat([part.col_indices() for part in parts]), torch.cat([p.values() for p in parts])
        return csr(torch.cat([counts.new_zeros(1), counts.cumsum(0)]), columns, values, self.d_sae)

    def decode(self, activations: Tensor, positions: Tensor | None = None) -> Tensor:
        """Tokens (..., d), in their own units, of dense activations (..., m)."""
        if activations.shape[-1] != self.d_sae:
            raise UsageError(f"decode needs activations of the width {self.d_sae}, not {list(activations.shape)}.")
        flat = activations.to(self.device).reshape(-1, self.d_sae)
        decoded = torch.addmm(self.b_dec, flat, self.W_dec)
        return self.normaliser.inverse(decoded, self._positions(activations, positions)).view(
            *activations.shape[:-1], self.d_in
        )

    def forward(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
        """Reconstruction (..., d) of raw tokens (..., d), through the active entries only."""
        flat, flat_positions = self._flat(x, positions)
        decoded = self.reconstruct(self.activations(flat, flat_positions))
        return self.normaliser.inverse(decoded, flat_positions).view(x.shape)

    def activations(self, x: Tensor, positions: Tensor | None = None) -> Activations:
        """Active entries of raw tokens (N, d), as `sparse.Activations`."""
        return self.sparsity.activations(self, self.normaliser(x.to(self.device), positions))

    def activate(self, x: Tensor, rule: Rule, *, latents: Tensor | None = None) -> Activations:
        """Scores of the latents that ``rule`` chooses for normalised tokens (N, d), with their gradient.

        ``latents`` (D,) int64: choose among these only. See `encoder.activate`.
        """
        if not is_split(self.W_enc):
            return activate(self, x, rule, latents=latents)
        from cytosae.sae.model.shards import activate_sharded  # torch.distributed is needed by few

        return cast("Activations", activate_sharded(self, x, rule, latents))  # the same face

    def reconstruct(self, activations: Activations) -> Tensor:
        """Tokens (N, d) in normalised units."""
        decoded = activations.decode(self.W_dec)
        # in place, since fresh memory costs more than the sum; the decoding of split latents is a view
        return decoded + self.b_dec if is_split(self.W_dec) else decoded.add_(self.b_dec)

    @torch.no_grad()
    def normalise_decoder(self) -> None:
        """Bring the decoder's rows to unit norm."""
        norm = torch.linalg.vector_norm(self.W_dec, dim=1, keepdim=True)
        self.W_dec.div_(norm.clamp_min_(1e-12))

    @torch.no_grad()
    def initialise_from(self, tokens: Tensor) -> None:
        """Start the weights from normalised tokens (N, d) where the initialisation is `FromData`; b_dec stays."""
        if isinstance(self.initialisation, FromData):
            centred = tokens - self.b_dec
            rows = weights_from_data(centred, self.d_sae, self.initialisation, Generator().manual_seed(self.seed))
            self.W_enc.copy_(rows[0].T)
            self.W_dec.copy_(rows[1])

    def describe(self) -> dict[str, Any]:
        """What it is, in plain values."""
        return {
            "d_in": self.d_in,
            "d_sae": self.d_sae,
            "sparsity": to_plain(self.sparsity),
            "normalisation": to_plain(self.normalisation),
            "initialisation": to_plain(self.initialisation),
        }

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the description and every tensor: equal weights, equal fingerprint."""
        hashes = {
            name: hashlib.sha256(tensor.detach().cpu().contiguous().numpy().tobytes()).hexdigest()
            for name, tensor in sorted(self.state_dict().items())
        }
        return digest([self.describe(), hashes])

    def _flat(self, x: Tensor, positions: Tensor | None) -> tuple[Tensor, Tensor | None]:
        self._check_width(x)
        return x.to(self.device).reshape(-1, self.d_in), self._positions(x, positions)

    def _check_width(self, x: Tensor) -> None:
        if x.ndim == 0 or x.shape[-1] != self.d_in:
            raise UsageError(f"this SAE reads tokens of the width {self.d_in}, not of the shape {list(x.shape)}.")

    def _positions(self, x: Tensor, positions: Tensor | None) -> Tensor | None:
        """(N,) positions of tokens or activations (..., width), on the SAE's device; whole images imply theirs."""
        if positions is not None:
            return positions.to(self.device).expand(x.shape[:-1]).reshape(-1)
        if x.ndim == 3:
            return torch.arange(x.shape[1], device=self.device).repeat(len(x))
        return None
