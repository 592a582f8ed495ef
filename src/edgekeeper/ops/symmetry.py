"""The eight symmetries of the square, and what a function gives on average over them."""

from collections.abc import Callable

from torch import Tensor


def mean_of_eight(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The mean of what ``function`` gives for ``x`` flipped and transposed, turned back each time.

    ``x`` is (B, C, H, W); ``function`` may change the size, by the same factor on both axes. For a
    function that treats all directions alike this is ``function(x)`` up to rounding. In the
    literature: geometric self-ensemble (EDSR, Lim et al. 2017, section 3.4).
    """
    total: Tensor | None = None
    for transposed in (False, True):
        for flips in ([], [-1], [-2], [-2, -1]):
            turned = (x.transpose(-2, -1) if transposed else x).flip(flips)
            result = function(turned).flip(flips)
            result = result.transpose(-2, -1) if transposed else result
            total = result.clone() if total is None else total.add_(result)
    assert total is not None
    return total.div_(8)
