"""What every network promises, whichever it is."""

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

import pytest
import torch
from torch import Tensor, nn

from edgekeeper.models import (
    DBPN,
    DGGGAN,
    EDSR,
    ESPCN,
    FSRCNN,
    IMDN,
    MODELS,
    RCAN,
    RDN,
    RRDB,
    SFTGAN,
    SPSR,
    SRCNN,
    VDSR,
    ChainSR,
    DGGGANLight,
    GradientBranch,
    GradientGuided,
    MSRResNet,
    NatSR,
    SRModel,
    SRResNet,
    SRVGGNetCompact,
    parameter_count,
)
from edgekeeper.ops.resize import imresize

CASES: dict[str, Callable[[], SRModel]] = {
    "srcnn_y_x3": lambda: SRCNN(scale=3),
    "srcnn_rgb_915_x2": lambda: SRCNN(scale=2, channels="rgb", middle=1),
    "vdsr_y_x2": lambda: VDSR(scale=2),
    "vdsr_gv_x3": lambda: VDSR(scale=3, variant="gv", interpolation="bilinear"),
    "vdsr_rgb_x2": lambda: VDSR(scale=2, variant="rgb"),
    "espcn_y_x3": lambda: ESPCN(scale=3),
    "espcn_rgb_x4": lambda: ESPCN(scale=4, channels="rgb"),
    "edsr_x2": lambda: EDSR(scale=2, width=8, blocks=2),
    "edsr_x3": lambda: EDSR(scale=3, width=8, blocks=1, residual_scale=0.1),
    "edsr_x4": lambda: EDSR(scale=4, width=8, blocks=2),
    "edsr_x4_bicubic": lambda: EDSR(scale=4, width=8, blocks=1, skip="bicubic"),
    "edsr_x2_direct": lambda: EDSR(scale=2, width=8, blocks=1, upsampler="direct"),
    "edsr_x3_direct_bicubic": lambda: EDSR(
        scale=3, width=8, blocks=2, upsampler="direct", skip="bicubic"
    ),
    "rrdb_x3": lambda: RRDB(scale=3, width=8, blocks=1, growth=4),
    "rrdb_x2_unshuffled": lambda: RRDB(scale=2, width=8, blocks=1, growth=4, unshuffle=2),
    "spsr_x2": lambda: SPSR(scale=2, width=4, blocks=2, growth=2, taps=(1, 2)),
    "sftgan_x4": lambda: SFTGAN(scale=4, width=8, blocks=1, condition=4, hidden=8),
    "sftgan_x3_torch": lambda: SFTGAN(
        scale=3, width=8, blocks=1, condition=4, hidden=8, variant="torch"
    ),
    "natsr_x4": lambda: NatSR(scale=4, width=8, levels=1, layers=2),
    "srresnet_x2": lambda: SRResNet(scale=2, width=8, blocks=1),
    "srresnet_x4_none": lambda: SRResNet(scale=4, width=8, blocks=1, norm="none", slopes="maps"),
    "msrresnet_x3": lambda: MSRResNet(scale=3, width=8, blocks=1),
    "fsrcnn_y_x3": lambda: FSRCNN(scale=3, width=8, narrow=4, mapping=1),
    "fsrcnn_rgb_x4": lambda: FSRCNN(scale=4, channels="rgb", width=8, narrow=4, mapping=1),
    "imdn_x3": lambda: IMDN(scale=3, width=32, blocks=1),
    "rcan_x2": lambda: RCAN(scale=2, width=8, groups=2, blocks=1, reduction=2),
    "rcan_x3": lambda: RCAN(scale=3, width=8, groups=1, blocks=2, reduction=2),
    "rcan_x4": lambda: RCAN(scale=4, width=8, groups=1, blocks=1, reduction=2),
    "rdn_x2": lambda: RDN(scale=2, width=6, blocks=2, layers=2, growth=4),
    "rdn_x3": lambda: RDN(scale=3, width=4, blocks=1, layers=3, growth=4),
    "rdn_x4": lambda: RDN(scale=4, width=4, blocks=2, layers=1, growth=6),
    "dbpn_x2": lambda: DBPN(scale=2, width=4, stages=3, first=6),
    "dbpn_x4": lambda: DBPN(scale=4, width=4, stages=3, first=6),
    "dbpn_x8": lambda: DBPN(scale=8, width=4, stages=2, first=6),
    "dgggan_x4": lambda: DGGGAN(scale=4, width=32, blocks=1, grad_every=1),
    "dgggan_x3_lr": lambda: DGGGAN(scale=3, width=32, blocks=1, grad_every=1, body="lr"),
    **{
        f"chainsr_x{scale}": (lambda scale=scale: ChainSR(scale=scale, width=4, blocks=3, depth=2))
        for scale in (2, 3, 4)
    },
    **{
        f"srvgg_x{scale}": (
            lambda scale=scale: SRVGGNetCompact(scale=scale, width=4, convolutions=2)
        )
        for scale in (2, 3, 4)
    },
    "dggganlight_x3": lambda: DGGGANLight(
        scale=3, width=8, blocks=2, grad_every=1, gradient_width=4
    ),
    "gradientbranch_x3": lambda: GradientBranch(
        backbone=EDSR(scale=3, width=8, blocks=1), width=4, taps=("blocks.0",)
    ),
    "gradientbranch_y_x2": lambda: GradientBranch(backbone=SRCNN(scale=2), width=4),
}


@runtime_checkable
class Guided(Protocol):
    """A network that predicts the gradient map too."""

    def with_gradient(self, lr: Tensor) -> GradientGuided: ...


@pytest.fixture(params=CASES)
def model(request: pytest.FixtureRequest) -> SRModel:
    """A network in float64 whose weights are all random, also those that start at zero."""
    return built(request.param)


def built(case: str, *, seed: int = 1) -> SRModel:
    torch.manual_seed(seed)
    network = CASES[case]().double().eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.abs().mean() < 0.01:
                parameter.normal_(0, 0.1)
            if name.endswith("squeeze.bias"):  # of an attention, some of whose ReLUs are then open
                parameter.fill_(0.5)
            elif name.endswith("squeeze.weight"):
                parameter[1::2] = -parameter[: len(parameter) - 1 : 2]
    return network


def image(model: SRModel, *, batch: int = 1, height: int = 5, width: int = 7) -> Tensor:
    colours = 1 if model.channels == "y" else 3
    generator = torch.Generator().manual_seed(height * 100 + width)
    return torch.rand(batch, colours, height, width, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 1), (3, 7)])
def test_the_output_is_scale_times_the_input(model: SRModel, size: tuple[int, int]) -> None:
    lr = image(model, batch=2, height=size[0], width=size[1])
    sr = model(lr)
    assert sr.shape == (2, lr.shape[1], model.scale * size[0], model.scale * size[1])
    assert sr.dtype == lr.dtype
    assert sr.isfinite().all()


def test_a_batch_equals_its_images_one_by_one(model: SRModel) -> None:
    lr = image(model, batch=3)
    torch.testing.assert_close(model(lr), torch.cat([model(one[None]) for one in lr]))


def test_channels_last_gives_the_same_image(model: SRModel) -> None:
    lr = image(model, batch=2)
    expected = model(lr)
    again = model.to(memory_format=torch.channels_last)(
        lr.contiguous(memory_format=torch.channels_last)
    )
    torch.testing.assert_close(again, expected, rtol=0, atol=1e-12)


def test_forward_is_reconstruct_of_features(model: SRModel) -> None:
    lr = image(model)
    features = model.features(lr)
    assert features.ndim == 4
    assert torch.equal(model.reconstruct(features, lr), model(lr))


def test_a_gradient_reaches_every_parameter(model: SRModel) -> None:
    lr = image(model, height=9, width=9)
    if isinstance(model, Guided):
        found = model.with_gradient(lr)
        (found.sr.square().sum() + found.gradient.square().sum()).backward()
    else:
        model(lr).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("case", CASES)
def test_training_brings_it_nearer(case: str) -> None:
    torch.manual_seed(1)
    model = CASES[case]().train()  # as it starts
    hr = image(model, height=6 * model.scale, width=6 * model.scale).float()
    lr = imresize(hr, scale=1 / model.scale)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(4):
        loss = (model(lr) - hr).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_the_same_image_gives_the_same_result(model: SRModel) -> None:
    lr = image(model)
    torch.manual_seed(3)
    first = model(lr)
    model(image(model, height=6))  # nothing is remembered
    torch.manual_seed(4)
    assert torch.equal(model(lr), first)


@pytest.mark.parametrize("case", CASES)
def test_the_state_holds_all_that_was_learnt(case: str) -> None:
    model, other = built(case), built(case, seed=2)
    lr = image(model)
    assert not torch.allclose(other(lr), model(lr))
    state = model.state_dict()
    assert set(state) >= {name for name, _ in model.named_parameters()}
    other.load_state_dict(state)
    assert torch.equal(other(lr), model(lr))
    assert torch.equal(copy.deepcopy(model)(lr), model(lr))


def test_float32_gives_float32_near_float64(model: SRModel) -> None:
    lr = image(model)
    with torch.no_grad():
        expected = model(lr)
        sr = model.float()(lr.float())
    assert sr.dtype == torch.float32
    torch.testing.assert_close(sr.double(), expected, rtol=0, atol=1e-5 * magnitude(expected))


def test_bfloat16_convolutions_give_a_near_image(model: SRModel) -> None:
    lr = image(model).float()
    model.float()
    with torch.no_grad():
        expected = model(lr)
        with torch.autocast("cpu", torch.bfloat16):
            sr = model(lr)
    assert sr.shape == expected.shape
    torch.testing.assert_close(sr.float(), expected, rtol=0, atol=0.05 * magnitude(expected))


def magnitude(image: Tensor) -> float:
    return max(1.0, float(image.abs().max()))


def test_every_network_of_the_table_is_among_the_cases() -> None:
    assert {type(build()) for build in CASES.values()} == set(MODELS.values())


def test_the_input_stays_as_it_was(model: SRModel) -> None:
    lr = image(model)
    before = lr.clone()
    model(lr)
    assert torch.equal(lr, before)


def blind(model: SRModel) -> None:
    """Weigh channels by a half, where a network weighs them by means over the whole image."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "excite." in name:
                parameter.zero_()


def farthest(model: SRModel, *, along: int, shift: int) -> int:
    """How many LR pixels away, along one axis, a pixel can change the SR pixels of another.

    The other is ``shift`` pixels after the beginning of a cell, for networks that have cells.
    With positive weights every path counts; they sum to 1, so that no tanh is flat. The gradient
    also shows influences that a sum in floating point would lose.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            positive = parameter.abs() + 0.01 if parameter.ndim > 1 else parameter * 0 + 0.1
            parameter.copy_(positive / positive[0].sum() if parameter.ndim > 1 else positive)
    blind(model)
    centre = (model.receptive_field // model.multiple + 2) * model.multiple + shift
    shape = [1, 1 if model.channels == "y" else 3, 1, 1]
    shape[along] = 2 * centre + 1
    shape[5 - along] = 3
    # Brighter than EDSR's mean colour, so that no ReLU is closed.
    lr = (torch.rand(shape, dtype=torch.float64) + 1).requires_grad_()
    start = centre * model.scale
    sr = model(lr).narrow(along, start, model.scale)
    reached = torch.zeros_like(lr)
    for phase in range(model.scale):  # apart, so that bicubic's negative weights cannot cancel
        total = sr.select(along, phase)[:, :, :1].sum()
        (gradient,) = torch.autograd.grad(total, lr, retain_graph=True)
        reached += gradient.abs()
    other = reached.sum(dim=[d for d in range(4) if d != along])
    return int((other.nonzero().flatten() - centre).abs().max())


# By how many LR pixels the stated radius is too large, and so costs tiles a little: the parts of a
# network are rounded up one by one (so are cells of two pixels), and bilinear interpolation is
# counted as bicubic.
SLACK = {
    "srcnn_y_x3": 1,
    "vdsr_gv_x3": 2,
    "rrdb_x2_unshuffled": 1,
    "dgggan_x4": 1,
    "gradientbranch_x3": 1,
}


@pytest.mark.parametrize("along", [2, 3])
@pytest.mark.parametrize("case", CASES)
def test_the_receptive_field_is_as_stated(case: str, along: int) -> None:
    torch.manual_seed(2)
    network = CASES[case]().double().eval()
    slack = SLACK.get(case, 0)
    reach = max(farthest(network, along=along, shift=n) for n in range(network.multiple))
    assert reach == network.receptive_field - slack
    assert 0 <= network.overlap <= network.receptive_field


def test_a_pixel_changes_nothing_beyond_the_receptive_field(model: SRModel) -> None:
    blind(model)
    radius = model.receptive_field
    before = image(model, height=2 * radius + 7, width=3)
    after = before.clone()
    after[:, :, radius + 3] += 0.5
    changed = (model(after) != model(before)).any(dim=3).any(dim=1)[0]
    rows = changed.nonzero().flatten() // model.scale - (radius + 3)
    assert len(rows) > 0
    assert rows.abs().max() <= radius


BY_SCALE = [name for name in MODELS if name != "gradientbranch"]  # it has its network's scale


@pytest.mark.parametrize("name", BY_SCALE)
def test_every_network_of_the_table_is_built_from_its_scale(name: str) -> None:
    assert MODELS[name].__name__.lower() == name
    with torch.device("meta"):
        network = MODELS[name](scale=2)
    assert network.scale == 2
    assert network.channels in ("y", "rgb")
    assert isinstance(network, nn.Module) and parameter_count(network) > 0


def test_every_network_is_in_the_docs_and_describes_itself() -> None:
    text = Path(__file__).parents[2].joinpath("docs/models.md").read_text(encoding="utf-8")
    for network in MODELS.values():
        assert f"`{network.__name__}" in text, network
        assert len(sys.modules[network.__module__].__doc__ or "") > 200, network


def test_parameter_count_leaves_out_what_is_not_learnt() -> None:
    layer = nn.Conv2d(2, 3, 1)
    layer.bias.requires_grad_(False)  # type: ignore[union-attr]
    assert parameter_count(layer) == 6
