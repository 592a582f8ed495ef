"""SFTGAN weights under the names of its published files, restated here."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from edgekeeper.errors import CheckpointError
from edgekeeper.models import SFTGAN
from edgekeeper.models.sftgan import Variant
from edgekeeper.pretrained.published import load_published

Weights = dict[str, Tensor]


def official(variant: Variant, *, blocks: int = 16) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights in the published files (biases have the first number)."""
    shapes: dict[str, tuple[int, ...]] = {"conv0": (64, 3, 3, 3)}

    def sft(name: str) -> None:
        for part in ("scale", "shift"):
            shapes[f"{name}.SFT_{part}_conv0"] = (32, 32, 1, 1)
            shapes[f"{name}.SFT_{part}_conv1"] = (64, 32, 1, 1)

    for i in range(blocks):
        for k in (0, 1):
            sft(f"sft_branch.{i}.sft{k}")
            shapes[f"sft_branch.{i}.conv{k}"] = (64, 64, 3, 3)
    sft(f"sft_branch.{blocks}")
    shapes[f"sft_branch.{blocks + 1}"] = (64, 64, 3, 3)
    ups = {"pytorch": ((0, 3), 256), "torch": ((1, 4), 64)}[variant]
    shapes |= {f"HR_branch.{n}": (ups[1], 64, 3, 3) for n in ups[0]}
    shapes |= {"HR_branch.6": (64, 64, 3, 3), "HR_branch.8": (3, 64, 3, 3)}
    shapes |= {"CondNet.0": (128, 8, 4, 4), "CondNet.8": (32, 128, 1, 1)}
    return shapes | {f"CondNet.{n}": (128, 128, 1, 1) for n in (2, 4, 6)}


def weights(variant: Variant, *, blocks: int = 2) -> Weights:
    generator = torch.Generator().manual_seed(blocks)
    found = {}
    for name, shape in official(variant, blocks=blocks).items():
        deviation = (2 / (shape[1] * shape[2] * shape[3])) ** 0.5
        found[f"{name}.weight"] = deviation * torch.randn(shape, generator=generator)
        found[f"{name}.bias"] = 0.1 * torch.randn(shape[0], generator=generator)
    return found


def saved(content: object, folder: Path) -> Path:
    torch.save(content, folder / "sftgan.pth")
    return folder / "sftgan.pth"


def run(w: Weights, lr: Tensor, maps: Tensor, *, variant: Variant, blocks: int = 2) -> Tensor:
    """The published network, layer by layer, on an LR image and a map."""
    functional = torch.nn.functional

    def conv(name: str, x: Tensor, *, padding: int = 1, stride: int = 1) -> Tensor:
        weight, bias = w[f"{name}.weight"], w[f"{name}.bias"]
        return functional.conv2d(x, weight, bias, padding=padding, stride=stride)

    condition = conv("CondNet.0", maps, padding=0, stride=4)
    for n in (2, 4, 6, 8):
        condition = conv(f"CondNet.{n}", functional.leaky_relu(condition, 0.1), padding=0)
    slope, plus = (0.1, 1) if variant == "pytorch" else (0.01, 0)

    def sft(name: str, x: Tensor) -> Tensor:
        made = []
        for part in ("scale", "shift"):
            hidden = conv(f"{name}.SFT_{part}_conv0", condition, padding=0)
            hidden = functional.leaky_relu(hidden, slope)
            made.append(conv(f"{name}.SFT_{part}_conv1", hidden, padding=0))
        return x * (made[0] + plus) + made[1]

    features = shallow = conv("conv0", lr)
    for i in range(blocks):
        at = f"sft_branch.{i}"
        if variant == "pytorch":
            inner = conv(f"{at}.conv0", sft(f"{at}.sft0", features)).relu()
            features = features + conv(f"{at}.conv1", sft(f"{at}.sft1", inner))
        else:
            inner = conv(f"{at}.conv0", sft(f"{at}.sft0", features).relu())
            features = features + conv(f"{at}.conv1", sft(f"{at}.sft1", inner).relu())
    features = shallow + conv(f"sft_branch.{blocks + 1}", sft(f"sft_branch.{blocks}", features))
    for n in (0, 1):
        if variant == "pytorch":
            features = functional.pixel_shuffle(conv(f"HR_branch.{3 * n}", features), 2).relu()
        else:
            large = features.repeat_interleave(2, 2).repeat_interleave(2, 3)
            features = conv(f"HR_branch.{3 * n + 1}", large).relu()
    return conv("HR_branch.8", conv("HR_branch.6", features).relu())


@pytest.mark.parametrize("variant", ["pytorch", "torch"])
def test_the_published_names_give_the_network(tmp_path: Path, variant: Variant) -> None:
    found = weights(variant)
    model = load_published(saved(found, tmp_path))
    assert isinstance(model, SFTGAN) and model.scale == 4 and not model.training
    generator = torch.Generator().manual_seed(5)
    lr = torch.rand(1, 3, 5, 4, generator=generator)
    maps = torch.randn(1, 8, 20, 16, generator=generator).softmax(dim=1)
    with torch.no_grad():
        expected = run(found, lr, maps, variant=variant)
        torch.testing.assert_close(
            model.with_conditions(lr, maps), expected, rtol=1e-4, atol=1e-4 * expected.abs().max()
        )


@pytest.mark.parametrize("variant", ["pytorch", "torch"])
def test_the_shapes_are_those_of_the_paper_s_network(variant: Variant) -> None:
    shapes = official(variant).values()
    with torch.device("meta"):
        own = SFTGAN(variant=variant).state_dict()
    assert sorted(shapes) == sorted(tuple(t.shape) for n, t in own.items() if "weight" in n)
    expected = {"pytorch": 1_833_763, "torch": 1_612_195}[variant]
    assert sum(torch.Size(shape).numel() + shape[0] for shape in shapes) == expected


def test_every_kind_and_scale_that_is_asked_for(tmp_path: Path) -> None:
    path = saved(weights("torch"), tmp_path)
    assert load_published(path, scale=4, kind="sftgan").scale == 4
    with pytest.raises(CheckpointError, match="for scale 4, not 2"):
        load_published(path, scale=2)


Change = Callable[[Weights], object]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda w: w.pop("conv0.bias"), r"missing conv0\.bias; unknown none"),
        (lambda w: w.pop("HR_branch.3.weight"), r"missing HR_branch\.3\.weight; unknown none"),
        (lambda w: w.pop("sft_branch.1.sft1.SFT_shift_conv1.bias"), r"missing sft_branch\.1\.sft1"),
        (lambda w: w.update({"CondNet.10.bias": torch.zeros(4)}), r"unknown CondNet\.10\.bias"),
        (
            lambda w: w.update({"CondNet.0.weight": torch.zeros(128, 8, 2, 2)}),
            r"CondNet\.0\.weight is \(128, 8, 2, 2\); an SFTGAN for x4 has \(128, 8, 4, 4\) there",
        ),
        (
            lambda w: w.update({"HR_branch.8.bias": torch.zeros(5)}),
            r"HR_branch\.8\.bias is \(5,\), but SFTGAN needs \(3,\)",
        ),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, change: Change, sentence: str) -> None:
    found = weights("pytorch")
    change(found)
    with pytest.raises(CheckpointError, match=sentence):
        load_published(saved(found, tmp_path))
