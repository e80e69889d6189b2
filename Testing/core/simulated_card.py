"""A CUDA card made of main memory: what runs on it, what comes off it, and what it has to be waited for.

Tensors say that they lie on a card and compute on the CPU. As on a card, operands must lie on one device (numbers
without axes may come from main memory), and every call that needs a value back is counted as a wait. No gradients.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

# The one kind of device besides the CPU that every build of torch has; to be on it is to say `is_cuda`.
CARD = torch.device("meta")
# Operators whose result has a size that only the data know, or is a Python number.
WAITS = {"_local_scalar_dense", "nonzero", "_unique2", "bincount", "equal", "masked_select", "is_nonzero"}


class OnCard(torch.Tensor):
    """A tensor that lies on the simulated card; `inner` holds its numbers."""

    inner: torch.Tensor
    is_cuda = True
    counts: ClassVar[Counter[str]] = Counter()

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> OnCard:
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=CARD,
        )  # fmt: skip
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, function: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        return launch(function, args, kwargs or {})


def launch(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operator as the card would, counting it."""
    name = function.overloadpacket.__name__
    operands = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
    mixed = any(isinstance(x, OnCard) for x in operands) and any(
        not isinstance(x, OnCard) and x.ndim > 0 for x in operands
    )
    if mixed and name not in ("copy_", "index", "index_put", "index_put_"):
        raise RuntimeError(f"{name}: expected all tensors to be on the same device")
    masks = name.startswith("index") and any(
        isinstance(x, torch.Tensor) and x.dtype == torch.bool for x in tree_flatten(args[1])[0]
    )
    OnCard.counts["launches"] += 1
    OnCard.counts["waits"] += name in WAITS or masks
    target = kwargs.get("device")
    if target is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    out = function(*tree_map(unwrap, args), **tree_map(unwrap, kwargs))
    if target is not None and torch.device(target) != CARD:
        OnCard.counts["copies to main memory"] += 1
        return out
    if function._schema.is_mutable:
        return args[0]
    return tree_map(lambda x: OnCard(x) if isinstance(x, torch.Tensor) else x, out)


def unwrap(x: Any) -> Any:
    return x.inner if isinstance(x, OnCard) else x


class _Factories(TorchDispatchMode):
    """What is asked for on the card is put there, whoever asks."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        asked = kwargs.get("device") is not None and torch.device(kwargs["device"]) == CARD
        if asked or any(issubclass(kind, OnCard) for kind in types):
            return launch(function, args, kwargs)
        return function(*args, **kwargs)


class _Door(TorchFunctionMode):
    """The calls that look at numbers from Python."""

    def __torch_function__(self, function: Callable[..., Any], _: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", "")
        device = (kwargs or {}).get("device")
        if name == "tensor" and device is not None and torch.device(device) == CARD:
            return OnCard(function(*args, **{**kwargs, "device": torch.device("cpu")}))
        if args and isinstance(args[0], OnCard) and name == "__getitem__" and isinstance(args[1], list):
            return args[0][OnCard(torch.tensor(args[1]))]
        if args and isinstance(args[0], OnCard) and name == "numpy":
            raise TypeError("can't convert cuda device type tensor to numpy")
        if args and isinstance(args[0], OnCard) and name == "tolist":
            OnCard.counts["waits"] += 1
            return args[0].inner.tolist()
        return function(*args, **(kwargs or {}))


class _Generator(torch.Generator):
    """Numbers for the simulated card, drawn in main memory."""

    def __new__(cls, device: torch.device | str = "cpu") -> _Generator:
        return super().__new__(cls, "cpu")


@contextmanager
def simulated_card(patch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """The counts of launches, waits and copies to main memory made inside."""
    patch.setattr(torch, "Generator", _Generator)
    OnCard.counts = Counter()
    with torch.no_grad(), _Factories(), _Door():
        yield OnCard.counts
