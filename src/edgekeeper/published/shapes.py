"""What the shapes of published layers say: channels, and the scale of a sub-pixel upsampler."""

from pathlib import Path

from edgekeeper.errors import CheckpointError
from edgekeeper.published.filling import Tensors


def channels(tensors: Tensors, name: str, *, network: str, origin: Path) -> tuple[int, int]:
    """Channels out and in of the convolution ``name``, a layer without ``.weight``.

    Raises:
        CheckpointError: it is missing, or is no convolution.
    """
    weight = f"{name}.weight"
    if weight not in tensors:
        raise CheckpointError(f"'{origin}' looks like {network}, but lacks {weight}.")
    shape = tuple(tensors[weight].shape)
    if len(shape) != 4 or 0 in shape:
        raise CheckpointError(
            f"'{origin}' looks like {network}, but {weight} is {shape}, no convolution."
        )
    return int(shape[0]), int(shape[1])


def subpixel_layers(
    tensors: Tensors, *, steps: tuple[str, str], last: tuple[str, str], network: str, origin: Path
) -> tuple[float, dict[str, str]]:
    """The scale of an upsampler, and their names -> ours of its layers.

    ``steps`` are the names of its one or two enlarging convolutions, ``last`` that of the last
    convolution where there are one or two of them.

    Raises:
        CheckpointError: a layer is missing, or is no convolution.
    """
    two = f"{last[1]}.weight" in tensors if last[0] != last[1] else f"{steps[1]}.weight" in tensors
    used, end = (steps, last[1]) if two else (steps[:1], last[0])
    out, _ = channels(tensors, used[0], network=network, origin=origin)
    _, into = channels(tensors, end, network=network, origin=origin)
    layers = {name: f"upsampler.{2 * n}" for n, name in enumerate((*used, end))}
    return 4.0 if two else (out / into) ** 0.5, layers
