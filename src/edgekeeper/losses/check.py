"""What every loss asks of its arguments, and the precision it works in."""

import inspect
import warnings
from collections.abc import Callable
from math import isfinite

import torch
from torch import Tensor, nn

from edgekeeper.errors import InputError
from edgekeeper.ops.check import check_images

_EIGHT_BITS = 10.0  # images in [0, 1], normalised ones too, do not reach it; 0 to 255 does
_range_was_seen = False


class PairLoss(nn.Module):
    """A loss of two images that is shown with its arguments, attributes of the same names."""

    def extra_repr(self) -> str:
        """Return the arguments, for ``repr``."""
        names = inspect.signature(type(self)).parameters
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)


def check_pair(sr: Tensor, hr: Tensor, *, data_range: float = 1.0) -> None:
    """Raise InputError unless both are (B, C, H, W) float tensors of one shape.

    Until a pair was right, warn of targets from 0 to 255 where [0, ``data_range``] is expected.
    """
    for name, tensor in (("sr", sr), ("hr", hr)):
        check_images(tensor, name=name, valued=True)
    if sr.shape != hr.shape:
        raise InputError(
            f"'sr' has shape {tuple(sr.shape)} and 'hr' {tuple(hr.shape)}; "
            "both must be equal: crop or resize one of them first."
        )
    if sr.numel() == 0:
        raise InputError(
            f"'sr' and 'hr' have shape {tuple(sr.shape)}, which holds no pixel; "
            "give at least one image of at least one pixel."
        )

    _check_range(hr.detach(), data_range=data_range)


def _check_range(hr: Tensor, *, data_range: float) -> None:
    """Warn of 8-bit values, until a target was right: on a GPU to look is to wait."""
    global _range_was_seen
    if _range_was_seen or data_range != 1.0 or torch.compiler.is_compiling():
        return
    high = float(hr.max())
    _range_was_seen = high <= _EIGHT_BITS
    if not _range_was_seen:
        warnings.warn(
            f"'hr' reaches {high:g}; losses are made for [0, 1], and other values change their "
            "weight against each other: divide by 255.",
            stacklevel=4,
        )


def check_positive(name: str, value: float) -> None:
    """Raise InputError unless ``value`` is a finite number above zero."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not isfinite(value) or value <= 0:
        raise InputError(f"'{name}' is {value!r}; it must be a finite number above 0.")


def as_float32_or_more(x: Tensor) -> Tensor:
    """``x`` in float32 if it is float16 or bfloat16, else ``x`` itself.

    A mean of squares of small differences underflows in float16 and has two digits in
    bfloat16, so no loss computes in them.
    """
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x  # float64 stays


def as_grey(x: Tensor, convert: Callable[[Tensor], Tensor]) -> Tensor:
    """Return (B, 1, H, W) in float32 or more: RGB by ``convert``, one channel as it is.

    Raises InputError for other channels.
    """
    if x.shape[1] not in (1, 3):
        raise InputError(
            f"'sr' and 'hr' have {x.shape[1]} channels; this loss is defined on 1 (grey) or 3 "
            "(RGB): to treat each channel on its own, pass x.flatten(0, 1).unsqueeze(1) of both."
        )
    x = as_float32_or_more(x)
    return convert(x) if x.shape[1] == 3 else x
