"""Parameters and multiply-accumulates of every variant, against counts of the official modules.

The numbers were counted on the official or reference implementations (sum of numel without the
frozen mean-shift layers; multiply-accumulates of the convolutions over LR or HR pixels), those of
the papers' own tables among them.
"""

from collections.abc import Callable

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from edgekeeper.models import EDSR, ESPCN, SRCNN, VDSR, SRModel, parameter_count


def edsr_paper(scale: int) -> EDSR:
    return EDSR(scale=scale, width=256, blocks=32, residual_scale=0.1)


def mean_shift(scale: int) -> int:
    """Multiply-accumulates of the official mean shifts, which are 1 x 1 convolutions there."""
    return 9 * (1 + scale**2)


# name -> network, parameters, multiply-accumulates per LR pixel
COUNTS: dict[str, tuple[Callable[[], SRModel], int, int]] = {
    "edsr_x2": (lambda: EDSR(scale=2), 1_369_859, 1_372_653 - mean_shift(2)),
    "edsr_x3": (lambda: EDSR(scale=3), 1_554_499, 1_565_658 - mean_shift(3)),
    "edsr_x4": (lambda: EDSR(scale=4), 1_517_571, 1_983_321 - mean_shift(4)),
    "edsr_paper_x2": (lambda: edsr_paper(2), 40_729_603, 40_732_461 - mean_shift(2)),
    "edsr_paper_x3": (lambda: edsr_paper(3), 43_680_003, 43_716_186 - mean_shift(3)),
    "edsr_paper_x4": (lambda: edsr_paper(4), 43_089_923, 50_252_697 - mean_shift(4)),
    "espcn_y_x2": (lambda: ESPCN(scale=2), 21_284, 21_184),
    "espcn_y_x3": (lambda: ESPCN(scale=3), 22_729, 22_624),
    "espcn_y_x4": (lambda: ESPCN(scale=4), 24_752, 24_640),
    "espcn_rgb_x2": (lambda: ESPCN(scale=2, channels="rgb"), 26_796, 26_688),
    "espcn_rgb_x3": (lambda: ESPCN(scale=3, channels="rgb"), 31_131, 31_008),
    "espcn_rgb_x4": (lambda: ESPCN(scale=4, channels="rgb"), 37_200, 37_056),
    "srcnn_955_y_x3": (lambda: SRCNN(scale=3), 57_281, 57_184 * 9),
    "srcnn_955_rgb_x2": (lambda: SRCNN(scale=2, channels="rgb"), 69_251, 69_152 * 4),
    "srcnn_915_y_x3": (lambda: SRCNN(scale=3, middle=1), 8_129, 8_032 * 9),
    "srcnn_915_rgb_x4": (lambda: SRCNN(scale=4, channels="rgb", middle=1), 20_099, 20_000 * 16),
    "vdsr_y_x2": (lambda: VDSR(scale=2), 664_704, 664_704 * 4),
    "vdsr_y_x4": (lambda: VDSR(scale=4), 664_704, 664_704 * 16),
    "vdsr_gv_x3": (lambda: VDSR(scale=3, variant="gv"), 665_856, 665_856 * 9),
    # 20 convolutions 3 x 3 without biases: 9 (3 64 + 18 64 64 + 64 3)
    "vdsr_rgb_x2": (lambda: VDSR(scale=2, variant="rgb"), 667_008, 667_008 * 4),
}


def convolution_macs(network: SRModel, *, side: int) -> float:
    """Multiply-accumulates of the convolutions per LR pixel; interpolation is not counted."""
    colours = 1 if network.channels == "y" else 3
    device = next(network.parameters()).device
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(torch.zeros(1, colours, side, side, device=device))
    flops = counter.get_flop_counts()["Global"][torch.ops.aten.convolution]
    return flops / 2 / side**2


@pytest.mark.parametrize("name", COUNTS)
def test_parameters(name: str) -> None:
    build, parameters, _ = COUNTS[name]
    with torch.device("meta"):
        assert parameter_count(build()) == parameters


@pytest.mark.parametrize("name", COUNTS)
def test_multiply_accumulates(name: str) -> None:
    build, _, macs = COUNTS[name]
    if name.startswith(("srcnn", "vdsr")):  # they interpolate, which needs numbers
        assert convolution_macs(build(), side=3) == macs
        return
    with torch.device("meta"):
        network = build()
    assert convolution_macs(network, side=8) == macs


def test_a_direct_upsampler_works_at_lr_size() -> None:
    with torch.device("meta"):
        network = EDSR(scale=4, width=64, blocks=16, upsampler="direct")
    # head, 16 blocks of two, the one after them, and one to 3 * 16 maps; 48 biases of the last
    weights = 9 * (3 * 64 + 33 * 64 * 64 + 64 * 48)
    assert parameter_count(network) == weights + 34 * 64 + 48
    assert convolution_macs(network, side=8) == weights
