"""Under bfloat16 the convolutions may lose digits; the image they add to may not."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from edgekeeper.models import EDSR, VDSR, ChainSR, SRModel
from edgekeeper.models.edsr import DIV2K_MEAN
from edgekeeper.ops.resize import imresize


def silent(network: SRModel, last: nn.Module) -> SRModel:
    """The network with a residual of zero."""
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
    return network.eval()


def chain(scale: int) -> SRModel:
    network = ChainSR(scale=scale, width=8, blocks=2)
    return silent(network, network.last)


def vdsr(scale: int) -> SRModel:
    network = VDSR(scale=scale, variant="rgb")
    return silent(network, network.last)


IMAGE_PLUS_NOTHING: dict[str, Callable[[], SRModel]] = {
    "chain_x2": lambda: chain(2),
    "chain_x4": lambda: chain(4),
    "vdsr_x2": lambda: vdsr(2),
    "vdsr_x3": lambda: vdsr(3),
    # as they are built: the last convolution starts at zero
    "edsr_x2": lambda: EDSR(scale=2, width=8, blocks=1, skip="bicubic"),
    "edsr_x3_direct": lambda: EDSR(scale=3, width=8, blocks=1, upsampler="direct", skip="bicubic"),
    "edsr_x4": lambda: EDSR(scale=4, width=8, blocks=1, skip="bicubic"),
}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", IMAGE_PLUS_NOTHING)
def test_without_a_residual_the_interpolated_image_comes_out(name: str, precision: str) -> None:
    network = IMAGE_PLUS_NOTHING[name]()
    lr = torch.rand(2, 3, 6, 9, generator=torch.Generator().manual_seed(3))
    # float64 is the reference for the digits of the float32 path
    expected = imresize(lr.double(), scale=network.scale)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        sr = network(lr)
    assert sr.dtype == torch.float32
    assert (sr - expected).abs().max() < 1e-5


def test_without_a_residual_bilinear_vdsr_gives_the_bilinear_image() -> None:
    network = VDSR(scale=2, variant="gv", interpolation="bilinear")
    silent(network, network.last)
    lr = torch.rand(1, 3, 4, 6, generator=torch.Generator().manual_seed(3))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        sr = network(lr)
    # Halves apart: each SR pixel is 3/4 of the near and 1/4 of the far LR pixel.
    inner = 0.75 * lr[..., 1:, :] + 0.25 * lr[..., :-1, :]
    inner = 0.75 * inner[..., 1:] + 0.25 * inner[..., :-1]
    assert (sr[..., 2::2, 2::2] - inner).abs().max() < 1e-5


def test_an_edsr_without_a_residual_gives_the_mean_colour() -> None:
    network = EDSR(scale=2, width=8, blocks=1)
    silent(network, network.upsampler[-1])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        sr = network(torch.rand(1, 3, 4, 5))
    mean = torch.tensor(DIV2K_MEAN).view(1, 3, 1, 1)
    assert (sr - mean).abs().max() < 1e-6


def test_a_bfloat16_vdsr_stays_near_the_float32_one() -> None:
    torch.manual_seed(4)
    network = VDSR(scale=2)
    lr = torch.rand(1, 1, 6, 7)
    with torch.no_grad():
        full = network(lr)
        with torch.autocast("cpu", torch.bfloat16):
            half = network(lr)
    residual = (full - network.interpolate(lr)).abs().max()
    assert half.dtype == torch.float32
    assert 0 < (half - full).abs().max() < 0.05 * residual
