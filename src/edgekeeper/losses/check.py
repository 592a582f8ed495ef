"""What every loss asks of its arguments, and the precision it works in."""

from collections.abc import Sequence
from math import isfinite

import torch
from torch import Tensor

from edgekeeper.errors import InputError, unknown_name


def check_pair(sr: Tensor, hr: Tensor) -> None:
    """Raise InputError unless both are (B, C, H, W) float tensors of one shape."""
    for name, tensor in (("sr", sr), ("hr", hr)):
        if not isinstance(tensor, Tensor):
            raise InputError(
                f"'{name}' is of type {type(tensor).__name__}; a loss takes tensors: "
                "turn an image into one with edgekeeper.image.to_tensor."
            )
        if not tensor.is_floating_point():
            raise InputError(
                f"'{name}' has dtype {tensor.dtype}; a loss takes floats in [0, 1]: "
                "use tensor.float() / 255 for 8-bit values."
            )
        if tensor.ndim != 4:
            raise InputError(
                f"'{name}' has shape {tuple(tensor.shape)}; a loss takes (B, C, H, W): "
                "add the missing axes with unsqueeze."
            )
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


def check_choice(kind: str, choice: str, *, known: Sequence[str]) -> None:
    """Raise InputError, with the nearest name, unless ``choice`` is one of ``known``."""
    if choice not in known:
        raise unknown_name(kind, str(choice), known=known)


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
