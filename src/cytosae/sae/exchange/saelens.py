"""The on-disk format of SAELens (``cfg.json`` and ``sae_weights.safetensors``): export and import.

What sae-lens computes from the exported files equals what `SparseAutoencoder` computes at inference. sae-lens knows no
fitted normalisation, so an affine one is folded into the weights; one that depends on a token's position cannot be.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cytosae.common.artifact import package_version
from cytosae.common.errors import InputError, WeightsError
from cytosae.common.records import parse_record, write_json
from cytosae.common.unfinished import written_whole
from cytosae.sae.model.autoencoder import SparseAutoencoder
from cytosae.sae.model.choices import MeanNorm, NoNormalisation
from cytosae.sae.variants import AnySparsity, BatchTopK, JumpRelu, ReluL1, TopK

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
FORMAT_VERSION = "6.54.12"
"""The sae-lens release whose files these are; it decides by this number how to read them."""


def export_saelens(
    sae: SparseAutoencoder, out: str | Path, *, model_name: str | None = None, hook_name: str | None = None
) -> Path:
    """Write ``sae`` so that ``sae_lens.SAE.load_from_disk(out)`` reads it, and return ``out``.

    `ReluL1` becomes ``standard``, `TopK` ``topk``; `JumpRelu` and, with the threshold they learned, `BatchTopK`
    and `Matryoshka` become ``jumprelu``, which is what they are at inference.

    Parameters
    ----------
    out : str or Path
        Directory that must not exist yet.
    model_name, hook_name : str or None
        Kept in the metadata, where sae-lens looks for them (backbone, block).

    Raises
    ------
    InputError
        for a normalisation by position, which the format cannot express.
    """
    out = Path(out)
    if out.exists():
        raise InputError(f"{out} exists already; give a new directory to export to.")
    weights = {name: tensor.float().contiguous() for name, tensor in fold_normalisation(sae).items()}
    config, threshold = _architecture(sae)
    if threshold is not None:
        weights["threshold"] = threshold.float().contiguous()
    config |= {
        "d_in": sae.d_in,
        "d_sae": sae.d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {
            "sae_lens_version": FORMAT_VERSION,
            "sae_lens_training_version": None,
            "model_name": model_name,
            "hook_name": hook_name,
            "cytosae_version": package_version(),
            "cytosae_fingerprint": sae.fingerprint,
            "cytosae_description": sae.describe(),
        },
    }
    with written_whole(out, folder=True) as partial:
        save_file(weights, partial / WEIGHTS)
        write_json(partial / CONFIG, config)
    return out


def import_saelens(path: str | Path) -> SparseAutoencoder:
    """Load a directory that sae-lens has written (``standard``, ``topk`` or ``jumprelu``), for inference.

    Raises
    ------
    WeightsError
        for other architectures, normalisations of single tokens (``layer_norm``), and missing or mis-shaped weights.
    """
    path = Path(path)
    config = _read_config(path)
    try:
        weights = {name: tensor.double() for name, tensor in load_file(path / WEIGHTS).items()}
    except (OSError, SafetensorError) as problem:
        raise WeightsError(f"{path / WEIGHTS} cannot be read ({problem}); get the directory again.") from problem
    if not config.get("apply_b_dec_to_input", True) and {"W_enc", "b_enc", "b_dec"} <= set(weights):
        # cytosae always encodes x - b_dec
        weights["b_enc"] = weights["b_enc"] + weights["b_dec"] @ weights["W_enc"]
    if config.get("rescale_acts_by_decoder_norm") and {"W_enc", "b_enc", "W_dec"} <= set(weights):
        norm = torch.linalg.vector_norm(weights["W_dec"], dim=1)
        weights["W_enc"], weights["b_enc"] = weights["W_enc"] * norm, weights["b_enc"] * norm
        weights["W_dec"] = weights["W_dec"] / norm[:, None]
    _fold_older(path, config, weights)
    threshold = weights.pop("threshold", None)
    d, m = _check_weights(path, config, weights, threshold)
    sae = SparseAutoencoder(d, m, sparsity=_sparsity(path, config, m))
    state = {name: tensor.float() for name, tensor in weights.items()}
    if threshold is not None:
        # sae-lens applies its ReLU besides the threshold: one of 0 or less is the ReLU alone
        state["state.log_threshold"] = threshold.float().clamp_min(torch.finfo(torch.float32).tiny).log()
    sae.load_state_dict(state)
    return sae.eval()


@torch.no_grad()
def fold_normalisation(sae: SparseAutoencoder) -> dict[str, Tensor]:
    """W_enc, b_enc, W_dec, b_dec (float64, on the CPU) that do on raw tokens what ``sae`` does with its normalisation.

    With x_n = (x - c) F and x = x_n G + c: W_enc' = F W_enc, W_dec' = W_dec G, b_dec' = b_dec G + c, and b_enc' is the
    score at x = b_dec', so that it also makes up for what F G differs from the identity by rounding.
    """
    W_enc, b_enc, W_dec, b_dec = (
        tensor.detach().cpu().double() for tensor in (sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec)
    )
    normaliser = sae.normaliser
    if isinstance(normaliser.config, NoNormalisation):
        return {"W_enc": W_enc, "b_enc": b_enc, "W_dec": W_dec, "b_dec": b_dec}
    if normaliser.by_position:
        raise InputError(
            f"the SAE's normalisation {type(normaliser.config).__name__} works by the position of a token, which "
            "the SAELens format cannot express; train with none, MeanNorm or Whitening(position_mean=False) for it."
        )
    if not bool(normaliser.fitted):
        raise InputError(f"{type(normaliser.config).__name__} has not been fitted; train the SAE before its export.")
    if isinstance(normaliser.config, MeanNorm):
        forward = normaliser.scale.cpu().double() * torch.eye(sae.d_in, dtype=torch.float64)
        inverse, centre = forward.inverse(), torch.zeros(sae.d_in, dtype=torch.float64)
    else:
        forward, inverse = normaliser.forward_map.cpu().double(), normaliser.inverse_map.cpu().double()
        centre = normaliser.mean.cpu().double()[0]
    folded_b_dec = b_dec @ inverse + centre
    score = ((folded_b_dec - centre) @ forward - b_dec) @ W_enc + b_enc
    return {"W_enc": forward @ W_enc, "b_enc": score, "W_dec": W_dec @ inverse, "b_dec": folded_b_dec}


def _architecture(sae: SparseAutoencoder) -> tuple[dict[str, Any], Tensor | None]:
    """The fields of cfg.json that tell what the SAE does, and the thresholds (m,) where it has some."""
    sparsity = sae.sparsity
    if isinstance(sparsity, ReluL1):
        return {"architecture": "standard"}, None
    if isinstance(sparsity, TopK):
        return {"architecture": "topk", "k": sparsity.k, "rescale_acts_by_decoder_norm": False}, None
    if isinstance(sparsity, JumpRelu):
        return {"architecture": "jumprelu"}, sae.state.log_threshold.detach().cpu().exp()
    if isinstance(sparsity, BatchTopK):
        # and Matryoshka; before any training the threshold is -1, which means 0
        return {"architecture": "jumprelu"}, sae.state.threshold.detach().cpu().clamp_min(0).expand(sae.d_sae).clone()
    raise InputError(f"SAELens has no form for {type(sparsity).__name__}; share the SAE as it is (cytosae model push).")


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = parse_record(dict, (path / CONFIG).read_bytes(), where="cfg")
    except (OSError, ValueError) as problem:
        raise WeightsError(
            f"{path / CONFIG} cannot be read ({problem}); give a directory that SAELens has saved."
        ) from problem
    # before version 6 TopK was a standard SAE with another activation function
    activation = config.get("activation_fn", config.get("activation_fn_str", "relu"))
    if activation == "topk" and "k" not in config:
        options = config.get("activation_fn_kwargs")
        config |= {"architecture": "topk", "k": options.get("k") if isinstance(options, dict) else None}
    config.setdefault("architecture", "standard")
    if config["architecture"] not in ("standard", "topk", "jumprelu"):
        raise WeightsError(
            f"{path / CONFIG} has the architecture {config['architecture']!r}; cytosae reads standard, topk and "
            "jumprelu (as which SAELens saves batchtopk and matryoshka for inference)."
        )
    # "expected_average_only_in" is folded in by sae-lens when training ends; its reader applies nothing either
    if config.get("normalize_activations") not in (None, False, "none", "expected_average_only_in"):
        raise WeightsError(
            f"{path / CONFIG} has normalize_activations {config['normalize_activations']!r}, which works on single "
            "tokens or was not folded into the weights; fold it with sae-lens, or train without it."
        )
    if config.get("reshape_activations", "none") != "none":
        raise WeightsError(f"{path / CONFIG} reshapes activations, which cytosae does not; train without it.")
    return config


def _fold_older(path: Path, config: Mapping[str, Any], weights: dict[str, Tensor]) -> None:
    """Bring what versions before 6 stored besides the four tensors into them: a factor on what is decoded."""
    weights.pop("log_feature_sparsity", None)  # how often each latent was active; no part of the SAE
    names = [name for name in ("scaling_factor", "finetuning_scaling_factor") if name in weights]
    if config.get("finetuning_scaling_factor") and not names:
        raise WeightsError(f"{path / WEIGHTS} lacks the scaling factor that {CONFIG} names; get the directory again.")
    for name in names:
        if "W_dec" in weights and weights[name].shape == weights["W_dec"].shape[:1]:  # others are refused by shape
            weights["W_dec"] = weights["W_dec"] * weights.pop(name)[:, None]


def _check_weights(
    path: Path, config: Mapping[str, Any], weights: Mapping[str, Tensor], threshold: Tensor | None
) -> tuple[int, int]:
    d, m = config.get("d_in"), config.get("d_sae")
    if not all(type(size) is int and 0 < size < 2**31 for size in (d, m)):
        raise WeightsError(f"{path / CONFIG} has d_in {d!r} and d_sae {m!r}; two positive whole numbers are needed.")
    assert isinstance(d, int) and isinstance(m, int)  # noqa: S101, PT018 - for the type checker
    shapes = {"W_enc": (d, m), "b_enc": (m,), "W_dec": (m, d), "b_dec": (d,)}
    tensors = dict(weights)
    if config["architecture"] == "jumprelu":
        shapes["threshold"] = (m,)
    if threshold is not None:
        tensors["threshold"] = threshold
    for name in sorted(set(shapes) | set(tensors)):
        found = tuple(tensors[name].shape) if name in tensors else "missing"
        if found != shapes.get(name):
            raise WeightsError(
                f"{path / WEIGHTS} has {name} {found}, where {shapes.get(name, 'nothing')} is needed for the "
                f"architecture {config['architecture']}; get the directory again."
            )
        if not torch.isfinite(tensors[name]).all():
            raise WeightsError(f"{path / WEIGHTS} has values in {name} that are not finite; get the directory again.")
    return d, m


def _sparsity(path: Path, config: Mapping[str, Any], m: int) -> AnySparsity:
    if config["architecture"] == "standard":
        coefficient = config.get("l1_coefficient", 0.0)  # a matter of training, which files of today do not tell
        usable = isinstance(coefficient, (int, float)) and 0 <= coefficient < sys.float_info.max
        return ReluL1(l1_coefficient=float(coefficient) if usable else 0.0)
    if config["architecture"] == "jumprelu":
        return JumpRelu()
    k = config.get("k")
    if type(k) is not int or not 1 <= k <= m:
        raise WeightsError(f"{path / CONFIG} has k {k!r}; a whole number from 1 to d_sae = {m} is needed.")
    return TopK(k=k)
