import hashlib
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgekeeper.errors import InputError
from edgekeeper.models import EDSR, ESPCN, RRDB, SPSR
from edgekeeper.models.base import SRModel
from edgekeeper.pretrained.blend import blend, blend_files
from edgekeeper.pretrained.cards import gather_images
from edgekeeper.pretrained.checkpoint import save_model
from edgekeeper.pretrained.zoo import load
from edgekeeper.spec import spec

SMALL = {"scale": 2, "width": 8, "blocks": 2}


def edsr(seed: int, **arguments: object) -> EDSR:
    torch.manual_seed(seed)
    return EDSR(**{**SMALL, **arguments})  # type: ignore[arg-type]


def state(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def equal(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = state(a), state(b)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)


class Counting(SRModel):
    """A network with a buffer of floats and one of whole numbers."""

    def __init__(self, *, mean: float, count: int) -> None:
        super().__init__()
        self.scale, self.channels, self.receptive_field = 2, "rgb", 1
        self.register_buffer("mean", torch.tensor([mean]))
        self.register_buffer("count", torch.tensor([count]))


class TestBlend:
    def test_the_ends_are_the_networks_themselves(self) -> None:
        a, b = edsr(0), edsr(1)
        assert equal(blend(a, b, alpha=0), a)
        assert equal(blend(a, b, alpha=1), b)
        assert equal(blend(a, a, alpha=0.3), a)

    def test_weights_are_mixed(self) -> None:
        a, b = edsr(0).train(), edsr(1)
        before = {name: tensor.clone() for name, tensor in state(a).items()}
        mixed = blend(a, b, alpha=0.3)
        for name, tensor in mixed.named_parameters():
            expected = 0.7 * state(a)[name].double() + 0.3 * state(b)[name].double()
            torch.testing.assert_close(tensor.double(), expected, rtol=1e-6, atol=1e-9)
        # The parents stay as they were.
        assert all(torch.equal(before[name], tensor) for name, tensor in state(a).items())
        assert (a.training, mixed.training) == (True, False)

    def test_buffers_of_floats_are_mixed_and_others_must_be_equal(self) -> None:
        mixed = blend(Counting(mean=1.0, count=3), Counting(mean=2.0, count=3), alpha=0.25)
        assert state(mixed)["mean"].item() == 1.25
        assert state(mixed)["count"].item() == 3
        with pytest.raises(InputError, match=r"count is \[3\] in A and \[4\] in B"):
            blend(Counting(mean=1.0, count=3), Counting(mean=2.0, count=4), alpha=0.5)

    @pytest.mark.parametrize("alpha", [-0.01, 1.01, math.nan, math.inf])
    def test_other_alphas_are_refused(self, alpha: float) -> None:
        with pytest.raises(InputError, match=r"it lies from 0 .* to 1"):
            blend(edsr(0), edsr(1), alpha=alpha)

    def test_unlike_networks_are_refused_with_the_difference(self) -> None:
        with pytest.raises(InputError, match="A is of the class EDSR, B of ESPCN"):
            blend(edsr(0), ESPCN(scale=2), alpha=0.5)
        with pytest.raises(InputError, match="scale is 2 in A and 4 in B"):
            blend(edsr(0), edsr(1, scale=4), alpha=0.5)
        with pytest.raises(InputError, match=r"head.out_channels is 8 in A and 16 in B"):
            blend(edsr(0), edsr(1, width=16), alpha=0.5)
        # The same weights, another function.
        with pytest.raises(InputError, match=r"blocks.0.residual_scale is 1.0 in A and 0.1 in B"):
            blend(edsr(0), edsr(1, residual_scale=0.1), alpha=0.5)

    def test_a_network_without_weights(self) -> None:
        class Empty(SRModel):
            def __init__(self) -> None:
                super().__init__()
                self.scale = 2

        with pytest.raises(InputError, match="Empty has no weights"):
            blend(Empty(), Empty(), alpha=0.5)


def saved(model: SRModel, path: Path, **arguments: object) -> Path:
    described = spec(type(model), **{**SMALL, **arguments})
    save_model(path, model, spec=described, card={"images": [{"file": path.stem}]})
    return path


BASICSR = {
    "head": "conv_first",
    "after_blocks": "conv_body",
    "enlarge.convs.0": "conv_up1",
    "enlarge.convs.1": "conv_up2",
    "refine": "conv_hr",
    "last": "conv_last",
}


def published(seed: int, path: Path, *, growth: int = 4) -> tuple[RRDB, Path]:
    """An RRDB and its file under the names of BasicSR."""
    torch.manual_seed(seed)
    model = RRDB(width=8, blocks=2, growth=growth).eval()
    names = dict(BASICSR)
    for i in range(2):
        for j in range(3):
            for k in range(5):
                names[f"blocks.{i}.dense.{j}.convs.{k}"] = f"body.{i}.rdb{j + 1}.conv{k + 1}"
    weights = {}
    for name, tensor in model.state_dict().items():
        layer, _, part = name.rpartition(".")
        weights[f"{names[layer]}.{part}"] = tensor
    torch.save({"params": weights}, path)
    return model, path


class TestFiles:
    def test_the_file_loads_and_its_card_names_both_parents(self, tmp_path: Path) -> None:
        first, second = edsr(0), edsr(1)
        a = saved(first, tmp_path / "a.safetensors")
        b = saved(second, tmp_path / "b.safetensors")
        network = blend_files(a, b, alpha=0.3, target=tmp_path / "c.safetensors")
        assert equal(load(network.path), blend(first, second, alpha=0.3))
        assert (network.name, network.model, network.scale) == ("c", "EDSR", 2)
        card = network.card["blend"]
        assert isinstance(card, dict)
        assert card["alpha"] == 0.3
        for key, path in (("a", a), ("b", b)):
            assert card[key]["name"] == path.stem
            assert card[key]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
            assert card[key]["card"] == {"images": [{"file": path.stem}]}
        assert "commit" in network.card["code"]  # type: ignore[operator]

    @pytest.mark.parametrize(("alpha", "same"), [(0, "espcn_x2"), (1, "espcn_x2_gv")])
    def test_the_ends_of_networks_that_ship(self, alpha: float, same: str, tmp_path: Path) -> None:
        target = tmp_path / "c.safetensors"
        blend_files("espcn_x2", "espcn_x2_gv", alpha=alpha, target=target)
        assert equal(load(target), load(same))

    def test_a_default_that_was_written_out_is_no_difference(self, tmp_path: Path) -> None:
        a = saved(edsr(0), tmp_path / "a.safetensors")
        b = saved(edsr(1), tmp_path / "b.safetensors", residual_scale=1.0, skip="none")
        blend_files(a, b, alpha=0.5, target=tmp_path / "c.safetensors")
        assert load(tmp_path / "c.safetensors").scale == 2

    def test_weights_published_elsewhere(self, tmp_path: Path) -> None:
        a, first = published(0, tmp_path / "psnr.pth")
        b, second = published(1, tmp_path / "esrgan.pth")
        network = blend_files(first, second, alpha=0.8, target=tmp_path / "c.safetensors")
        assert equal(load(network.path), blend(a, b, alpha=0.8))
        parents = network.card["blend"]
        assert isinstance(parents, dict)
        assert (parents["a"]["file"], parents["b"]["file"]) == ("psnr.pth", "esrgan.pth")
        assert "card" not in parents["a"]
        # With one of ours, too.
        blend_files(network.path, second, alpha=0.5, target=tmp_path / "d.safetensors")
        assert load(tmp_path / "d.safetensors").scale == 4
        _, wider = published(1, tmp_path / "wider.pth", growth=6)
        with pytest.raises(InputError, match="out_channels is 4 in A and 6 in B"):
            blend_files(first, wider, alpha=0.5, target=tmp_path / "e.safetensors")

    def test_networks_with_a_branch(self, tmp_path: Path) -> None:
        arguments = {"scale": 2, "width": 8, "blocks": 2, "growth": 4, "taps": (1, 2)}
        a, b = SPSR(**arguments), SPSR(**arguments)  # type: ignore[arg-type]
        for model, name in ((a, "a"), (b, "b")):
            save_model(
                tmp_path / f"{name}.safetensors", model, spec=spec(SPSR, **arguments), card={}
            )
        target = tmp_path / "c.safetensors"
        blend_files(
            tmp_path / "a.safetensors", tmp_path / "b.safetensors", alpha=0.5, target=target
        )
        assert equal(load(target), blend(a, b, alpha=0.5))

    def test_what_is_refused(self, tmp_path: Path) -> None:
        a = saved(edsr(0), tmp_path / "a.safetensors")
        b = saved(edsr(1, width=16), tmp_path / "b.safetensors", width=16)
        target = tmp_path / "c.safetensors"
        with pytest.raises(InputError, match=r"head.out_channels is 8 in A and 16 in B"):
            blend_files(a, b, alpha=0.5, target=target)
        with pytest.raises(InputError, match="A is of the class EDSR, B of ESPCN"):
            blend_files(a, "espcn_x2", alpha=0.5, target=target)
        with pytest.raises(InputError, match="alpha is 2"):
            blend_files(a, b, alpha=2, target=target)
        with pytest.raises(InputError, match="is one of the two networks"):
            blend_files(a, b, alpha=0.5, target=a)
        with pytest.raises(InputError, match=r"ends in \.safetensors"):
            blend_files(a, b, alpha=0.5, target=tmp_path / "c.pth")
        with pytest.raises(InputError, match="Did you mean 'espcn_x2"):
            blend_files("espcnx2", a, alpha=0.5, target=target)
        assert not target.exists()

    def test_what_a_file_cannot_describe(self, tmp_path: Path) -> None:
        # A network on YCbCr that edgekeeper reads and runs, but has no class of its own to write.
        weights = {
            f"{new}.{part}": tensor
            for old, new in (("conv1", "conv_1"), ("conv2", "conv_2"), ("conv3", "conv_3"))
            for part, tensor in getattr(ESPCN(scale=2, channels="rgb"), old).state_dict().items()
        }
        torch.save(weights, tmp_path / "a.pt")
        with pytest.raises(InputError, match="YCbCrESPCN made elsewhere cannot be written"):
            blend_files(
                tmp_path / "a.pt", tmp_path / "a.pt", alpha=0.5, target=tmp_path / "c.safetensors"
            )


def test_a_card_says_the_images_of_all_its_ancestors_once() -> None:
    a, b, c = ({"name": n, "sha256": n * 64, "licence": "CC0-1.0"} for n in "abc")
    parent = {"images": [a, b], "steps": 3, "origin": {"card": {"pictures": [c, a]}}}
    card = {"blend": {"a": {"card": parent}, "b": {"card": parent}}, "results": [{"images": 5}]}
    found = gather_images(card)
    assert found["images"] == [a, b, c] and found["results"] == [{"images": 5}]
    assert found["blend"]["a"]["card"] == {"steps": 3, "origin": {"card": {}}}
    assert gather_images({"steps": 1}) == {"steps": 1}
