import gc
import weakref

import pytest
import torch
from torch import Tensor, nn

from edgekeeper.errors import InputError
from edgekeeper.inference.network import infer
from edgekeeper.models import EDSR, ESPCN, SRCNN, VDSR, SRModel
from edgekeeper.ops.color import rgb_to_y, rgb_to_ycbcr
from edgekeeper.ops.resize import imresize

LEVEL = 1 / 255


def seeded(model: SRModel, *, seed: int = 0) -> SRModel:
    """The network with random weights that keep values near 1, the same in every run."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            inputs = parameter[0].numel() if parameter.dim() == 4 else 100
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / inputs**0.5)
    return model.eval()


class Bicubic(SRModel):
    """A network that gives what interpolation gives."""

    def __init__(self, *, scale: int, channels: str, gain=1.0) -> None:
        super().__init__()
        self.scale, self.channels, self.gain = scale, channels, gain  # type: ignore[assignment]

    def forward(self, lr: Tensor) -> Tensor:
        assert lr.shape[1] == (1 if self.channels == "y" else 3)
        return imresize(lr, scale=self.scale) * self.gain


@pytest.fixture
def lr(generator: torch.Generator) -> Tensor:
    return torch.rand(2, 3, 9, 12, generator=generator)


NETWORKS = [
    ESPCN(scale=3),
    ESPCN(scale=2, channels="rgb"),
    SRCNN(scale=2, middle=1),
    EDSR(scale=4, width=4, blocks=1),
    EDSR(scale=2, width=4, blocks=1, skip="bicubic"),
    VDSR(scale=2, variant="gv"),
]


@pytest.mark.parametrize("model", NETWORKS, ids=lambda m: f"{type(m).__name__}-{m.channels}")
def test_rgb_in_rgb_out(model: SRModel, lr: Tensor) -> None:
    sr = infer(seeded(model), lr)
    assert sr.shape == (2, 3, 9 * model.scale, 12 * model.scale)
    assert sr.dtype == torch.float32
    assert not sr.requires_grad
    assert float(sr.min()) >= 0
    assert float(sr.max()) <= 1


@pytest.mark.parametrize("model", NETWORKS, ids=lambda m: f"{type(m).__name__}-{m.channels}")
def test_a_batch_is_its_images(model: SRModel, lr: Tensor) -> None:
    seeded(model)
    alone = torch.cat([infer(model, lr[k : k + 1]) for k in range(2)])
    torch.testing.assert_close(infer(model, lr), alone, atol=1e-5, rtol=0)


def test_an_rgb_network_gets_the_image_as_it_is(lr: Tensor) -> None:
    model = seeded(EDSR(scale=2, width=4, blocks=1))
    with torch.no_grad():
        assert torch.equal(infer(model, lr, clamp="none"), model(lr))


def test_a_luma_network_gives_y_and_interpolation_gives_colour(lr: Tensor) -> None:
    model = seeded(ESPCN(scale=2))
    with torch.no_grad():
        y = model(rgb_to_ycbcr(lr)[:, :1])
    sr = rgb_to_ycbcr(infer(model, lr, clamp="none"))
    chroma = imresize(rgb_to_ycbcr(lr)[:, 1:], scale=2)
    torch.testing.assert_close(sr[:, :1], y, atol=1e-5, rtol=0)
    torch.testing.assert_close(sr[:, 1:], chroma, atol=1e-5, rtol=0)


@pytest.mark.parametrize("channels", ["y", "rgb"])
def test_interpolation_through_infer_is_interpolation(channels: str, lr: Tensor) -> None:
    # Interpolation and the change of colours are both linear: their order does not matter.
    sr = infer(Bicubic(scale=3, channels=channels), lr, clamp="none")
    torch.testing.assert_close(sr, imresize(lr, scale=3), atol=2e-6, rtol=0)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "model",
    [
        ESPCN(scale=2),
        SRCNN(scale=3, middle=1),
        VDSR(scale=2, variant="y"),
        EDSR(scale=2, width=4, blocks=1, skip="bicubic"),
        VDSR(scale=2, variant="gv"),
    ],
    ids=["espcn-y", "srcnn-y", "vdsr-y", "edsr-rgb", "vdsr-gv"],
)
def test_a_grey_image_stays_grey(
    model: SRModel, precision: str, generator: torch.Generator
) -> None:
    if not isinstance(model, EDSR):  # EDSR begins as interpolation, which keeps grey
        seeded(model)
    grey = torch.rand(1, 1, 8, 8, generator=generator).expand(1, 3, 8, 8)
    sr = infer(model, grey, precision=precision, clamp="none")  # type: ignore[arg-type]
    assert float(sr.std()) > 0.001  # something is in the image
    assert float((sr.amax(1) - sr.amin(1)).max()) < 1e-5


def test_grey_images_stay_grey_through_networks_that_give_them_a_cast(generator) -> None:
    model = seeded(EDSR(scale=2, width=4, blocks=1))
    lr = torch.rand(2, 3, 8, 8, generator=generator)
    lr[1] = lr[1, :1]
    sr = infer(model, lr, clamp="none")
    with torch.no_grad():
        plain = model(lr)
    assert float((plain[1].amax(0) - plain[1].amin(0)).max()) > 0.01
    assert torch.equal(sr[1, 0], sr[1, 1]) and torch.equal(sr[1, 0], sr[1, 2])
    torch.testing.assert_close(rgb_to_y(sr[1:]), rgb_to_y(plain[1:]), atol=1e-6, rtol=0)
    torch.testing.assert_close(sr[0], plain[0], atol=1e-6, rtol=0)  # its neighbour is in colour


def test_the_border_of_a_network_is_put_around_the_image_and_cut_off(lr: Tensor) -> None:
    for model in (EDSR(scale=3, width=4, blocks=1), ESPCN(scale=2)):
        seeded(model).border = 4
        around = nn.functional.pad(lr, (4, 4, 4, 4), mode="replicate")
        if model.channels == "y":
            with torch.no_grad():
                wide = model(rgb_to_y(around))
            found = rgb_to_y(infer(model, lr, clamp="none"))
        else:
            with torch.no_grad():
                wide = model(around)
            found = infer(model, lr, clamp="none")
        cut = 4 * model.scale
        torch.testing.assert_close(found, wide[..., cut:-cut, cut:-cut], atol=1e-5, rtol=0)
        model.border = 0
        without = infer(model, lr, clamp="none")
        assert float((rgb_to_y(without) - wide[..., cut:-cut, cut:-cut]).abs().max()) > 1e-3


def test_a_flat_colour_keeps_its_hue() -> None:
    colour = torch.tensor([0.8, 0.3, 0.1]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    sr = infer(Bicubic(scale=2, channels="y"), colour)
    torch.testing.assert_close(sr, colour.repeat(1, 1, 2, 2), atol=2e-6, rtol=0)


@pytest.mark.parametrize("channels", ["y", "rgb"])
def test_values_outside_are_clamped_unless_told_otherwise(channels: str) -> None:
    white = torch.ones(1, 3, 4, 4)
    model = Bicubic(scale=2, channels=channels, gain=2.0)
    assert float(infer(model, white, clamp="none").max()) > 1.5
    assert float(infer(model, white).max()) == 1.0
    assert float(infer(model, white, clamp="unit").max()) == 1.0
    dark = Bicubic(scale=2, channels=channels, gain=-1.0)
    assert float(infer(dark, white, clamp="none").min()) < -0.5
    assert float(infer(dark, white).min()) == 0.0


@pytest.mark.parametrize("model", NETWORKS, ids=lambda m: f"{type(m).__name__}-{m.channels}")
def test_bfloat16_is_close_to_float32_and_not_equal(model: SRModel, lr: Tensor) -> None:
    seeded(model)
    full, half = (
        infer(model, lr, clamp="none"),
        infer(model, lr, precision="bfloat16", clamp="none"),
    )
    assert half.dtype == torch.float32
    assert not torch.equal(full, half)
    # bfloat16 has 8 bits: 1/256 of the largest value, a few times over
    assert float((full - half).abs().max()) < 4 / 256 * max(1.0, float(full.abs().max()))


def test_what_a_network_adds_to_stays_float32_in_bfloat16(lr: Tensor) -> None:
    # An untrained EDSR on top of interpolation adds nothing; interpolation must not be rounded.
    model = EDSR(scale=2, width=4, blocks=1, skip="bicubic").eval()
    sr = infer(model, lr, precision="bfloat16", clamp="none")
    torch.testing.assert_close(sr, imresize(lr, scale=2), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "wrong",
    [
        torch.rand(3, 8, 8),
        torch.rand(1, 1, 8, 8),
        torch.rand(1, 4, 8, 8),
        torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
        torch.zeros(1, 8, 8, 3),
    ],
    ids=["no batch", "grey", "alpha", "bytes", "channels last"],
)
@pytest.mark.parametrize("channels", ["y", "rgb"])
def test_anything_but_a_float_rgb_batch_is_refused(wrong: Tensor, channels: str) -> None:
    with pytest.raises(InputError, match=r"\(B, 3, H, W\).*got \("):
        infer(Bicubic(scale=2, channels=channels), wrong)


@pytest.mark.parametrize("skip", ["none", "bicubic"])
def test_a_network_can_be_trained_after_it_was_run(skip: str, lr: Tensor) -> None:
    # What inference mode has made (and perhaps cached) may not enter a graph.
    model = EDSR(scale=2, width=4, blocks=1, skip=skip)  # type: ignore[arg-type]
    infer(model, lr)
    model(lr.requires_grad_()).sum().backward()
    assert lr.grad is not None


class Mixed(SRModel):
    """A network with dropout, and with a frozen part in it."""

    scale, channels, receptive_field = 1, "rgb", 0

    def __init__(self) -> None:
        super().__init__()
        self.loud, self.frozen = nn.Dropout(0.5), nn.Dropout(0.5).eval()

    def forward(self, lr: Tensor) -> Tensor:
        return self.frozen(self.loud(lr))


def test_the_network_runs_in_evaluation_mode_and_is_left_in_its_own(lr: Tensor) -> None:
    model = Mixed()
    assert torch.equal(infer(model, lr), lr)
    assert (model.training, model.loud.training, model.frozen.training) == (True, True, False)
    model.eval()
    infer(model, lr)
    assert not any(module.training for module in model.modules())


def test_a_network_that_fails_is_left_in_its_mode(lr: Tensor) -> None:
    class Failing(Mixed):
        def forward(self, lr: Tensor) -> Tensor:
            raise RuntimeError("no")

    model = Failing()
    with pytest.raises(RuntimeError, match="no"):
        infer(model, lr)
    assert model.training


@pytest.mark.parametrize("model", NETWORKS, ids=lambda m: f"{type(m).__name__}-{m.channels}")
def test_the_layout_changes_the_last_bits_at_most(model: SRModel, lr: Tensor) -> None:
    seeded(model)
    plain = infer(model, lr, clamp="none")
    last = infer(model, lr, clamp="none", layout="channels last")
    torch.testing.assert_close(last, plain, atol=1e-5, rtol=1e-5)


def test_parameters_still_learn_after_inference() -> None:
    model = ESPCN(scale=2).train()
    infer(model, torch.rand(1, 3, 4, 4))
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_network_that_ran_goes_with_its_last_name(lr: Tensor) -> None:
    """Not in a later garbage collection, which would end a runtime's threads anywhere."""
    model = ESPCN(scale=2).train()
    gc.disable()
    try:
        infer(model, lr)
        seen = weakref.ref(model)
        del model
        assert seen() is None
    finally:
        gc.enable()
