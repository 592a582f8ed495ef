"""How far DGGGAN looks, what tiles change, and that a file gives it back."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.tiling import run_tiled
from torch import Tensor, nn

from edgekeeper.models import DGGGAN
from edgekeeper.models.dgggan import SqueezeExcitation
from edgekeeper.pretrained import zoo
from edgekeeper.pretrained.checkpoint import save_model
from edgekeeper.spec import spec

CASES: dict[str, Callable[[], DGGGAN]] = {
    "half_x4": lambda: DGGGAN(width=4, blocks=2, grad_every=2, se=False),
    "half_x3": lambda: DGGGAN(scale=3, width=8, blocks=1, grad_every=1, se=False),
    "half_x2_bicubic": lambda: DGGGAN(
        scale=2, width=4, blocks=1, grad_every=1, se=False, image_skip="bicubic"
    ),
    "half_x4_without_branch": lambda: DGGGAN(
        width=4, blocks=1, grad_every=1, se=False, gradient_branch=False
    ),
    "lr_x4": lambda: DGGGAN(width=4, blocks=3, body="lr", se=False),
    "lr_x3_bilinear": lambda: DGGGAN(
        scale=3, width=4, blocks=1, grad_every=1, body="lr", se=False, image_skip="bilinear"
    ),
    "lr_x2": lambda: DGGGAN(scale=2, width=4, blocks=2, grad_every=1, body="lr", se=False),
    "lr_x4_without_branch": lambda: DGGGAN(
        width=4, blocks=1, grad_every=1, body="lr", se=False, gradient_branch=False
    ),
}


def farthest(model: DGGGAN, *, centre: int, side: int) -> int:
    """How many LR rows away a row can change the SR rows of row ``centre``."""
    with torch.no_grad():  # positive, so that nothing cancels
        for parameter in model.parameters():
            positive = parameter.abs() + 0.01 if parameter.ndim > 1 else parameter * 0 + 0.1
            parameter.copy_(positive / positive[0].sum() if parameter.ndim > 1 else positive)
    lr = torch.rand(1, 3, side, 4, dtype=torch.float64).requires_grad_()
    rows = model(lr)[:, :, centre * model.scale : (centre + 1) * model.scale]
    (gradient,) = torch.autograd.grad(rows.sum(), lr)
    return int((gradient.abs().sum((0, 1, 3)).nonzero().flatten() - centre).abs().max())


# With cells of two pixels the radius is that of the worse pixel of a cell, in the worse direction;
# where enlarging makes both directions unlike, no pixel has both.
SLACK = {"half_x4": 1, "half_x2_bicubic": 1, "half_x4_without_branch": 1}


@pytest.mark.parametrize("case", CASES)
def test_the_receptive_field_is_as_stated(case: str) -> None:
    torch.manual_seed(2)
    model = CASES[case]().double()
    radius = model.receptive_field
    side = 2 * radius + 6
    reach = max(farthest(model, centre=radius + n, side=side) for n in (2, 3))
    assert reach == radius - SLACK.get(case, 0)


def test_the_paper_s_receptive_fields() -> None:
    with torch.device("meta"):
        found = {body: DGGGAN(body=body) for body in ("half", "lr")}
    assert {body: (m.receptive_field, m.overlap, m.multiple) for body, m in found.items()} == {
        "half": (89, 89, 2),
        "lr": (44, 44, 1),
    }


def awake(model: DGGGAN) -> DGGGAN:
    """The network in float64 with weights that are all far from zero."""
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2)
    return model.double().eval()


def tiled(model: DGGGAN, lr: Tensor) -> Tensor:
    side = 2 * model.overlap + 8
    assert min(lr.shape[-2:]) > side
    return run_tiled(
        model, lr, tile=side, overlap=model.overlap, scale=model.scale, multiple=model.multiple
    )


@pytest.mark.parametrize("case", CASES)
def test_without_attention_tiles_give_the_whole_image(case: str) -> None:
    model = awake(CASES[case]())
    side = 2 * model.overlap + 8
    lr = torch.rand(1, 3, side + 5, side + 12, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(tiled(model, lr), model(lr), rtol=0, atol=1e-10)


@pytest.mark.parametrize("body", ["half", "lr"])
def test_tiles_change_only_what_the_attention_averages(body: str) -> None:
    model = awake(DGGGAN(width=4, blocks=1, grad_every=1, body=body, scale=2))  # type: ignore[arg-type]
    side = 2 * model.overlap + 8
    lr = torch.rand(1, 3, side + 6, side + 3, dtype=torch.float64)
    lr[..., side // 2 :] *= 0.2  # one side is darker
    layers = [m.squeeze for m in model.modules() if isinstance(m, SqueezeExcitation)]
    with torch.no_grad():
        for layer, squeezed in zip(layers, seen_by(layers, model, lr), strict=True):
            if squeezed.max() <= 0:  # the ReLU after it would let nothing through
                layer.weight.neg_()
        whole, means = model(lr), seen_by(layers, model, lr)
        assert (tiled(model, lr) - whole).abs().max() > 1e-6  # tiles have means of their own
        for layer, mean in zip(layers, means, strict=True):
            layer.register_forward_hook(lambda _m, _given, _result, mean=mean: mean)
        torch.testing.assert_close(tiled(model, lr), whole, rtol=0, atol=1e-10)


def seen_by(layers: list[nn.Linear], model: DGGGAN, lr: Tensor) -> list[Tensor]:
    """What each of the layers gives of the whole image, in the order in which they run."""
    found: list[Tensor] = []
    handles = [
        layer.register_forward_hook(lambda _module, _given, result: found.append(result))
        for layer in layers
    ]
    model(lr)
    for handle in handles:
        handle.remove()
    assert len(found) == len(layers) == 2
    return found


def test_a_tile_that_starts_within_a_cell_would_see_other_cells() -> None:
    model = awake(CASES["half_x2_bicubic"]())
    lr = torch.rand(1, 3, 8, 60, dtype=torch.float64)
    middle = slice(24 * 2, 32 * 2)  # of the whole, in SR pixels
    with torch.no_grad():
        whole = model(lr)[..., middle]
        for start, same in ((4, True), (5, False)):
            part = model(lr[..., start:])
            cut = part[..., middle.start - 2 * start : middle.stop - 2 * start]
            assert torch.allclose(cut, whole, atol=1e-10) == same


@pytest.mark.parametrize("gradient_branch", [True, False])
@pytest.mark.parametrize("body", ["half", "lr"])
def test_a_file_gives_it_back(tmp_path: Path, body: str, gradient_branch: bool) -> None:
    arguments = {"width": 4, "blocks": 3, "body": body, "gradient_branch": gradient_branch}
    description = spec(DGGGAN, image_skip="bilinear", **arguments)  # type: ignore[arg-type]
    model = awake(description.build()).float()
    path = tmp_path / "dgggan.safetensors"
    save_model(path, model, spec=description, card={"recipe": "none"})
    again = zoo.load(path)
    lr = torch.rand(1, 3, 5, 7)
    assert isinstance(again, DGGGAN)
    assert not again.training
    assert torch.equal(again(lr), model(lr))
    if gradient_branch:
        assert torch.equal(again.with_gradient(lr).gradient, model.with_gradient(lr).gradient)
