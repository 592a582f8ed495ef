"""SPSR: counts, wiring against a restatement, the branch, reach, weights of an RRDB."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from edgekeeper.errors import InputError
from edgekeeper.models import SPSR, parameter_count


def tiny(scale: int = 4) -> SPSR:
    """A small SPSR in float64 whose weights are all far from zero."""
    torch.manual_seed(scale)
    network = SPSR(scale=scale, width=4, blocks=3, growth=2, taps=(1, 3)).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.15)
    return network


def test_parameters() -> None:
    # counted on the official module, whose 18 kernel entries are constants
    with torch.device("meta"):
        network = SPSR()
    assert parameter_count(network) == 24_796_230
    assert parameter_count(network.sr) == 16_733_184
    assert parameter_count(network.gradient) == 6_456_835
    assert parameter_count(network.fusion) == 1_606_211
    assert sum(buffer.numel() for buffer in network.buffers()) == 0
    # of the overlap, 64 are an RRDB's and 5 are the fusion's 18 convolutions at HR size
    assert (network.receptive_field, network.overlap) == (354, 69)
    # An RRDB gives everything of the SR branch but its last convolution: 16,696,256 numbers.
    assert parameter_count(network.sr) - parameter_count(network.sr.finish) == 16_696_256


def test_multiply_accumulates() -> None:
    with torch.device("meta"):
        network, lr = SPSR(), torch.zeros(1, 3, 8, 8)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network.with_gradient(lr)
    # counted on the official module, which always makes the gradient map too
    assert counter.get_total_flops() / 2 / 64 == 52_399_488


class Restated:
    """SPSR x4 as its paper and the layout of its published network define it."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.weights = weights

    def conv(self, name: str, maps: Tensor) -> Tensor:
        kernel = self.weights[f"{name}.weight"]
        return F.conv2d(maps, kernel, self.weights[f"{name}.bias"], padding=kernel.shape[-1] // 2)

    def rrdb(self, name: str, x: Tensor) -> Tensor:
        block = x
        for j in range(3):
            maps = block
            for k in range(4):
                new = lrelu(self.conv(f"{name}.dense.{j}.convs.{k}", maps))
                maps = torch.cat([maps, new], dim=1)
            block = block + 0.2 * self.conv(f"{name}.dense.{j}.convs.4", maps)
        return x + 0.2 * block

    def to_hr(self, name: str, maps: Tensor) -> Tensor:
        for n in range(2):
            maps = maps.repeat_interleave(2, 2).repeat_interleave(2, 3)
            maps = lrelu(self.conv(f"{name}.enlarge.convs.{n}", maps))
        return self.conv(f"{name}.finish", lrelu(self.conv(f"{name}.refine", maps)))

    def run(self, lr: Tensor, *, taps: list[int], blocks: int) -> tuple[Tensor, Tensor]:
        """The SR image and the gradient map."""
        padded = F.pad(lr, (1, 1, 1, 1))
        across = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
        down = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
        x0 = x = self.conv("sr.head", lr)
        g0 = g = self.conv("gradient.head", (across**2 + down**2 + 1e-6).sqrt())
        for i in range(1, blocks + 1):
            x = self.rrdb(f"sr.blocks.{i - 1}", x)
            if i in taps:
                t = taps.index(i)
                joined = self.rrdb(f"gradient.blocks.{t}", torch.cat([g, x], dim=1))
                g = self.conv(f"gradient.narrow.{t}", joined)
        sr_maps = self.to_hr("sr", self.conv("sr.after_blocks", x) + x0)
        g_maps = self.to_hr("gradient", self.conv("gradient.after_blocks", g) + g0)
        z = self.rrdb("fusion.block", torch.cat([g_maps, sr_maps], dim=1))
        z = lrelu(self.conv("fusion.refine", self.conv("fusion.narrow", z)))
        return self.conv("fusion.last", z), self.conv("gradient.last", g_maps)


def lrelu(maps: Tensor) -> Tensor:
    return maps.clamp(min=0) + 0.2 * maps.clamp(max=0)


def test_it_equals_a_restatement() -> None:
    network = tiny()
    lr = torch.rand(1, 3, 5, 6, dtype=torch.float64)
    sr, gradient = Restated(dict(network.state_dict())).run(lr, taps=[1, 3], blocks=3)
    both = network.with_gradient(lr)
    torch.testing.assert_close(both.sr, sr)
    torch.testing.assert_close(both.gradient, gradient)
    assert torch.equal(network(lr), both.sr)
    assert torch.equal(network.reconstruct(network.features(lr), lr), both.sr)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (3, 7)])
def test_any_size_is_enlarged(scale: int, size: tuple[int, int]) -> None:
    lr = torch.rand(2, 3, *size, dtype=torch.float64)
    found = tiny(scale).with_gradient(lr)
    assert found.sr.shape == found.gradient.shape == (2, 3, scale * size[0], scale * size[1])
    assert found.sr.isfinite().all()


def test_the_image_reaches_all_but_the_map_s_own_convolution() -> None:
    network = tiny()
    lr = torch.rand(1, 3, 6, 6, dtype=torch.float64)
    network(lr).square().sum().backward()
    for name, parameter in network.named_parameters():
        if name.startswith("gradient.last."):
            assert parameter.grad is None
        else:
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    network.zero_grad()
    network.with_gradient(lr).gradient.square().sum().backward()
    for name, parameter in network.gradient.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    assert all(parameter.grad is None for parameter in network.fusion.parameters())


def test_sr_branch_only_puts_zeros_in_place_of_the_gradient_s_maps() -> None:
    network = tiny()
    lr = torch.rand(1, 3, 5, 6, dtype=torch.float64)
    maps = network.features(lr)
    maps[:, :4] = 0  # the gradient's come first
    torch.testing.assert_close(network.sr_branch_only(lr), network.reconstruct(maps, lr))
    assert not torch.allclose(network.sr_branch_only(lr), network(lr))


@pytest.mark.parametrize("taps", [(), (0, 1), (1, 4), (2, 1), (1, 1)])
def test_taps_that_do_not_exist_are_refused(taps: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="numbers of its 3 blocks from 1 on, increasing"):
        SPSR(width=4, blocks=3, growth=2, taps=taps)


@pytest.mark.parametrize("taps", [(1,), (1, 2), (2,)])
def test_nothing_beyond_the_stated_radius_changes_a_pixel(taps: tuple[int, ...]) -> None:
    torch.manual_seed(3)
    network = SPSR(scale=4, width=4, blocks=2, growth=2, taps=taps).double()
    with torch.no_grad():  # positive, so that nothing cancels
        for parameter in network.parameters():
            positive = parameter.abs() + 0.01 if parameter.ndim > 1 else parameter * 0 + 0.1
            parameter.copy_(positive / positive[0].sum() if parameter.ndim > 1 else positive)
    radius = network.receptive_field
    lr = torch.rand(1, 3, 2 * radius + 5, 3, dtype=torch.float64).requires_grad_()
    centre = radius + 2
    rows = network(lr)[:, :, 4 * centre : 4 * centre + 4]
    (gradient,) = torch.autograd.grad(rows.sum(), lr)
    reach = (gradient.abs().sum((0, 1, 3)).nonzero().flatten() - centre).abs().max()
    assert radius - 2 <= reach <= radius  # the parts are rounded up one by one
    assert network.overlap == radius
