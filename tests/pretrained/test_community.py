"""Community networks: what is ours around spandrel, and spandrel itself where it is installed."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from edgekeeper.errors import CheckpointError, UnavailableError
from edgekeeper.inference.network import infer
from edgekeeper.pretrained.community import OVERLAP, CommunityModel, load_community
from edgekeeper.pretrained.published import load_published

# ---- ours: a network described as spandrel describes one -----------------------------------------


class Described:
    """A network that repeats pixels ``scale`` times, with a weight of 1."""

    def __init__(self, *, channels: int = 3, scale: int = 2, bfloat16: bool = True) -> None:
        self.model = nn.Conv2d(channels, channels, 1, groups=channels, bias=False)
        nn.init.ones_(self.model.weight)
        self.scale, self.supports_bfloat16 = scale, bfloat16
        self.input_channels = self.output_channels = channels
        self.size_requirements = SimpleNamespace(multiple_of=4)
        self.seen: list[Tensor] = []

    def __call__(self, image: Tensor) -> Tensor:
        self.seen.append(image)
        maps = self.model(image).clamp(0, 1)
        return F.interpolate(maps, scale_factor=self.scale)


def test_rgb_networks_see_one_image_at_a_time() -> None:
    described = Described(scale=3)
    model = CommunityModel(described)
    lr = torch.rand(2, 3, 4, 5)
    assert torch.equal(model(lr), lr.repeat_interleave(3, 2).repeat_interleave(3, 3))
    assert [tuple(seen.shape) for seen in described.seen] == [(1, 3, 4, 5)] * 2
    assert (model.scale, model.channels, model.multiple) == (3, "rgb", 4)
    assert model.receptive_field == model.overlap == OVERLAP
    assert [name for name, _ in model.named_parameters()] == ["network.weight"]


def test_grey_networks_see_the_full_range() -> None:
    described = Described(channels=1)
    model = CommunityModel(described)
    assert model.channels == "y"
    grey = torch.linspace(0, 1, 12).view(1, 1, 3, 4).expand(1, 3, 3, 4)
    sr = infer(model, grey)
    torch.testing.assert_close(described.seen[0], grey[:, :1], rtol=0, atol=1e-5)
    expected = grey.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(sr.mean(dim=1), expected.mean(dim=1), rtol=0, atol=1e-4)


@pytest.mark.parametrize("allowed", [True, False])
def test_bfloat16_is_used_where_the_network_can(allowed: bool) -> None:
    described = Described(bfloat16=allowed)
    kinds: list[torch.dtype] = []
    described.model.register_forward_hook(lambda _m, _given, result: kinds.append(result.dtype))
    model = CommunityModel(described)
    infer(model, torch.rand(1, 3, 4, 4), precision="bfloat16")
    infer(model, torch.rand(1, 3, 4, 4))
    assert kinds == [torch.bfloat16 if allowed else torch.float32, torch.float32]


def test_without_spandrel_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.pth"
    torch.save({}, path)
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(UnavailableError, match=r"spandrel.*pip install 'edgekeeper\[community\]'"):
        load_community(path)


def test_a_torchvision_of_another_torch_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.pth"
    torch.save({}, path)
    (tmp_path / "spandrel.py").write_text("raise RuntimeError('operator x::nms does not exist')")
    monkeypatch.delitem(sys.modules, "spandrel", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnavailableError, match=r"x::nms does not exist.*the torchvision that"):
        load_community(path)


def test_a_file_that_is_not_there_is_named_before_anything_is_imported(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no file"):
        load_community(tmp_path / "no.pth")


# ---- spandrel itself -----------------------------------------------------------------------------

_KEPT: list[torch.library.Library] = []  # a library is gone when nothing holds it


@pytest.fixture(scope="module")
def spandrel() -> ModuleType:
    """spandrel, where needed with two operators that some builds of torchvision miss.

    A torchvision built for CUDA does not import beside a torch without it, for want of operators
    that no network here uses; once they are declared it does.
    """
    if importlib.util.find_spec("spandrel") is None:
        pytest.skip("spandrel is not installed: pip install 'edgekeeper[community]'")
    try:
        return importlib.import_module("spandrel")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    for name in [name for name in sys.modules if name.split(".")[0] in ("torchvision", "spandrel")]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _KEPT.append(library)
    return importlib.import_module("spandrel")


def rrdb_weights(*, colours: int = 3, enlargements: int = 2) -> dict[str, Tensor]:
    """An ESRGAN of one narrow block under the old names; spandrel takes 32 for its growth."""
    torch.manual_seed(3)
    tail = {0: [2, 4], 2: [3, 6, 8, 10]}[enlargements]
    shapes = {"model.0": (8, colours), "model.1.sub.1": (8, 8)}
    for j in (1, 2, 3):
        for k in range(5):
            shapes[f"model.1.sub.0.RDB{j}.conv{k + 1}.0"] = (8 if k == 4 else 32, 8 + 32 * k)
    shapes |= {f"model.{n}": (8, 8) for n in tail[:-1]}
    shapes[f"model.{tail[-1]}"] = (min(colours, 3), 8)
    found = {}
    for name, (out, of) in shapes.items():
        found[f"{name}.weight"] = torch.randn(out, of, 3, 3) / (9 * of) ** 0.5
        found[f"{name}.bias"] = torch.randn(out) * 0.1
    return found


def compact_weights(*, scale: int = 2, colours: int = 3) -> dict[str, Tensor]:
    """A small Real-ESRGAN "compact" network (SRVGG): convolutions with PReLU, a pixel shuffle."""
    torch.manual_seed(4)
    found = {}
    for index in (0, 2, 4):
        of = colours if index == 0 else 8
        found[f"body.{index}.weight"] = torch.randn(8, of, 3, 3) / (9 * of) ** 0.5
        found[f"body.{index}.bias"] = torch.randn(8) * 0.1
        found[f"body.{index + 1}.weight"] = torch.full((8,), 0.25)
    found["body.6.weight"] = torch.randn(colours * scale**2, 8, 3, 3) / 72**0.5
    found["body.6.bias"] = torch.zeros(colours * scale**2)
    return found


def compact(weights: dict[str, Tensor], lr: Tensor, *, scale: int) -> Tensor:
    """What that network computes."""
    maps = lr
    for index in (0, 2, 4):
        maps = F.conv2d(
            maps, weights[f"body.{index}.weight"], weights[f"body.{index}.bias"], padding=1
        )
        maps = F.prelu(maps, weights[f"body.{index + 1}.weight"])
    maps = F.conv2d(maps, weights["body.6.weight"], weights["body.6.bias"], padding=1)
    base = F.interpolate(lr, scale_factor=scale, mode="nearest")
    return (F.pixel_shuffle(maps, scale) + base).clamp(0, 1)


@pytest.mark.usefixtures("spandrel")
class TestSpandrel:
    def saved(self, content: object, folder: Path) -> Path:
        torch.save(content, folder / "network.pth")
        return folder / "network.pth"

    @pytest.mark.parametrize("scale", [2, 4])
    def test_a_compact_network_is_what_its_layers_say(self, tmp_path: Path, scale: int) -> None:
        weights = compact_weights(scale=scale)
        model = load_community(self.saved({"params": weights}, tmp_path))
        assert (model.scale, model.channels, model.training) == (scale, "rgb", False)
        lr = torch.rand(2, 3, 5, 6)
        with torch.no_grad():
            expected = compact(weights, lr, scale=scale)
        torch.testing.assert_close(infer(model, lr), expected, rtol=0, atol=1e-5)

    def test_an_rrdb_is_the_same_through_spandrel_and_through_us(self, tmp_path: Path) -> None:
        path = self.saved(rrdb_weights(), tmp_path)
        ours, theirs = load_published(path), load_community(path)
        lr = torch.rand(1, 3, 5, 7)
        torch.testing.assert_close(infer(theirs, lr), infer(ours, lr), rtol=0, atol=1e-5)

    def test_unshuffled_x2_of_any_size(self, tmp_path: Path) -> None:
        path = self.saved(rrdb_weights(colours=12), tmp_path)
        ours, theirs = load_published(path), load_community(path)
        assert ours.scale == theirs.scale == 2 and theirs.multiple % 2 == 0
        full = torch.rand(1, 3, 8, 4)
        torch.testing.assert_close(infer(theirs, full), infer(ours, full), rtol=0, atol=1e-5)
        assert infer(theirs, torch.rand(1, 3, 5, 7)).shape == (1, 3, 10, 14)
        assert infer(theirs, torch.rand(1, 3, 1, 1)).shape == (1, 3, 2, 2)

    def test_a_grey_network_keeps_a_grey_image_grey(self, tmp_path: Path) -> None:
        weights = compact_weights(colours=1)
        model = load_community(self.saved(weights, tmp_path))
        assert model.channels == "y"
        grey = torch.rand(1, 1, 6, 5)
        with torch.no_grad():
            expected = compact(weights, grey, scale=2).expand(-1, 3, -1, -1)
        sr = infer(model, grey.expand(-1, 3, -1, -1))
        torch.testing.assert_close(sr, expected, rtol=0, atol=1e-3)

    @pytest.mark.parametrize(
        ("content", "sentence"),
        [
            (lambda: {"odd.weight": torch.zeros(2)}, r"no network that spandrel \S+ knows: its 1 "),
            (lambda: rrdb_weights(enlargements=0), "ESRGAN for .* at scale 1: it does not enlarge"),
            (lambda: [torch.zeros(1)], "does not hold a state dict"),
            (
                lambda: rrdb_weights() | {"model.3.weight": torch.zeros(8, 9, 3, 3)},
                r"knows, but not its shapes: .* size mismatch for model\.3\.weight",
            ),
        ],
    )
    def test_what_is_no_such_network_is_said(
        self, tmp_path: Path, content: Callable[[], object], sentence: str
    ) -> None:
        with pytest.raises(CheckpointError, match=sentence):
            load_community(self.saved(content(), tmp_path))

    def test_damaged_files_and_programs_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "x.pth").write_bytes(b"not weights")
        torch.save({"model": Path("a program")}, tmp_path / "y.pth")
        for name in ("x.pth", "y.pth"):
            with pytest.raises(CheckpointError, match="which edgekeeper never runs"):
                load_community(tmp_path / name)
