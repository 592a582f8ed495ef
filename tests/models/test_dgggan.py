"""DGGGAN: counts, wiring against a restatement, guidance, reach, attention and tiles."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from edgekeeper.errors import InputError
from edgekeeper.models import DGGGAN, parameter_count
from edgekeeper.models.dgggan import Body, SqueezeExcitation
from edgekeeper.ops.resize import imresize
from edgekeeper.spec import spec

BODIES: tuple[Body, ...] = ("half", "lr")


def awake(network: DGGGAN) -> DGGGAN:
    """The network in float64, with weights that are all far from zero."""
    torch.manual_seed(7)
    network = network.double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.15)
    return network


CASES: dict[str, Callable[[], DGGGAN]] = {
    "half_x4": lambda: DGGGAN(width=4, blocks=3),
    "half_x3_every_second": lambda: DGGGAN(scale=3, width=8, blocks=2, grad_every=2),
    "half_x2": lambda: DGGGAN(scale=2, width=4, blocks=2, grad_every=1, image_skip="bicubic"),
    "half_x4_without_branch": lambda: DGGGAN(width=4, blocks=3, gradient_branch=False),
    "lr_x4": lambda: DGGGAN(width=4, blocks=3, body="lr", image_skip="bilinear"),
    "lr_x3": lambda: DGGGAN(scale=3, width=4, blocks=3, body="lr"),
    "lr_x2_without_se": lambda: DGGGAN(scale=2, width=4, blocks=3, body="lr", se=False),
    "lr_x4_without_branch": lambda: DGGGAN(width=4, blocks=3, body="lr", gradient_branch=False),
}


@pytest.fixture(params=CASES)
def model(request: pytest.FixtureRequest) -> DGGGAN:
    return awake(CASES[request.param]())


# (body, switched off) -> parameters, multiply-accumulates of convolutions per LR pixel with
# the gradient image, those of the attention per image; all counted apart on other modules
EXPECTED = {
    ("half", ""): (14_624_582, 4_740_480, 10_240),
    ("half", "se"): (14_532_422, 4_720_000, 0),
    ("half", "gradient_branch"): (7_306_371, None, 5_120),
    ("lr", ""): (14_660_230, 18_269_568, 10_240),
    ("lr", "se"): (14_568_070, 18_187_648, 0),
    ("lr", "gradient_branch"): (7_328_835, None, 5_120),
}


class TestCounts:
    @pytest.mark.parametrize(("body", "off"), EXPECTED)
    def test_parameters_and_multiply_accumulates(self, body: Body, off: str) -> None:
        parameters, per_pixel, per_image = EXPECTED[body, off]
        with torch.device("meta"):
            network = DGGGAN(body=body, se=off != "se", gradient_branch=off != "gradient_branch")
            lr = torch.zeros(1, 3, 8, 8)
        assert parameter_count(network) == parameters
        assert not list(network.buffers())
        macs = {nn.Conv2d: 0, nn.Linear: 0}

        def count(module: nn.Module, _given: object, result: Tensor) -> None:
            weight = module.weight
            assert isinstance(weight, Tensor)
            positions = math.prod(result.shape[2:])
            macs[type(module)] += weight.numel() * positions

        for module in network.modules():
            if type(module) in macs:
                module.register_forward_hook(count)
        with torch.no_grad():
            network(lr) if per_pixel is None else network.with_gradient(lr)
        assert macs[nn.Linear] == per_image
        if per_pixel is not None:
            assert macs[nn.Conv2d] == per_pixel * 64

    def test_table_5_s_rule_gives_the_paper_s_figures(self) -> None:
        with torch.device("meta"):
            network, lr = DGGGAN(), torch.zeros(1, 3, 50, 50)
            without = DGGGAN(se=False)
        assert round(self.flops(network, lr) / 1e9, 1) == 23.7
        assert round(self.flops(without, lr) / 1e9, 1) == 23.6

    @staticmethod
    def flops(network: DGGGAN, lr: Tensor) -> float:
        """2 for each multiply-accumulate and each bias that is added."""
        biases = 0

        def count(module: nn.Module, _given: object, result: Tensor) -> None:
            nonlocal biases
            biases += 0 if module.bias is None else result.numel()

        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(count)
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            network.with_gradient(lr)
        return counter.get_total_flops() + 2 * biases

    def test_the_paper_s_body_works_on_a_quarter_of_the_positions(self) -> None:
        with torch.device("meta"):
            half, whole = (DGGGAN(body=body, se=False) for body in BODIES)
        sizes = []
        for network in (half, whole):
            network.image.blocks[0].register_forward_hook(
                lambda _m, _given, result: sizes.append(result.shape[-2:])
            )
            with torch.no_grad():
                network(torch.zeros(1, 3, 8, 10, device="meta"))
        assert sizes == [(4, 5), (8, 10)]


# ---- wiring ------------------------------------------------------------------------------------


class Restated:
    """DGGGAN written again: what its paper says, and what is chosen, such as a block's wiring."""

    def __init__(self, network: DGGGAN, *, blocks: int, every: int, cell: int) -> None:
        self.weights = dict(network.state_dict())
        self.scale, self.blocks, self.every, self.cell = network.scale, blocks, every, cell

    def conv(self, name: str, x: Tensor, half: int | None = None) -> Tensor:
        """The convolution, or the first or second half of its results."""
        kernel, bias = self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias")
        if half is not None:
            kernel = kernel.chunk(2)[half]
            bias = None if bias is None else bias.chunk(2)[half]
        return F.conv2d(x, kernel, bias, padding=kernel.shape[-1] // 2)

    def block(self, name: str, x: Tensor) -> Tensor:
        y = torch.cat(
            [lrelu(self.conv(f"{name}.stage1.{k}", x, h)) for k in (0, 1) for h in (0, 1)], dim=1
        )
        branches = {
            (k, h): lrelu(self.conv(f"{name}.stage2.{k}", y, h)) for h in (0, 1) for k in (0, 1)
        }
        order = [(0, 0), (0, 1), (1, 0), (1, 1)]
        c = self.conv(f"{name}.narrow", torch.cat([branches[key] for key in order], dim=1))
        u = self.conv(f"{name}.attention.transform", c)
        z = u.sum((2, 3)) / (u.shape[2] * u.shape[3])
        squeezed = (z @ self.weights[f"{name}.attention.squeeze.weight"].T).clamp(min=0)
        logits = squeezed @ self.weights[f"{name}.attention.excite.weight"].T
        return x + u / (1 + torch.exp(-logits))[..., None, None]

    def to_hr(self, name: str, x: Tensor) -> Tensor:
        for n, factor in enumerate({2: [2], 3: [3], 4: [2, 2]}[self.scale]):
            x = x.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
            x = lrelu(self.conv(f"{name}.enlarge.convs.{n}", x))
        return lrelu(self.conv(f"{name}.refine", x))

    def cells(self, x: Tensor) -> Tensor:
        n = self.cell
        parts = [x[:, c, i::n, j::n] for c in range(3) for i in range(n) for j in range(n)]
        return torch.stack(parts, dim=1)

    def spread(self, x: Tensor) -> Tensor:
        n = self.cell
        large = x.new_zeros(x.shape[0], x.shape[1] // n**2, x.shape[2] * n, x.shape[3] * n)
        for c in range(x.shape[1]):
            kept, place = divmod(c, n**2)
            large[:, kept, place // n :: n, place % n :: n] = x[:, c]
        return large

    def run(self, lr: Tensor) -> tuple[Tensor, Tensor]:
        """The SR image and the gradient map."""
        height, width = lr.shape[-2:]
        rows = [min(i, height - 1) for i in range(height + height % self.cell)]
        columns = [min(j, width - 1) for j in range(width + width % self.cell)]
        filled = lr[..., rows, :][..., columns]
        a0 = a = self.conv("image.head", self.cells(filled))
        g0 = g = self.conv("gradient.head", self.cells(length(filled)))
        for k in range(1, self.blocks + 1):
            a = self.block(f"image.blocks.{k - 1}", a)
            g = self.block(f"gradient.blocks.{k - 1}", g)
            if k % self.every == 0:
                g = g + length(a)
        maps, guide = self.to_hr("image", a + a0), self.to_hr("gradient", g + g0)
        if self.cell == 2:
            image = lrelu(self.conv("gradient.picture.1", self.spread(guide)))
            image = self.conv("gradient.picture.3", image)
        else:
            image = self.conv("gradient.picture.0", guide)
        z = torch.cat([self.spread(maps), self.spread(self.conv("fusion.gradient", guide))], 1)
        sr = self.conv("fusion.last", lrelu(self.conv("fusion.join", z)))
        kept = (..., slice(self.scale * height), slice(self.scale * width))
        return sr[kept], image[kept]


def lrelu(x: Tensor) -> Tensor:
    return x.clamp(min=0) + 0.2 * x.clamp(max=0)


def length(x: Tensor) -> Tensor:
    """M: the length of the differences [1, 0, -1] along rows and columns, zeros outside."""
    padded = F.pad(x, (1, 1, 1, 1))
    along = padded[..., 1:-1, :-2] - padded[..., 1:-1, 2:]
    down = padded[..., :-2, 1:-1] - padded[..., 2:, 1:-1]
    return (along**2 + down**2 + 1e-6).sqrt()


@pytest.mark.parametrize("size", [(4, 6), (5, 7)])
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("body", BODIES)
def test_it_equals_a_restatement(body: Body, scale: int, size: tuple[int, int]) -> None:
    network = awake(DGGGAN(scale=scale, width=8, blocks=4, grad_every=2, body=body))
    lr = torch.rand(2, 3, *size, dtype=torch.float64)
    restated = Restated(network, blocks=4, every=2, cell=2 if body == "half" else 1)
    sr, gradient = restated.run(lr)
    both = network.with_gradient(lr)
    torch.testing.assert_close(both.sr, sr)
    torch.testing.assert_close(both.gradient, gradient)
    assert torch.equal(network(lr), both.sr)


def test_shapes_and_halves(model: DGGGAN) -> None:
    for size in ((1, 1), (1, 6), (5, 1), (3, 7), (4, 6)):
        lr = torch.rand(2, 3, *size, dtype=torch.float64)
        sr = model(lr)
        assert sr.shape == (2, 3, model.scale * size[0], model.scale * size[1])
        assert sr.isfinite().all()
        features = model.features(lr)
        assert torch.equal(model.reconstruct(features, lr), sr)
        torch.testing.assert_close(sr, torch.cat([model(one[None]) for one in lr]))
        if model.gradient is not None:
            assert model.with_gradient(lr).gradient.shape == sr.shape
            assert torch.equal(model.with_gradient(lr).sr, sr)


def open_attention(model: DGGGAN, lr: Tensor) -> None:
    """Turn round each squeezing layer whose ReLU lets nothing of ``lr`` through."""

    def turn(module: nn.Linear, _given: object, result: Tensor) -> Tensor:
        if result.max() > 0:
            return result
        module.weight.data.neg_()
        return -result

    squeezing = [m.squeeze for m in model.modules() if isinstance(m, SqueezeExcitation)]
    handles = [layer.register_forward_hook(turn) for layer in squeezing]
    model(lr)
    for handle in handles:
        handle.remove()


def test_the_image_reaches_all_but_the_map_s_own_convolutions(model: DGGGAN) -> None:
    lr = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    open_attention(model, lr)
    model(lr).square().sum().backward()
    for name, parameter in model.named_parameters():
        if name.startswith("gradient.picture."):
            assert parameter.grad is None
        else:
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_the_gradient_map_reaches_both_branches_and_not_the_fusion() -> None:
    model = awake(CASES["half_x4"]())
    lr = torch.rand(1, 3, 8, 8, dtype=torch.float64)
    open_attention(model, lr)
    model.with_gradient(lr).gradient.square().sum().backward()
    reached = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert model.gradient is not None
    assert {f"gradient.{name}" for name, _ in model.gradient.named_parameters()} <= reached
    # through M of the features after the third block
    assert {f"image.blocks.{k}.narrow.weight" for k in range(3)} <= reached
    assert not [n for n in reached if n.startswith(("fusion.", "image.enlarge", "image.refine"))]


@pytest.mark.parametrize("every", [1, 2, 3, 5])
def test_the_features_gradients_are_added_after_every_so_many_blocks(every: int) -> None:
    model = awake(DGGGAN(width=4, blocks=5, grad_every=every, body="lr"))
    assert model.gradient is not None
    guides = [model.image.blocks[k] for k in range(5)]
    blocks = [model.gradient.blocks[k] for k in range(5)]
    seen: dict[str, Tensor] = {}
    for k in range(5):
        keep(guides[k], seen, f"image {k + 1}")
        keep(blocks[k], seen, f"gradient {k + 1}")
        blocks[k].register_forward_pre_hook(
            lambda _m, given, k=k: seen.update({f"into {k + 1}": given[0]})
        )
    lr = torch.rand(1, 3, 6, 6, dtype=torch.float64)
    model(lr)
    for k in range(1, 5):
        expected = seen[f"gradient {k}"]
        if k % every == 0:
            expected = expected + length(seen[f"image {k}"])
        torch.testing.assert_close(seen[f"into {k + 1}"], expected)
    # what comes after the last block, if it is guided, is seen by the enlargement alone
    into_last = seen["into 5"].clone()
    handle = guides[4].register_forward_hook(lambda _m, _given, result: result + edges(result))
    before = model.gradient.picture(model.features(lr)[:, :4])
    handle.remove()
    assert torch.equal(seen["into 5"], into_last)
    changed = not torch.allclose(before, model.with_gradient(lr).gradient)
    assert changed == (5 % every == 0)


def keep(module: nn.Module, seen: dict[str, Tensor], name: str) -> None:
    module.register_forward_hook(lambda _m, _given, result: seen.update({name: result}))


def edges(maps: Tensor) -> Tensor:
    """Something added to maps that has gradients."""
    added = torch.zeros_like(maps)
    added[..., ::2, :] = 1
    return added


def test_without_the_branch_nothing_of_it_is_left() -> None:
    model = awake(DGGGAN(width=4, blocks=2, gradient_branch=False))  # 2 blocks, not guided
    assert model.gradient is None
    names = [name for name, _ in model.named_modules()]
    assert not [name for name in names if "gradient" in name]
    assert model.features(torch.rand(1, 3, 4, 4, dtype=torch.float64)).shape == (1, 4, 8, 8)
    with pytest.raises(InputError, match="no gradient map: it was built without"):
        model.with_gradient(torch.rand(1, 3, 4, 4, dtype=torch.float64))


def test_without_se_a_block_ends_with_its_1_x_1_convolution() -> None:
    model = DGGGAN(width=4, blocks=3, se=False)
    assert not [m for m in model.modules() if isinstance(m, SqueezeExcitation | nn.Linear)]


@pytest.mark.parametrize("case", ["half_x4", "half_x3_every_second", "lr_x4", "lr_x2_without_se"])
def test_sr_branch_only_puts_zeros_in_place_of_the_gradient_s_maps(case: str) -> None:
    model = awake(CASES[case]())
    lr = torch.rand(2, 3, 5, 7, dtype=torch.float64)
    maps = model.features(lr)
    maps[:, : model.width] = 0
    torch.testing.assert_close(model.sr_branch_only(lr), model.reconstruct(maps, lr))
    assert not torch.allclose(model.sr_branch_only(lr), model(lr))


def test_without_the_branch_there_is_nothing_to_leave_out() -> None:
    model = DGGGAN(width=4, blocks=2, gradient_branch=False)
    with pytest.raises(InputError, match="no gradient branch to leave out"):
        model.sr_branch_only(torch.rand(1, 3, 4, 4))


@pytest.mark.parametrize("skip", ["bilinear", "bicubic"])
def test_the_skip_adds_the_interpolated_image(skip: str) -> None:
    plain = awake(DGGGAN(width=4, blocks=3))
    skipping = awake(DGGGAN(width=4, blocks=3, image_skip=skip))  # type: ignore[arg-type]
    assert plain.state_dict().keys() == skipping.state_dict().keys()
    lr = torch.rand(1, 3, 5, 6, dtype=torch.float64)
    if skip == "bicubic":
        interpolated = imresize(lr, scale=4)
    else:
        interpolated = F.interpolate(lr, size=(20, 24), mode="bilinear", align_corners=False)
    torch.testing.assert_close(skipping(lr) - plain(lr), interpolated)


def test_weights_start_as_written() -> None:
    torch.manual_seed(3)
    model = DGGGAN(width=64, blocks=1, grad_every=1)
    assert model.gradient is not None
    narrow = {block.narrow for part in (model.image, model.gradient) for block in part.blocks}
    ends = {
        [m for m in part.modules() if isinstance(m, nn.Conv2d)][-1]
        for part in (model.fusion, model.gradient.picture)
    }
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert module.bias is None or not module.bias.any()
            expected = math.sqrt(2 / 1.04 / module.weight[0].numel())  # LeakyReLU's slope is 0.2
            expected *= 0.1 if module in narrow else 0.001 if module in ends else 1.0
            count = module.weight.numel()
            assert abs(module.weight.std() / expected - 1) < 4.5 / math.sqrt(2 * count), module


@pytest.mark.parametrize("skip", ["none", "bilinear", "bicubic"])
def test_a_new_network_gives_the_interpolated_image(skip: str) -> None:
    model = DGGGAN(width=4, blocks=3, image_skip=skip)  # type: ignore[arg-type]
    lr = torch.rand(1, 3, 5, 6)
    expected = {
        "none": torch.zeros(1, 3, 20, 24),
        "bilinear": F.interpolate(lr, scale_factor=4, mode="bilinear"),
        "bicubic": imresize(lr, scale=4),
    }[skip]
    found = model.with_gradient(lr)
    torch.testing.assert_close(found.sr, expected, rtol=0, atol=0.02)
    assert found.gradient.abs().max() < 0.02
    assert found.sr.ne(expected).any()  # not nothing, or no gradient would reach what lies before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"body": "full"}, "DGGGAN's body is one of half, lr; got 'full'"),
        ({"image_skip": "nearest"}, "image_skip is one of none, bilinear, bicubic; got 'nearest'"),
        ({"width": 6}, "width is a multiple of 4, at least 4; got 6"),
        ({"width": 0}, "width is a whole number from 1 to 1024; got 0"),
        ({"blocks": 2}, "after every 3 of its 2 blocks; grad_every must be from 1 to"),
        ({"blocks": 0, "gradient_branch": False}, "blocks is a whole number from 1 to 1024; got 0"),
        ({"grad_every": 0}, "grad_every is a whole number from 1 to 1024; got 0"),
        ({"scale": 8}, "DGGGAN has no scale 8; choose one of 2, 3, 4"),
    ],
)
def test_an_argument_that_cannot_be_is_a_sentence(
    arguments: dict[str, object], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        DGGGAN(**arguments)  # type: ignore[arg-type]


def test_an_unknown_argument_is_a_sentence() -> None:
    with pytest.raises(InputError, match=r"DGGGAN has no argument 'grad_evry'.*'grad_every'"):
        spec(DGGGAN, grad_evry=2)  # type: ignore[call-arg]
