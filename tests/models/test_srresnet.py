"""SRResNet and MSRResNet: counts, layout, reach, normalisation, a gradient branch on them."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from tests.tiling import run_tiled
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from edgekeeper.errors import InputError
from edgekeeper.models import GradientBranch, MSRResNet, SRModel, SRResNet, parameter_count
from edgekeeper.ops.gradient import gradient_map

CASES: dict[str, Callable[[], SRModel]] = {
    "srresnet_x2": lambda: SRResNet(scale=2, width=8, blocks=1),
    "srresnet_x3": lambda: SRResNet(scale=3, width=8, blocks=2, bias=True, slopes="maps"),
    "srresnet_x4": lambda: SRResNet(width=8, blocks=1),
    "srresnet_x4_tanh": lambda: SRResNet(width=8, blocks=1, output="tanh"),
    "srresnet_x4_plain": lambda: SRResNet(width=8, blocks=2, norm="none"),
    "msrresnet_x2": lambda: MSRResNet(scale=2, width=8, blocks=1),
    "msrresnet_x3": lambda: MSRResNet(scale=3, width=8, blocks=1),
    "msrresnet_x4": lambda: MSRResNet(width=8, blocks=2),
}


@pytest.fixture(params=CASES)
def model(request: pytest.FixtureRequest) -> SRModel:
    """A network in float64 with running averages, slopes and biases of no special value."""
    torch.manual_seed(1)
    return awake(CASES[request.param]()).eval()


def awake(network: SRModel) -> SRModel:
    with torch.no_grad():
        for parameter in network.double().parameters():
            fan = parameter[0].numel() if parameter.ndim > 1 else 4
            parameter.normal_(0, fan**-0.5)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.2)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    return network


def image(*, batch: int = 1, height: int = 5, width: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(height * 100 + width)
    return torch.rand(batch, 3, height, width, generator=generator, dtype=torch.float64)


def build(kind: type[SRModel], arguments: dict[str, object]) -> SRModel:
    return kind(**arguments).to("meta")


# Counted on reference modules, but for those marked.
@pytest.mark.parametrize(
    ("kind", "arguments", "parameters"),
    [
        (SRResNet, {}, 1_547_350),
        (SRResNet, {"bias": True}, 1_549_462),
        (SRResNet, {"blocks": 5}, 733_515),
        (SRResNet, {"blocks": 5, "bias": True}, 734_219),
        (SRResNet, {"scale": 2}, 1_399_637),
        # one convolution to 9 times 64 maps in place of one to 4 times 64
        (SRResNet, {"scale": 3}, 1_399_637 + 5 * 64 * (9 * 64 + 1)),
        # biases, but not the factor and the shift of 33 normalisations
        (SRResNet, {"norm": "none"}, 1_549_462 - 33 * 2 * 64),
        # 64 slopes in place of one in each of 19 PReLUs
        (SRResNet, {"slopes": "maps"}, 1_547_350 + 19 * 63),
        # as many convolutions as EDSR's baseline, and as large
        (MSRResNet, {"scale": 2}, 1_369_859),
        (MSRResNet, {"scale": 3}, 1_554_499),
        (MSRResNet, {"scale": 4}, 1_517_571),
    ],
)
def test_parameters(kind: type[SRModel], arguments: dict[str, object], parameters: int) -> None:
    assert parameter_count(build(kind, arguments)) == parameters


@pytest.mark.parametrize(
    ("arguments", "macs"), [({}, 2_218_176), ({"scale": 2}, 1_441_728), ({"blocks": 5}, 1_407_168)]
)
def test_multiply_accumulates(arguments: dict[str, object], macs: int) -> None:
    network = build(SRResNet, arguments)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(torch.zeros(1, 3, 8, 8, device="meta"))
    assert counter.get_total_flops() / 2 / 64 == macs


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 1), (3, 7)])
def test_any_size_is_enlarged(model: SRModel, size: tuple[int, int]) -> None:
    lr = image(batch=2, height=size[0], width=size[1])
    sr = model(lr)
    assert sr.shape == (2, 3, model.scale * size[0], model.scale * size[1])
    assert sr.isfinite().all()
    torch.testing.assert_close(sr, torch.cat([model(one[None]) for one in lr]))


def test_forward_is_reconstruct_of_features(model: SRModel) -> None:
    lr = image()
    features = model.features(lr)
    assert features.shape == (1, 8, 5, 7)
    assert torch.equal(model.reconstruct(features, lr), model(lr))


@pytest.mark.parametrize("training", [True, False])
def test_a_gradient_reaches_every_parameter(model: SRModel, training: bool) -> None:
    model.train(training)
    model(image(height=9, width=9)).square().sum().backward()
    normalised = {
        f"{name.rpartition('.')[0]}.{conv}.bias"
        for name, module in model.named_modules()
        for norm, conv in (("norm1", "conv1"), ("norm2", "conv2"), ("after_norm", "after_blocks"))
        if training and isinstance(module, nn.BatchNorm2d) and name.endswith(norm)
    }
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        if f".{name}" in normalised or name in normalised:
            continue  # the normalisation takes the bias away again
        assert parameter.grad.abs().max() > 0, name


def test_the_layout_of_srresnet() -> None:
    torch.manual_seed(2)
    network = awake(SRResNet(width=8, blocks=1, bias=True)).eval()
    own = dict(network.state_dict())

    def conv(maps: Tensor, name: str) -> Tensor:
        weight = own[f"{name}.weight"]
        return F.conv2d(maps, weight, own[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def norm(maps: Tensor, name: str) -> Tensor:
        mean, variance = own[f"{name}.running_mean"], own[f"{name}.running_var"]
        scaled = (maps - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
        return own[f"{name}.weight"][:, None, None] * scaled + own[f"{name}.bias"][:, None, None]

    def prelu(maps: Tensor, name: str) -> Tensor:
        return torch.where(maps < 0, own[f"{name}.weight"] * maps, maps)

    lr = image()
    head = prelu(conv(lr, "head"), "activation")
    maps = prelu(norm(conv(head, "blocks.0.conv1"), "blocks.0.norm1"), "blocks.0.activation")
    block = head + norm(conv(maps, "blocks.0.conv2"), "blocks.0.norm2")
    maps = head + norm(conv(block, "after_blocks"), "after_norm")
    torch.testing.assert_close(network.features(lr), maps)
    for n in (0, 3):
        maps = prelu(F.pixel_shuffle(conv(maps, f"upsampler.{n}"), 2), f"upsampler.{n + 2}")
    torch.testing.assert_close(network(lr), conv(maps, "last"))
    squeezed = SRResNet(width=8, blocks=1, bias=True, output="tanh").double().eval()
    squeezed.load_state_dict(own)
    torch.testing.assert_close(squeezed(lr), (conv(maps, "last").tanh() + 1) / 2)
    other = SRResNet(width=8, blocks=1, bias=True, epsilon=0.5).double().eval()
    other.load_state_dict(own)
    assert not torch.allclose(other(lr), network(lr))


def test_without_weights_msrresnet_gives_the_bilinear_image() -> None:
    for scale in (2, 3, 4):
        network = MSRResNet(scale=scale, width=8, blocks=1)
        for parameter in network.parameters():
            nn.init.zeros_(parameter)
        lr = torch.rand(1, 3, 4, 5)
        expected = F.interpolate(lr, scale_factor=scale, mode="bilinear", align_corners=False)
        assert torch.equal(network(lr), expected)


def test_normalisation_counts_the_batch_in_training_alone() -> None:
    torch.manual_seed(3)
    network = SRResNet(width=8, blocks=1).double()
    pair = image(batch=2)
    alone = torch.cat([network(one[None]) for one in pair])
    assert not torch.allclose(network(pair), alone)
    network.eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    torch.testing.assert_close(network(pair), torch.cat([network(one[None]) for one in pair]))
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())


def farthest(model: SRModel, *, along: int) -> int:
    """How many LR pixels away, along one axis, a pixel can change the SR pixels of another."""
    with torch.no_grad():  # positive, so that nothing cancels
        for parameter in model.parameters():
            positive = parameter.abs() + 0.01 if parameter.ndim > 1 else parameter * 0 + 0.1
            parameter.copy_(positive / positive[0].sum() if parameter.ndim > 1 else positive)
    radius = model.receptive_field + 2
    shape = [1, 3, 3, 3]
    shape[along] = 2 * radius + 1
    lr = torch.ones(shape, dtype=torch.float64).requires_grad_()
    sr = model(lr).narrow(along, radius * model.scale, model.scale)
    (gradient,) = torch.autograd.grad(sr.sum(), lr)
    other = gradient.abs().sum(dim=[d for d in range(4) if d != along])
    return int((other.nonzero().flatten() - radius).abs().max())


@pytest.mark.parametrize("along", [2, 3])
@pytest.mark.parametrize("case", CASES)
def test_the_receptive_field_is_as_stated(case: str, along: int) -> None:
    torch.manual_seed(2)
    network = CASES[case]().double().eval()
    assert farthest(network, along=along) == network.receptive_field == network.overlap


def test_tiles_equal_the_whole_image(model: SRModel) -> None:
    lr = image(height=4, width=60)
    with torch.no_grad():
        tiled = run_tiled(model, lr, tile=40, overlap=model.overlap, scale=model.scale)
        torch.testing.assert_close(tiled, model(lr), rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", ["srresnet_x4", "srresnet_x3", "msrresnet_x2"])
def test_a_gradient_branch_fits(case: str) -> None:
    torch.manual_seed(4)
    backbone = awake(CASES[case]()).eval()
    taps = ("activation", "blocks.0") if case == "srresnet_x4" else ("blocks.0",)
    averages = {name: tensor.clone() for name, tensor in backbone.named_buffers()}
    branch = GradientBranch(backbone=backbone, width=4, taps=taps).double().eval()
    assert all(torch.equal(averages[name], t) for name, t in backbone.named_buffers())
    lr = image(batch=2)
    assert torch.equal(branch(lr), backbone(lr))
    for parameter in branch.fusion[-1].parameters():
        nn.init.normal_(parameter, 0, 0.1)
    branch.train()
    found = branch.with_gradient(lr)
    assert found.sr.shape == found.gradient.shape == (2, 3, 5 * branch.scale, 7 * branch.scale)
    hr = torch.rand_like(found.sr)
    loss = (found.sr - hr).square().mean()
    loss = loss + (found.gradient - gradient_map(hr)).square().mean()
    loss.backward()  # type: ignore[no-untyped-call]
    for name, parameter in branch.named_parameters():
        assert parameter.grad is not None, name


def test_scales_that_do_not_exist_are_refused() -> None:
    for kind in (SRResNet, MSRResNet):
        with pytest.raises(InputError, match=f"{kind.__name__} has no scale 8"):
            kind(scale=8)
