"""SRVGGNetCompact under Real-ESRGAN's names: body.0, body.1, ..., which are ours too."""

from pathlib import Path

from edgekeeper.models import SRModel, SRVGGNetCompact
from edgekeeper.pretrained.layers import Tensors, channels, choose_scale, count_blocks, fill

_NETWORK = "SRVGGNetCompact"


def recognises(tensors: Tensors) -> bool:
    """Whether these are tensors of an SRVGGNetCompact: a convolution first, with a PReLU after."""
    return "body.0.weight" in tensors


def load(tensors: Tensors, *, scale: int | None, origin: Path) -> SRModel:
    """Return the network with these weights.

    Raises:
        CheckpointError: something does not fit; it is named.
    """
    last = count_blocks(tensors, pattern="body.{i}.") - 1
    width, _ = channels(tensors, "body.0", network=_NETWORK, origin=origin)
    colours, _ = channels(tensors, f"body.{last}", network=_NETWORK, origin=origin)
    scale = choose_scale(scale, found=(colours / 3) ** 0.5, origin=origin)
    # convolutions have the even numbers, PReLUs the odd ones
    model = SRVGGNetCompact(scale=scale, width=width, convolutions=max(1, last // 2 - 1))
    fill(model, tensors, names={name: name for name in model.state_dict()}, origin=origin)
    return model
