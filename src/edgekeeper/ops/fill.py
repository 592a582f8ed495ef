"""Colours for pixels that have none, taken from around them."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def fill_holes(colours: Floats, visible: Floats) -> Floats:
    """Colours (H, W, C) with every pixel of weight 0 in ``visible`` (H, W, 1) filled.

    A pyramid: each level halves the one below, averaging what is visible, until nothing is
    empty; on the way back each hole takes the colour of the level above. At least one pixel
    must be visible.
    """
    if visible.all():
        return colours
    height, width = visible.shape[:2]
    odd = ((0, height % 2), (0, width % 2), (0, 0))

    def halve(x: Floats) -> Floats:
        padded = np.pad(x, odd)
        shape = (padded.shape[0] // 2, 2, padded.shape[1] // 2, 2, -1)
        sums: Floats = padded.reshape(shape).sum(axis=(1, 3))
        return sums

    weight = halve(visible)
    mean = np.divide(halve(colours * visible), np.maximum(weight, 1), dtype=np.float32)
    above = fill_holes(mean, np.minimum(weight, 1))
    spread = above.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    return np.where(visible > 0, colours, spread)
