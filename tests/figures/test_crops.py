"""Tests of crops in rows: columns, empty places, numbers, equal sizes, the whole original."""

from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from torch import Tensor

from edgekeeper.errors import InputError, UnavailableError
from edgekeeper.figures.images import crops, default_measures
from edgekeeper.figures.rows import Panel, Row, enlarged_box, structured_box
from edgekeeper.metrics import psnr, ssim
from edgekeeper.ops.box import Box


def titled(figure: Any) -> dict[str, Any]:
    return {axis.get_title(): axis for axis in figure.axes if axis.get_title()}


def written(axis: Any) -> list[str]:
    return [text.get_text() for text in axis.texts]


def test_rows_share_columns_and_a_missing_result_stays_empty(
    hr: Tensor, tmp_path: Path, drawn: list[Any]
) -> None:
    box = Box(8, 8, 16, 16)
    rows = [
        Row(hr, [Panel("a", hr * 0.5), Panel("b", hr * 0.9)], "first", box),
        Row(hr, [Panel("b", hr * 0.9), Panel("c", hr * 0.7)], "second", box),
    ]
    crops(rows, path=tmp_path / "c.png", original="first")
    axes = drawn[0].axes
    assert [axis.get_title() for axis in axes] == ["original", "a", "b", "c", "", "", "", ""]
    there = [[len(axis.images) == 1 for axis in part] for part in (axes[:4], axes[4:])]
    assert there == [[True, True, True, False], [True, False, True, True]]
    assert written(axes[3]) == written(axes[5]) == ["no image"]
    assert [axis.get_ylabel() for axis in axes] == ["first", "", "", "", "second", "", "", ""]
    second = torch.from_numpy(axes[6].images[0].get_array().copy()).permute(2, 0, 1)
    assert torch.equal(second, box.cut(hr * 0.9)[0])


def test_numbers_are_of_the_whole_image_and_the_best_is_bold(
    hr: Tensor, panels: list[Panel], tmp_path: Path, drawn: list[Any]
) -> None:
    crops(
        [Row(hr, panels, box=Box(0, 0, 8, 8))],
        path=tmp_path / "c.svg",
        numbers=("psnr", "ssim"),
        scale=2,
        protocol="rgb_matlab",
    )
    axes = titled(drawn[0])
    for panel, weight in zip(panels, ("normal", "bold"), strict=True):
        options: dict[str, Any] = {"protocol": "rgb_matlab", "scale": 2}
        texts = axes[panel.label].texts
        assert [text.get_text() for text in texts] == [
            f"{psnr(panel.image, hr, **options).item():.2f}",
            f"{ssim(panel.image, hr, **options).item():.4f}",
        ]
        assert [text.get_weight() for text in texts] == [weight, weight]
    assert written(axes["original"]) == ["PSNR in dB ↑", "SSIM ↑"]
    assert drawn[0].texts[0].get_text() == "numbers of the whole images, protocol rgb_matlab, ×2"


def test_equal_numbers_are_equally_bold(hr: Tensor, tmp_path: Path, drawn: list[Any]) -> None:
    worse = (hr * 0.5 + 0.25).clamp(0, 1)
    panels = [Panel("a", hr * 0.9), Panel("b", hr * 0.9 + 1e-6), Panel("c", worse)]
    row = Row(hr, panels)
    crops([row], path=tmp_path / "c.svg", numbers=("psnr",), scale=2)
    axes = titled(drawn[0])
    weights = [axes[name].texts[0].get_weight() for name in ("a", "b", "c")]
    assert weights in (["bold", "bold", "normal"], ["normal", "normal", "bold"])
    crops([Row(hr, panels[:2])], path=tmp_path / "c.svg", numbers=("psnr",), scale=2)
    axes = titled(drawn[1])
    assert {axes[name].texts[0].get_weight() for name in ("a", "b")} == {"normal"}


def test_all_crops_have_one_size_and_do_not_overlap(
    hr: Tensor, tmp_path: Path, drawn: list[Any]
) -> None:
    panels = [Panel(f"a network with a long name, number {k}", hr * (k / 5)) for k in range(4)]
    rows = [Row(hr, panels, "one", Box(0, 0, 20, 24)), Row(hr, panels, "two", Box(9, 9, 24, 20))]
    crops(rows, path=tmp_path / "c.png", numbers=("psnr", "ssim"), scale=2, whole=True)
    figure = drawn[0]
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [axis.get_tightbbox(renderer) for axis in figure.axes]
    for k, box in enumerate(boxes):
        for other in boxes[k + 1 :]:
            apart = (
                box.x1 <= other.x0 + 0.5
                or other.x1 <= box.x0 + 0.5
                or box.y1 <= other.y0 + 0.5
                or other.y1 <= box.y0 + 0.5
            )
            assert apart
    crops_drawn = [axis for axis in figure.axes if axis.get_title() not in ("one", "two")]
    assert len(crops_drawn) == 10
    widths = [axis.get_window_extent().width for axis in crops_drawn]
    assert max(widths) - min(widths) < 1e-6


def test_the_frame_is_around_the_part(hr: Tensor, tmp_path: Path, drawn: list[Any]) -> None:
    row = Row(hr, [Panel("a", hr)], "name", Box(10, 20, 8, 12))
    crops([row], path=tmp_path / "c.png", whole=True)
    whole = titled(drawn[0])["name"]
    assert whole.images[0].get_array().shape == (64, 80, 3)
    frame = whole.patches[-1]
    assert (frame.get_xy(), frame.get_width(), frame.get_height()) == ((19.5, 9.5), 12, 8)


def test_the_part_is_chosen_in_the_original(hr: Tensor, tmp_path: Path, drawn: list[Any]) -> None:
    other = hr.flip(-1)
    crops([Row(hr, [Panel("a", other)])], path=tmp_path / "c.png")
    shown = torch.from_numpy(titled(drawn[0])["a"].images[0].get_array().copy()).permute(2, 0, 1)
    part = structured_box(hr, side=48)
    assert part == enlarged_box(hr)
    assert torch.equal(shown, part.cut(other)[0])


def test_numbers_need_the_scale(hr: Tensor, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="scale=2, 3 or 4"):
        crops([Row(hr, [Panel("a", hr)])], path=tmp_path / "c.png", numbers=("psnr",))


def test_unknown_numbers_name_the_nearest(hr: Tensor, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no number 'psmr'\. Did you mean 'psnr'"):
        crops([Row(hr, [Panel("a", hr)])], path=tmp_path / "c.png", numbers=("psmr",), scale=2)


def test_no_rows(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one original"):
        crops([], path=tmp_path / "c.png")


def test_lpips_stands_below_only_with_its_weights(
    hr: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGEKEEPER_DATA", raising=False)
    assert default_measures([hr]) == ("psnr",)
    with pytest.raises(UnavailableError, match="LPIPS needs the file"):
        crops([Row(hr, [Panel("a", hr)])], path=tmp_path / "c.png", numbers=("lpips",), scale=2)
    weights = tmp_path / "weights"
    weights.mkdir()
    for name in ("alexnet_conv.safetensors", "lpips_alex_v0.1.safetensors"):
        (weights / name).touch()
    monkeypatch.setenv("EDGEKEEPER_DATA", str(tmp_path))
    assert default_measures([hr]) == ("psnr", "lpips")
    assert default_measures([hr, hr[..., :30]]) == ("psnr",)  # too small for it
