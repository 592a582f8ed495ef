"""The gradient branch on any network: nothing changes at first, both learn, taps are checked."""

import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.models import EDSR, ESPCN, RRDB, SRCNN, VDSR, GradientBranch, SRModel
from edgekeeper.models.base import COLOUR_COUNT
from edgekeeper.models.enlarge import STEPS
from edgekeeper.ops.gradient import gradient_map
from edgekeeper.ops.resize import imresize
from edgekeeper.spec import spec

BACKBONES: dict[str, tuple[Callable[[], SRModel], tuple[str, ...]]] = {
    "edsr_x2": (lambda: EDSR(scale=2, width=8, blocks=2), ("blocks.0", "blocks.1.conv1")),
    "edsr_x4": (lambda: EDSR(scale=4, width=8, blocks=1), ()),
    "espcn_y_x3": (lambda: ESPCN(scale=3), ("conv1",)),
    "rrdb_x4": (lambda: RRDB(width=8, blocks=2, growth=4), ("blocks.0",)),
    "srcnn_y_x2": (lambda: SRCNN(scale=2), ()),
    "vdsr_rgb_x3": (lambda: VDSR(scale=3, variant="rgb"), ("hidden.3",)),
}


@pytest.fixture(params=BACKBONES)
def model(request: pytest.FixtureRequest) -> GradientBranch:
    torch.manual_seed(1)
    build, taps = BACKBONES[request.param]
    return GradientBranch(backbone=build(), width=4, taps=taps).double()


def image(model: SRModel, *, height: int = 5, width: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    shape = (2, COLOUR_COUNT[model.channels], height, width)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def awaken(model: GradientBranch) -> None:
    """Give the fusion's last convolution, which starts at zero, weights."""
    with torch.no_grad():
        for parameter in model.fusion[-1].parameters():
            parameter.normal_(0, 0.1)


def test_at_first_it_changes_nothing(model: GradientBranch) -> None:
    lr = image(model)
    assert torch.equal(model(lr), model.backbone(lr))
    awaken(model)
    assert not torch.allclose(model(lr), model.backbone(lr))
    for parameter in model.fusion[-1].parameters():
        torch.nn.init.zeros_(parameter)
    assert torch.equal(model(lr), model.backbone(lr))


def test_the_sr_branch_alone_is_the_one_with_nothing_fused(model: GradientBranch) -> None:
    lr = image(model)
    awaken(model)
    alone = model.sr_branch_only(lr)
    assert not torch.allclose(model(lr), alone)
    for parameter in model.fusion[-1].parameters():
        torch.nn.init.zeros_(parameter)
    assert torch.equal(model(lr), alone)


def test_shapes_and_halves(model: GradientBranch) -> None:
    awaken(model)
    lr = image(model)
    found = model.with_gradient(lr)
    assert (model.scale, model.channels) == (model.backbone.scale, model.backbone.channels)
    assert found.sr.shape == found.gradient.shape
    assert found.sr.shape == (2, lr.shape[1], 5 * model.scale, 7 * model.scale)
    assert torch.equal(model(lr), found.sr)
    assert torch.equal(model.reconstruct(model.features(lr), lr), found.sr)


def test_a_gradient_reaches_both_networks(model: GradientBranch) -> None:
    awaken(model)
    torch.nn.init.normal_(next(iter(model.backbone.parameters())), 0, 0.1)
    found = model.with_gradient(image(model, height=8, width=8))
    found.sr.square().sum().backward(retain_graph=True)
    for name, parameter in model.named_parameters():
        if not name.startswith("gradient_tail."):
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    model.zero_grad()
    found.gradient.square().sum().backward()
    for name, parameter in model.named_parameters():
        if name.startswith(("head.", "steps.", "gradient_tail.")):
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_it_trains() -> None:
    torch.manual_seed(3)
    model = GradientBranch(backbone=EDSR(scale=2, width=8, blocks=1), width=4, taps=("blocks.0",))
    hr = torch.rand(2, 3, 16, 16)
    lr = imresize(hr, scale=0.5)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for _ in range(3):
        found = model.with_gradient(lr)
        loss = (found.sr - hr).abs().mean() + 0.5 * (found.gradient - gradient_map(hr)).abs().mean()
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[0] > losses[1] > losses[2]
    named = zip(before, model.named_parameters(), strict=True)
    assert [name for old, (name, new) in named if torch.equal(old, new)] == []


def test_its_map_is_of_the_lr_image_or_of_the_interpolated_one() -> None:
    for build, enlarged in ((lambda: ESPCN(scale=3), False), (lambda: SRCNN(scale=2), True)):
        backbone: SRModel = build()
        model = GradientBranch(backbone=backbone, width=4).double()
        seen: list[Tensor] = []
        model.head.register_forward_hook(lambda _m, given, _r, seen=seen: seen.append(given[0]))
        lr = image(model)
        model(lr)
        expected = gradient_map(imresize(lr, scale=backbone.scale) if enlarged else lr)
        assert len(seen) == 1 and torch.equal(seen[0], expected)


@pytest.mark.parametrize("name", ["edsr_x2", "rrdb_x4", "vdsr_rgb_x3"])
def test_nothing_beyond_the_stated_radius_changes_a_pixel(name: str) -> None:
    torch.manual_seed(4)
    build, taps = BACKBONES[name]
    model = GradientBranch(backbone=build(), width=4, taps=taps).double()
    awaken(model)
    radius, extra = model.receptive_field, model.receptive_field - model.backbone.receptive_field
    assert extra > 0 and model.overlap == model.backbone.overlap + extra
    before = torch.rand(1, 3, 2 * radius + 9, 3, dtype=torch.float64)
    after = before.clone()
    after[:, :, radius + 4] += 0.5
    changed = (model(after) != model(before)).any(dim=3).any(dim=1)[0]
    rows = changed.nonzero().flatten() // model.scale - (radius + 4)
    assert len(rows) > 0 and rows.abs().max() <= radius


def test_a_spec_of_the_backbone_is_built() -> None:
    description = spec(GradientBranch, backbone=spec(EDSR, scale=3, width=8, blocks=1), width=4)
    assert description == spec(
        GradientBranch, width=4, backbone=spec(EDSR, blocks=1, scale=3, width=8)
    )
    one, other = description.build(), description.build()
    assert isinstance(one.backbone, EDSR) and one.scale == 3
    assert one.backbone is not other.backbone


def test_a_copy_is_independent() -> None:
    torch.manual_seed(5)
    model = GradientBranch(backbone=EDSR(width=8, blocks=1), width=4, taps=("blocks.0",))
    awaken(model)
    lr = torch.rand(1, 3, 5, 6)
    expected = model(lr)
    twin = copy.deepcopy(model)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    assert torch.equal(twin(lr), expected)
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin(lr), model(lr))


class Meeting(SRModel):
    """A network whose threads wait for each other before and after the tapped module."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.channels, self.receptive_field = 1, "y", 1
        self.conv = torch.nn.Conv2d(1, 2, 3, padding=1)
        self.meet: threading.Barrier | None = None

    def wait(self) -> None:
        if self.meet is not None:
            self.meet.wait(timeout=30)

    def features(self, lr: Tensor) -> Tensor:
        self.wait()
        maps = self.conv(lr)
        self.wait()
        return maps

    def reconstruct(self, features: Tensor, lr: Tensor) -> Tensor:
        return features[:, :1]


def test_two_threads_do_not_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(6)
    backbone = Meeting()
    monkeypatch.setitem(STEPS, 1, ())  # a network that does not enlarge will do here
    model = GradientBranch(backbone=backbone, width=4, taps=("conv",)).eval()
    awaken(model)
    images = [torch.rand(1, 1, 4, 5), torch.rand(1, 1, 4, 5)]
    with torch.no_grad():
        expected = [model(lr) for lr in images]
    backbone.meet = threading.Barrier(2)
    results: dict[int, Tensor] = {}

    def work(index: int) -> None:
        with torch.no_grad():
            results[index] = model(images[index])

    threads = [threading.Thread(target=work, args=(n,)) for n in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(results[n], expected[n]) for n in (0, 1))
    assert not backbone.conv._forward_hooks  # none is left behind


def test_probing_leaves_the_backbone_in_its_mode() -> None:
    backbone = EDSR(width=8, blocks=1)
    GradientBranch(backbone=backbone, width=4)
    assert backbone.training and backbone.blocks.training
    GradientBranch(backbone=backbone.eval(), width=4)
    assert not backbone.training


def test_a_tap_that_does_not_exist_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'block.0'. Did you mean 'blocks.0'"):
        GradientBranch(backbone=EDSR(width=8, blocks=1), taps=("block.0",))


def test_maps_of_other_sizes_are_refused() -> None:
    with pytest.raises(InputError, match=r"sizes \[\(3, 3\)\] for an image of 6 x 6"):
        GradientBranch(backbone=RRDB(scale=2, width=8, blocks=1, growth=4, unshuffle=2))


def test_a_tap_after_the_features_is_refused() -> None:
    with pytest.raises(InputError, match="VDSR does not run 'last' on the way to its features"):
        GradientBranch(backbone=VDSR(), taps=("hidden.0", "last"), width=4)


class Plain(torch.nn.Module):
    """A network as people have them: one forward, nothing said of itself."""

    def __init__(self, *, width: int = 6) -> None:
        super().__init__()
        self.head = torch.nn.Conv2d(3, width, 3, padding=1)
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(width, width, 5, padding=2), torch.nn.ReLU()
        )
        self.up = torch.nn.Sequential(
            torch.nn.Conv2d(width, 12, 3, padding=1), torch.nn.PixelShuffle(2)
        )

    def forward(self, lr: Tensor) -> Tensor:
        sr: Tensor = self.up(self.body(self.head(lr))) + imresize(lr, scale=2)
        return sr


def test_a_plain_module_is_told_what_it_lacks() -> None:
    with pytest.raises(
        InputError, match=r"needs scale, channels, receptive_field, .* give scale= and enlarge="
    ):
        GradientBranch(backbone=Plain())


def test_a_plain_module_is_wrapped_when_told_its_scale_and_what_enlarges() -> None:
    torch.manual_seed(7)
    model = GradientBranch(backbone=Plain(), scale=2, enlarge="up", taps=("head",), width=4)
    model = model.double()
    lr = image(model)
    alone = model.backbone(lr)
    assert torch.equal(model(lr), alone)  # at first it changes nothing
    assert model.backbone.receptive_field == 1 + 2 + 1
    awaken(model)
    runs: list[int] = []
    counted = model.backbone.get_submodule("network.body").register_forward_hook(
        lambda *_: runs.append(1)
    )
    found = model.with_gradient(lr)
    assert len(runs) == 1  # the network runs once
    counted.remove()
    assert not torch.allclose(found.sr, alone)
    assert found.gradient.shape == found.sr.shape == (2, 3, 10, 14)
    halves = model.reconstruct(model.features(lr), lr)
    assert torch.equal(model(lr), found.sr) and torch.allclose(halves, found.sr)
    (found.sr.sum() + found.gradient.square().sum()).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())
    up = model.backbone.get_submodule("network.up")
    assert not up._forward_pre_hooks  # none is left behind


def test_a_plain_module_wrongly_described_is_refused() -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"scale": 3, "enlarge": "up"}, "Plain makes 48 of 24 pixels, not 3 times as many"),
        ({"scale": 2, "enlarge": "upp"}, "Did you mean 'up'"),
        ({"scale": 2, "enlarge": "up", "taps": ("up.1",)}, "does not run 'network.up.1'"),
    ]
    for arguments, message in cases:
        with pytest.raises(InputError, match=message):
            GradientBranch(backbone=Plain(), **arguments)
    twice: Any = torch.nn.Sequential(same := torch.nn.Upsample(scale_factor=2), Plain().head, same)
    with pytest.raises(InputError, match="runs '0' 2 times for an image"):
        GradientBranch(backbone=twice, scale=4, enlarge="0")
