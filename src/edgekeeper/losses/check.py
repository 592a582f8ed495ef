"""What every loss asks of its arguments, and the precision it works in."""

from collections.abc import Sequence
from math import isfinite

import torch
from torch import Tensor

from edgekeeper.errors import InputError, unknown_name


def check_pair(ours: Tensor, theirs: Tensor) -> None:
    """None when both are (B, C, H, W) float tensors of one shape; otherwise InputError."""
    for name, tensor in (("ours", ours), ("theirs", theirs)):
        if not isinstance(tensor, Tensor):
            raise InputError(
                f"'{name}' is of type {type(tensor).__name__}; a loss takes tensors: "
                "turn a picture into one with edgekeeper.image.to_tensor."
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
    if ours.shape != theirs.shape:
        raise InputError(
            f"'ours' has shape {tuple(ours.shape)} and 'theirs' {tuple(theirs.shape)}; "
            "both must be equal: crop or resize one of them first."
        )
    if ours.numel() == 0:
        raise InputError(
            f"'ours' and 'theirs' have shape {tuple(ours.shape)}, which holds no pixel; "
            "give at least one picture of at least one pixel."
        )


def check_choice(kind: str, choice: str, *, known: Sequence[str]) -> None:
    """None when ``choice`` is one of ``known``; otherwise InputError with the nearest one."""
    if choice not in known:
        raise unknown_name(kind, str(choice), known=known)


def check_positive(name: str, value: float) -> None:
    """None when ``value`` is a finite number above zero; otherwise InputError."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not isfinite(value) or value <= 0:
        raise InputError(f"'{name}' is {value!r}; it must be a finite number above 0.")


def as_float32_or_more(x: Tensor) -> Tensor:
    """``x`` in float32 if it is float16 or bfloat16, else ``x`` itself.

    A mean of squares of small differences underflows in float16 and has two digits in
    bfloat16, so no loss computes in them.
    """
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
