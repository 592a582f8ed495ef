"""IMDN's published names, restated here, and the scores of its file."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from edgekeeper.data.pairs import load_pairs
from edgekeeper.errors import CheckpointError, InputError
from edgekeeper.inference.network import infer
from edgekeeper.metrics import psnr
from edgekeeper.models import IMDN
from edgekeeper.pretrained import zoo
from edgekeeper.pretrained.published import load_published

Weights = dict[str, Tensor]
WIDTH, KEPT, BLOCKS = 32, 8, 2


def weights(scale: int, *, prefix: str = "") -> Weights:
    """Random weights under the names of the authors' code."""
    generator = torch.Generator().manual_seed(scale)
    passed, squeezed = WIDTH - KEPT, WIDTH // 16
    shapes: dict[str, tuple[int, int, int]] = {"fea_conv": (WIDTH, 3, 3)}
    for n in range(1, BLOCKS + 1):
        shapes |= {
            f"IMDB{n}.c1": (WIDTH, WIDTH, 3),
            f"IMDB{n}.c2": (WIDTH, passed, 3),
            f"IMDB{n}.c3": (WIDTH, passed, 3),
            f"IMDB{n}.c4": (KEPT, passed, 3),
            f"IMDB{n}.c5": (WIDTH, WIDTH, 1),
            f"IMDB{n}.cca.conv_du.0": (squeezed, WIDTH, 1),
            f"IMDB{n}.cca.conv_du.2": (WIDTH, squeezed, 1),
        }
    shapes |= {"c.0": (WIDTH, BLOCKS * WIDTH, 1), "LR_conv": (WIDTH, WIDTH, 3)}
    shapes["upsampler.0"] = (3 * scale**2, WIDTH, 3)
    found: Weights = {}
    for name, (out, of, size) in shapes.items():
        weight = torch.randn(out, of, size, size, generator=generator)
        found[f"{prefix}{name}.weight"] = weight / math.sqrt(of * size**2)
        found[f"{prefix}{name}.bias"] = torch.randn(out, generator=generator) * 0.2
    return found


def restated(found: Weights, lr: Tensor, *, scale: int) -> Tensor:
    """The network as the paper defines it, in float64."""

    def conv(maps: Tensor, name: str) -> Tensor:
        weight, bias = found[f"{name}.weight"].double(), found[f"{name}.bias"].double()
        return F.conv2d(maps, weight, bias, padding=weight.shape[-1] // 2)

    def lrelu(maps: Tensor) -> Tensor:
        return torch.where(maps < 0, 0.05 * maps, maps)

    head = maps = conv(lr.double(), "fea_conv")
    results = []
    for n in range(1, BLOCKS + 1):
        start, kept = maps, []
        for step in (1, 2, 3):
            maps = lrelu(conv(maps, f"IMDB{n}.c{step}"))
            kept.append(maps[:, :KEPT])
            maps = maps[:, KEPT:]
        joined = torch.cat([*kept, conv(maps, f"IMDB{n}.c4")], dim=1)
        contrast = joined.std((2, 3), correction=0, keepdim=True)
        seen = contrast + joined.mean((2, 3), keepdim=True)
        hidden = conv(seen, f"IMDB{n}.cca.conv_du.0").clamp(min=0)
        attention = 1 / (1 + torch.exp(-conv(hidden, f"IMDB{n}.cca.conv_du.2")))
        maps = start + conv(joined * attention, f"IMDB{n}.c5")
        results.append(maps)
    deep = head + conv(lrelu(conv(torch.cat(results, dim=1), "c.0")), "LR_conv")
    return F.pixel_shuffle(conv(deep, "upsampler.0"), scale)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_published_names_give_the_network(saved: Callable[..., Path], scale: int) -> None:
    found = weights(scale)
    model = load_published(saved(found))
    assert isinstance(model, IMDN) and not model.training
    assert (model.scale, model.channels, len(model.blocks)) == (scale, "rgb", BLOCKS)
    lr = torch.rand(2, 3, 5, 6)
    with torch.no_grad():
        expected = restated(found, lr, scale=scale)
        torch.testing.assert_close(model.double()(lr.double()), expected)
    parallel = load_published(saved(weights(scale, prefix="module.")))
    again = load_published(saved({"params": found}), scale=scale, kind="imdn")
    for name, tensor in parallel.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


def renamed(found: Weights) -> None:
    found["IMDB1.c9.weight"] = found.pop("IMDB1.c1.weight")


# what is done to the weights -> what the error says
MISFITS: dict[str, tuple[Callable[[Weights], object], str]] = {
    "missing": (lambda w: w.pop("IMDB2.c3.bias"), r"missing IMDB2\.c3\.bias; unknown none"),
    "unknown": (lambda w: w.update(extra=torch.zeros(1)), r"missing none; unknown extra"),
    "renamed": (renamed, r"'IMDB1\.c9\.weight' is most like 'IMDB1\.c1\.weight'"),
    "misshapen": (
        lambda w: w.update({"IMDB1.c5.weight": torch.zeros(WIDTH, WIDTH, 3, 3)}),
        r"IMDB1\.c5\.weight is \(32, 32, 3, 3\), but IMDN needs \(32, 32, 1, 1\)",
    ),
    "no_convolution": (
        lambda w: w.update({"fea_conv.weight": torch.zeros(())}),
        r"looks like IMDN, but fea_conv\.weight is \(\), no convolution",
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_what_does_not_fit_is_named(saved: Callable[..., Path], case: str) -> None:
    change, message = MISFITS[case]
    found = weights(4)
    change(found)
    with pytest.raises(CheckpointError, match=message):
        load_published(saved(found))


def test_another_scale_than_the_file_s_is_refused(saved: Callable[..., Path]) -> None:
    path = saved(weights(3))
    with pytest.raises(CheckpointError, match="a network for scale 3, not 4"):
        load_published(path, scale=4)
    with pytest.raises(InputError, match="no scale 5"):
        load_published(path, scale=5)


def test_files_of_other_networks_are_refused(saved: Callable[..., Path]) -> None:
    path = saved({"conv_1.weight": torch.zeros(64, 3, 5, 5)})
    with pytest.raises(CheckpointError, match=r"looks like IMDN, but lacks fea_conv\.weight"):
        load_published(path, scale=2, kind="imdn")


@pytest.mark.data
@pytest.mark.slow
# The paper's table 3 has 32.21 and 28.58.
@pytest.mark.parametrize(("name", "measured"), [("Set5", 32.211), ("Set14", 28.587)])
def test_the_published_file_reaches_its_psnr(data_root: Path, name: str, measured: float) -> None:
    model = zoo.load(data_root / "weights" / "IMDN_x4.pth")
    assert isinstance(model, IMDN)
    values = [
        psnr(infer(model, pair.lr()), pair.hr(), protocol="y_float", scale=4)[0]
        for pair in load_pairs(name, scale=4, root=data_root)
    ]
    assert float(torch.stack(values).mean()) == pytest.approx(measured, abs=0.005)
