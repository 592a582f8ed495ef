"""What is read off the names and shapes of layers."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from edgekeeper.errors import CheckpointError
from edgekeeper.pretrained.layers import Published, Tensors, published_name, unit_range
from edgekeeper.pretrained.published import load_published


def published(tensors: Tensors) -> Published:
    return Published(tensors, Path("network.pth"), title="N")


@pytest.mark.parametrize(
    ("names", "count"),
    [
        (["body.0.conv1.weight", "body.0.conv1.bias", "body.2.conv1.weight"], 3),
        (["body.1.weight", "other.body.5.conv1.weight", "body.x.conv1.weight"], 0),
        (["body.9999999999999999.conv1.weight", "head.weight"], 2),
        ([], 0),
    ],
)
def test_blocks_are_counted_by_the_largest_number(names: list[str], count: int) -> None:
    tensors = dict.fromkeys(names, torch.zeros(1))
    assert published(tensors).count("body.{i}.conv") == count


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("edsr", "body.{n}.body.0.weight"),
        ("imdn", "IMDB{n}.c1.weight"),
        ("msrresnet", "body.{n}.conv1.weight"),
        ("esrgan", "body.{n}.rdb1.conv1.weight"),
    ],
)
def test_an_absurd_number_of_blocks_is_refused_at_once(
    saved: Callable[..., Path], kind: str, name: str
) -> None:
    content = {name.format(n=10**12): torch.zeros(1, 1, 3, 3)}
    with pytest.raises(CheckpointError, match=r"lacks|missing"):
        load_published(saved(content), scale=2, kind=kind)


def test_channels_are_out_and_in() -> None:
    tensors = {"a.weight": torch.zeros(5, 4, 3, 3), "b.weight": torch.zeros(5, 0, 3, 3)}
    assert published(tensors).channels("a") == (5, 4)
    for name, sentence in (("b", r"b\.weight is \(5, 0, 3, 3\)"), ("c", r"N, but lacks c\.weight")):
        with pytest.raises(CheckpointError, match=sentence):
            published(tensors).channels(name)


@pytest.mark.parametrize(("scale", "steps"), [(2, [16]), (3, [36]), (4, [16, 16])])
def test_the_scale_of_a_tail(scale: int, steps: list[int]) -> None:
    tensors = {f"up.{n}.weight": torch.zeros(out, 4, 3, 3) for n, out in enumerate(steps)}
    tensors["end.weight"] = torch.zeros(3, 4, 3, 3)
    found, layers = published(tensors).subpixel(steps=("up.0", "up.1"), last=("end", "end"))
    theirs = [*(f"up.{n}" for n in range(len(steps))), "end"]
    assert found == scale
    assert layers == {f"upsampler.{2 * n}": name for n, name in enumerate(theirs)}


def test_a_range_is_in_the_biases_alone() -> None:
    assert unit_range("a.weight", torch.ones(2)).tolist() == [1, 1]
    assert unit_range("a.bias", torch.full((2,), 510.0)).tolist() == [2, 2]


def test_our_names_become_the_published_ones() -> None:
    layers = {"a.{i}.b.{k}": "A{i+1}.B{3*k+2}", "c": "Cd", "e.bias": "E:0"}
    for ours, theirs in {
        "a.4.b.2.weight": "A5.B8.weight",
        "c.bias": "Cd.bias",
        "e.bias": "E:0",
    }.items():
        assert published_name(ours, layers) == theirs
    with pytest.raises(KeyError, match=r"e\.weight"):
        published_name("e.weight", layers)
