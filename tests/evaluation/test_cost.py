"""Counts against those of the official modules, measurements, and what names a network."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from edgekeeper.errors import InputError, UnavailableError
from edgekeeper.evaluation.cost import (
    Count,
    count,
    count_with_gradient,
    find_network,
    has_trained_weights,
    measure,
    parse_network,
)
from edgekeeper.models import (
    DBPN,
    DGGGAN,
    EDSR,
    ESPCN,
    MODELS,
    RCAN,
    RDN,
    RRDB,
    SFTGAN,
    SPSR,
    SRCNN,
    VDSR,
    NatSR,
    SRModel,
    SRResNet,
)
from edgekeeper.papers.costs import CostRow, costs_as_table, shapes_of, table5
from edgekeeper.pretrained.exported import ExportedNetwork
from edgekeeper.spec import Spec, spec

MEAN_SHIFT = {2: 45, 3: 90, 4: 153}
"""MACs per LR pixel of the official mean shifts, 1 x 1 convolutions that are folded here."""
MEAN_SHIFT_BIAS = {2: 15, 3: 30, 4: 51}


def per_image(number: int) -> float:
    """What is computed once for each image, as MACs per LR pixel of one of 50 x 50."""
    return number / 2500


# Parameters, MACs per LR pixel and outputs with a bias per LR pixel, counted on the official or
# reference modules. Attention works on one number for each map of an image.
COUNTS: dict[str, tuple[Spec[SRModel], int, float, float]] = {
    "rrdb": (spec(RRDB), 16_697_987, 17_926_848, 15_728),
    "spsr": (spec(SPSR), 24_796_230, 52_399_488, 37_920),
    "edsr_x2": (
        spec(EDSR, scale=2),
        1_369_859,
        1_372_653 - MEAN_SHIFT[2],
        2_459 - MEAN_SHIFT_BIAS[2],
    ),
    "edsr_x3": (
        spec(EDSR, scale=3),
        1_554_499,
        1_565_658 - MEAN_SHIFT[3],
        2_809 - MEAN_SHIFT_BIAS[3],
    ),
    "edsr_x4": (
        spec(EDSR, scale=4),
        1_517_571,
        1_983_321 - MEAN_SHIFT[4],
        3_555 - MEAN_SHIFT_BIAS[4],
    ),
    "rcan_x2": (
        spec(RCAN, scale=2),
        15_444_643,
        15_307_245 - MEAN_SHIFT[2] + per_image(102_400),
        26_651 - MEAN_SHIFT_BIAS[2] + per_image(13_600),
    ),
    "rcan_x4": (
        spec(RCAN),
        15_592_355,
        15_917_913 - MEAN_SHIFT[4] + per_image(102_400),
        27_747 - MEAN_SHIFT_BIAS[4] + per_image(13_600),
    ),
    "rdn_x2": (spec(RDN, scale=2), 22_123_395, 22_118_848, 9_740),
    "rdn_x3": (spec(RDN, scale=3), 22_308_035, 22_311_808, 10_075),
    "rdn_x4": (spec(RDN), 22_271_107, 22_729_408, 10_800),
    "dbpn_x2": (spec(DBPN, scale=2), 5_953_526, 6_232_064, 8_268),
    "dbpn_x4": (spec(DBPN), 10_426_358, 11_833_088, 27_504),
    "vdsr_y_x2": (spec(VDSR, scale=2), 664_704, 664_704 * 4, 0),
    "vdsr_gv_x2": (spec(VDSR, scale=2, variant="gv"), 665_856, 665_856 * 4, 0),
    "espcn_y_x2": (spec(ESPCN, scale=2), 21_284, 21_184, 100),
    "espcn_rgb_x4": (spec(ESPCN, scale=4, channels="rgb"), 37_200, 37_056, 144),
    "srcnn_y_x2": (spec(SRCNN, scale=2), 57_281, 57_184 * 4, 97 * 4),
    "srresnet_x4": (spec(SRResNet), 1_547_350, 2_218_176, 1_392),
    "srresnet_x2": (spec(SRResNet, scale=2), 1_399_637, 1_441_728, 332),
    "srresnet_5_blocks": (spec(SRResNet, blocks=5), 733_515, 1_407_168, 1_392),
    "srgan_5_blocks": (spec(SRResNet, blocks=5, bias=True), 734_219, 1_407_168, 2_096),
    "sftgan": (spec(SFTGAN), 1_833_763, 2_845_376, 11_408),
    "sftgan_torch": (spec(SFTGAN, variant="torch"), 1_612_195, 2_845_376, 11_408),
    "natsr": (spec(NatSR), 4_959_235, 5_423_808, 4_528),
    "dgggan": (spec(DGGGAN), 14_624_582, 4_740_480 + per_image(10_240), 5_824),
    "dgggan_no_se": (spec(DGGGAN, se=False), 14_532_422, 4_720_000, 5_824),
    "dgggan_lr": (spec(DGGGAN, body="lr"), 14_660_230, 18_269_568 + per_image(10_240), 15_840),
    "dgggan_lr_no_se": (spec(DGGGAN, body="lr", se=False), 14_568_070, 18_187_648, 15_840),
}


def test_counts_are_those_of_the_official_modules() -> None:
    for name, (model, parameters, macs, biases) in COUNTS.items():
        found = count(shapes_of(model), of="image and gradient map")
        assert found.parameters == parameters, name
        assert found.macs_per_pixel == pytest.approx(macs, abs=1e-9), name
        assert found.bias_outputs / 2500 == pytest.approx(biases, abs=1e-9), name


class _Layers(SRModel):
    """One layer of each counted kind, with and without a bias, and a fixed kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.channels, self.receptive_field = 2, "rgb", 3
        self.grouped = nn.Conv2d(3, 6, 3, padding=1, groups=3, bias=False)
        self.up = nn.ConvTranspose2d(6, 3, 4, stride=2, padding=1)
        self.linear = nn.Linear(3, 3)
        self.fixed = nn.Parameter(torch.ones(3, 1, 3, 3), requires_grad=False)

    def forward(self, lr: Tensor) -> Tensor:
        maps = self.up(self.grouped(lr))
        weight = self.linear(maps.mean(dim=(2, 3)))[:, :, None, None]
        return nn.functional.conv2d(maps * weight, self.fixed, padding=1, groups=3)


class TestCount:
    def test_every_kind_of_layer_by_hand(self) -> None:
        found = count(_Layers(), size=(4, 5))
        grouped = 20 * 6 * 9  # places · maps · weights of each
        up = 20 * 6 * 3 * 16  # every LR place gives 4 x 4 values of 3 maps
        assert found.macs == grouped + up + 9
        assert found.bias_outputs == 3 * 80 + 3
        assert found.parameters == 54 + 6 * 3 * 16 + 3 + 12

    def test_the_rule_of_table5(self) -> None:
        found = Count(parameters=1, size=(2, 5), macs=100, bias_outputs=7)
        assert found.flops == 214
        assert found.macs_per_pixel == 10

    def test_the_gradient_map_is_made_in_training_only(self) -> None:
        model = SPSR(width=8, blocks=1, growth=4, taps=(1,))
        use, training = count(model), count(model, of="image and gradient map")
        assert training.macs - use.macs == 50 * 50 * 16 * 8 * 3  # the 1 x 1 convolution
        assert training.parameters == use.parameters

    def test_the_model_is_left_as_it_was(self) -> None:
        model = ESPCN(scale=2)
        model.train()
        count(model)
        assert model.training
        assert next(model.parameters()).device.type == "cpu"
        assert not any(module._forward_hooks for module in model.modules())

    def test_a_layer_used_twice_counts_twice(self) -> None:
        class Twice(_Layers):
            def forward(self, lr: Tensor) -> Tensor:
                self.linear(self.linear(lr.mean(dim=(2, 3))))
                return super().forward(lr)

        assert count(Twice(), size=(4, 5)).macs == count(_Layers(), size=(4, 5)).macs + 18

    def test_exported_networks_cannot_be_counted(self) -> None:
        facts = {"scale": 2, "receptive_field": 1, "overlap": 1, "channels": "rgb"}
        exported = ExportedNetwork(Path("a.onnx"), facts=facts, run=lambda lr: lr)
        with pytest.raises(UnavailableError, match="exported from"):
            count(exported)

    @pytest.mark.parametrize("size", [(0, 5), (5, -1)])
    def test_a_image_without_pixels(self, size: tuple[int, int]) -> None:
        with pytest.raises(InputError, match="has none"):
            count(ESPCN(scale=2), size=size)

    @pytest.mark.parametrize("size", [(999_999_999, 999_999_999), (10_001, 10_000)])
    def test_a_image_with_too_many_pixels(self, size: tuple[int, int]) -> None:
        for counted in (count, count_with_gradient, measure):
            with pytest.raises(InputError, match="too large; give one of at most 100,000,000"):
                counted(SPSR(width=4, blocks=1, growth=2, taps=(1,)), size=size)

    def test_the_largest_image_is_counted(self) -> None:
        assert count(ESPCN(scale=2), size=(10_000, 10_000)).macs == 21_184 * 10**8

    def test_with_the_gradient_map_where_there_is_one(self) -> None:
        model = SPSR(width=8, blocks=1, growth=4, taps=(1,))
        found = count_with_gradient(model, size=(5, 6))
        assert found == count(model, size=(5, 6), of="image and gradient map")
        assert found != count(model, size=(5, 6))
        assert count_with_gradient(EDSR(scale=2, width=4, blocks=1)) is None
        assert count_with_gradient(DGGGAN(width=4, blocks=1, gradient_branch=False)) is None


@pytest.fixture(scope="module")
def rows() -> list[CostRow]:
    return table5()


class TestTable5:
    def test_one_way_of_counting_gives_each_printed_number(self, rows: list[CostRow]) -> None:
        agreeing = {row.method: row for row in rows if row.agrees and "(" in row.rule}
        flops = {"ESRGAN": 89.713, "SRGAN": 7.046, "SPSR": 265.141, "DGGGAN without SE": 23.629}
        for method, expected in flops.items():
            assert agreeing[method].flops == pytest.approx(expected, abs=5e-4)
            assert agreeing[method].size == (50, 50)
        assert {row.method for row in rows if row.agrees} == {row.method for row in rows}

    def test_dgggan_is_design_a_by_the_rule_of_the_others(self, rows: list[CostRow]) -> None:
        first, second, third = (row for row in rows if row.method == "DGGGAN")
        assert (first.agrees, first.size, first.rule) == (True, (50, 50), "2 (MAC + bias)")
        assert first.flops == pytest.approx(23.732, abs=5e-4)
        assert not second.agrees
        assert second.flops == pytest.approx(91.427, abs=5e-4)
        assert third.flops == pytest.approx(23.698, abs=5e-4)

    def test_spsr_agrees_only_with_a_layer_counted_twice(self, rows: list[CostRow]) -> None:
        once, twice = (row for row in rows if row.method == "SPSR")
        assert once.flops == pytest.approx(262.187, abs=5e-4)
        assert (once.agrees, twice.agrees) == (False, True)

    @pytest.mark.parametrize(
        ("method", "usual", "other", "size"),
        [("NatSR", 27.142, 12.496, (48, 48)), ("SFTGAN", 14.284, 0.819, (12, 12))],
    )
    def test_two_columns_have_another_rule(
        self, rows: list[CostRow], method: str, usual: float, other: float, size: tuple[int, int]
    ) -> None:
        plain, special = (row for row in rows if row.method == method)
        assert plain.flops == pytest.approx(usual, abs=5e-4)
        assert not plain.agrees
        assert special.flops == pytest.approx(other, abs=5e-4)
        assert (special.agrees, special.size) == (True, size)

    def test_every_row_says_its_size_and_rule(self, rows: list[CostRow]) -> None:
        shown = costs_as_table(rows)
        place = {name.removeprefix(">"): number for number, name in enumerate(shown.columns)}
        for cells in shown.cells:
            assert "x" in cells[place["LR"]]
            assert "MAC" in cells[place["rule"]]
            assert cells[place["agree"]] in ("yes", "no")


class TestMeasure:
    def test_the_numbers_and_their_conditions(self) -> None:
        model = ESPCN(scale=2)
        model.train()
        found = measure(model, size=(20, 30), repeats=3)
        assert 0 < found.fastest <= found.seconds <= found.slowest < 60
        assert (found.size, found.repeats, found.device) == ((20, 30), 3, "cpu")
        assert found.threads == torch.get_num_threads()
        assert model.training

    @pytest.mark.skipif(
        not Path("/proc/self/clear_refs").exists(), reason="needs Linux's peak of the process"
    )
    def test_peak_memory_is_that_of_the_run(self) -> None:
        class Hungry(_Layers):
            def forward(self, lr: Tensor) -> Tensor:
                torch.zeros(64 * 2**20 // 4) + 1  # two tensors of 64 MiB
                return super().forward(lr)

        modest = measure(_Layers(), size=(8, 8), repeats=1).peak_bytes
        hungry = measure(Hungry(), size=(8, 8), repeats=1).peak_bytes
        assert modest is not None and hungry is not None
        assert modest < 40 * 2**20
        # Pages that are only read are never had: one or both tensors are resident.
        assert 63 * 2**20 < hungry < 200 * 2**20

    @pytest.mark.parametrize(
        ("seconds", "median"), [((7.0, 1.0, 2.0), 2.0), ((9.0, 1.0, 2.0, 4.0), 3.0), ((5.0,), 5.0)]
    )
    def test_the_seconds_are_the_median(
        self, seconds: Sequence[float], median: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ticks = itertools.accumulate(step for taken in seconds for step in (100.0, taken))
        clock = SimpleNamespace(perf_counter=lambda: next(ticks))
        monkeypatch.setattr("edgekeeper.evaluation.cost.time", clock)
        found = measure(ESPCN(scale=2), size=(2, 2), repeats=len(seconds))
        assert found.seconds == median
        assert (found.fastest, found.slowest) == (min(seconds), max(seconds))

    @pytest.mark.parametrize(
        "error", [RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError()]
    )
    def test_a_image_that_does_not_fit_into_memory(self, error: Exception) -> None:
        class Full(_Layers):
            def forward(self, lr: Tensor) -> Tensor:
                raise error

        with pytest.raises(InputError, match="Full and an image of 8x9 pixels do not fit"):
            measure(Full(), size=(8, 9))

    def test_another_failure_is_not_taken_for_want_of_memory(self) -> None:
        class Broken(_Layers):
            def forward(self, lr: Tensor) -> Tensor:
                raise RuntimeError("shapes differ")

        with pytest.raises(RuntimeError, match="shapes differ"):
            measure(Broken(), size=(8, 9))

    def test_no_repeats(self) -> None:
        with pytest.raises(InputError, match="at least 1"):
            measure(ESPCN(scale=2), repeats=0)


class TestNames:
    def test_a_shipped_network_keeps_its_own_scale(self) -> None:
        assert find_network("espcn_x3", scale=4).scale == 3
        assert has_trained_weights("espcn_x3")

    def test_a_class_takes_the_scale_and_its_arguments(self) -> None:
        found = find_network("edsr:width=16,blocks=2")
        assert isinstance(found, EDSR)
        assert (found.scale, found.training) == (4, False)
        assert find_network("espcn:channels=rgb", scale=2).channels == "rgb"
        assert find_network("espcn:scale=3", scale=2).scale == 3
        assert not has_trained_weights("espcn:channels=rgb")

    def test_truths_are_those_of_json_or_of_python(self) -> None:
        for word, truth in (("true", True), ("True", True), ("false", False), ("False", False)):
            assert dict(parse_network(f"dgggan:se={word}").arguments)["se"] is truth

    @pytest.mark.parametrize(
        ("error", "message"),
        [
            (KeyError("x"), "^_Layers cannot be built so: 'x'\\.$"),
            (IndexError("beyond."), "^_Layers cannot be built so: beyond\\.$"),
            (RuntimeError("first\nsecond"), "^_Layers cannot be built so: first\\.$"),
            (ZeroDivisionError(), "^_Layers cannot be built so: ZeroDivisionError\\.$"),
            (MemoryError(), "^_Layers cannot be built so: MemoryError\\.$"),
            (InputError("As it is."), "^As it is\\.$"),
        ],
    )
    def test_what_fails_while_it_is_built_is_one_sentence(
        self, error: Exception, message: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(_self: _Layers) -> None:
            raise error

        monkeypatch.setattr(_Layers, "__init__", fail)
        monkeypatch.setitem(MODELS, "layers", _Layers)
        with pytest.raises(InputError, match=message):
            find_network("layers")

    def test_values_are_json_or_words(self) -> None:
        found = dict(parse_network("dgggan:body=lr,se=false,width=8").arguments)
        assert found == {"body": "lr", "se": False, "width": 8, "scale": 4}

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("edsr_lite_x4", "Did you mean 'edsr_light_x4'"),
            ("edrs", "Did you mean 'edsr'"),
            ("edsr:widht=3", "Did you mean 'width'"),
            ("edsr:width", "come arguments with values"),
            ("edsr:width=wide", r"^EDSR's width is a whole number from 1 to 1024; got 'wide'\.$"),
            ("edsr:width=1e999", "whole number from 1 to 1024; got inf"),
            ("edsr:width=" + 300 * "9", "whole number from 1 to 1024; got 999"),
            ("edsr:width=" + 5000 * "9", "whole number from 1 to 1024; got '999"),
            ("edsr:width=" + 100_000 * "[", r"whole number from 1 to 1024; got '\[\["),
            ("edsr:blocks=100000000", "whole number from 1 to 1024"),
            ("srcnn:channels=foo", "SRCNN's channels is one of rgb, y; got 'foo'"),
            ("srresnet:width=0", "SRResNet's width is a whole number"),
            ("rdn:growth=0", "RDN's growth is a whole number"),
            ("imdn:blocks=0", "IMDN's blocks is a whole number"),
            ("natsr:residual_scale=abc", "NatSR's residual_scale is a finite number"),
            ("natsr:levels=40", "NatSR's levels is a whole number from 0 to 8; got 40"),
            ("dgggan:width=6", r"^DGGGAN's width is a multiple of 4, at least 4; got 6\.$"),
            (
                "gradientbranch:backbone=edsr",
                r"^A gradient branch needs scale, channels, .* which str does not have: ",
            ),
            ("edsr:scale=7", "no scale 7"),
            ("none.safetensors", "no network file"),
        ],
    )
    def test_what_does_not_exist(self, text: str, message: str) -> None:
        with pytest.raises(InputError, match=message):
            find_network(text)
