"""A device that is not there: tensors that claim to lie elsewhere, compute real numbers, and refuse to mix with others.

``torch.device("meta")`` plays the other device, so that autograd, ``Module.to`` and ``.cpu()`` need no accelerator.
While `elsewhere()` is open, what is made on or moved to it is a `Distant` tensor around a tensor on the CPU. As on a
GPU, an operation on tensors of both places is an error, and so is ``.numpy()``. PyTorch's FakeTensorMode refuses
likewise, but its tensors have no numbers: it cannot follow a program that looks at them, nor a backward pass on "cuda".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

ELSEWHERE = torch.device("meta")
ops = torch.ops.aten
_MOVES = {ops._to_copy.default, ops.copy_.default}


class MixedDevicesError(RuntimeError):
    """Tensors of both places met in one operation."""


class Distant(Tensor):
    """A tensor elsewhere; its numbers are ``near``."""

    near: Tensor
    is_meta = property(lambda _: False)  # pyright: ignore[reportAssignmentType]

    @staticmethod
    def __new__(cls, near: Tensor) -> Distant:
        compressed = near.layout != torch.strided
        places = {} if compressed else {"strides": near.stride(), "storage_offset": near.storage_offset()}
        return Tensor._make_wrapper_subclass(
            cls, near.shape, dtype=near.dtype, layout=near.layout, device=ELSEWHERE, **places
        )

    def __init__(self, near: Tensor) -> None:
        self.near = near

    def __repr__(self) -> str:
        return f"Distant({self.near})"

    def tolist(self) -> Any:
        return self.near.tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError("can't convert a tensor elsewhere to numpy; use Tensor.cpu() first")

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["near"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], *_: Any) -> Distant:
        return Distant(inner["near"])

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(function, args, kwargs or {}, None)


class _Elsewhere(TorchDispatchMode):
    """Catches what is made; ``lacks`` names operations and types that the device does not have."""

    def __init__(self, lacks: tuple[Any, ...]) -> None:
        super().__init__()
        self.lacks, self.met = set(lacks), set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(function, args, kwargs or {}, self)


@contextmanager
def elsewhere(*, lacks: tuple[Any, ...] = ()) -> Iterator[_Elsewhere]:
    """Open the other device.

    Parameters
    ----------
    lacks : tuple of dtype or layout
        What its tensors cannot be, as Apple's have no float64.
    """
    asked, entered = torch.is_autocast_enabled, torch.autocast

    def is_autocast_enabled(device: str = "cuda") -> bool:  # torch knows no automatic casts on "meta"
        return device != ELSEWHERE.type and asked(device)

    def autocast(device: str, *args: Any, **kwargs: Any) -> Any:
        return nullcontext() if device == ELSEWHERE.type else entered(device, *args, **kwargs)

    with (
        mock.patch.object(torch, "is_autocast_enabled", is_autocast_enabled),
        mock.patch.object(torch, "autocast", autocast),
        mock.patch.object(torch, "inference_mode", torch.no_grad),  # in which a wrapper cannot have views
        _Elsewhere(lacks) as mode,
    ):
        yield mode


def _compute(function: Any, args: Any, kwargs: dict[str, Any], mode: _Elsewhere | None) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    distant = [tensor for tensor in tensors if isinstance(tensor, Distant)]
    stray = [tensor for tensor in tensors if not isinstance(tensor, Distant) and tensor.ndim > 0]
    if any(tensor.is_meta for tensor in tensors):
        raise MixedDevicesError(f"{function} got a tensor without numbers, made before or past this device")
    if distant and stray and function not in _MOVES:
        raise MixedDevicesError(f"{function} got tensors here and elsewhere: {[list(t.shape) for t in tensors]}")
    there = bool(distant)
    if function is ops.copy_.default:
        there = isinstance(args[0], Distant)
    elif kwargs.get("device") is not None:
        there = torch.device(kwargs["device"]) == ELSEWHERE
        kwargs = {**kwargs, "device": torch.device("cpu")}
    found = function(*tree_map(_near, args), **tree_map(_near, kwargs))
    if not there:
        return found
    if mode is not None:
        mode.met.add(function)
        for tensor in tree_leaves(found):
            if isinstance(tensor, Tensor) and {tensor.dtype, tensor.layout} & mode.lacks:
                raise TypeError(f"{function} makes {tensor.dtype}, {tensor.layout} where the device has none")
    wrapped = tree_map(lambda leaf: Distant(leaf) if isinstance(leaf, Tensor) else leaf, found)
    return return_and_correct_aliasing(function, args, kwargs, wrapped)


def _near(leaf: Any) -> Any:
    return leaf.near if isinstance(leaf, Distant) else leaf
