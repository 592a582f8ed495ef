"""Maps of categories: cut as the image, turned as the image, refused where they do not fit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PILImage

import edgekeeper
from edgekeeper.errors import ImageError, InputError
from edgekeeper.image import Image, from_tensor, to_tensor, write_image
from edgekeeper.inference import (
    CategoryMap,
    Request,
    upscale_file,
    upscale_files,
    upscale_image,
    verify_seams,
)
from edgekeeper.inference.categories import find_maps
from edgekeeper.inference.choose import choose
from edgekeeper.inference.network import NO_MAP, TileRunner, infer
from edgekeeper.models import SFTGAN
from edgekeeper.models.sftgan import CATEGORIES
from edgekeeper.ops.tiles import plan_axis, probe_tile


def upscaled(image: Image, **asked) -> Image:
    return upscale_image(image, Request(**asked)).image


def tiny(scale: int = 2) -> SFTGAN:
    """A network on which the map has a large effect."""
    torch.manual_seed(scale)
    model = SFTGAN(scale=scale, width=8, blocks=1, condition=4, hidden=6).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("condition") or ".scale." in name or ".shift." in name:
                parameter.mul_(3)
    return model


def labels(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 8, (height, width), dtype=np.uint8)


def stored(values: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PILImage.fromarray(values).save(path)
    return path


def some_image(height: int = 30, width: int = 40, *, colours: int = 3) -> Image:
    values = np.random.default_rng(1).integers(60, 200, (height, width, colours), dtype=np.uint8)
    return Image(pixels=values)


def by_hand(model: SFTGAN, image: Image, values: np.ndarray) -> np.ndarray:
    """The whole image at once with labels of HR size."""
    lr = to_tensor(image)
    maps = torch.eye(8)[torch.from_numpy(values.astype(np.int64))].permute(2, 0, 1)[None]
    with torch.no_grad():
        sr = model.with_conditions(lr.expand(-1, 3, -1, -1), maps).clamp(0, 1)
    return from_tensor(sr, depth=8)


class TestPartsOfAMap:
    @pytest.mark.parametrize("scale", [2, 3])
    def test_a_part_is_that_of_the_whole(self, scale: int) -> None:
        for size in ((7, 9), (7 * scale, 9 * scale), (1, 1)):
            given = CategoryMap(labels=labels(*size))
            whole = given.whole((7, 9), scale=scale)
            assert whole.shape == (1, 8, 7 * scale, 9 * scale)
            part = given.cut(slice(2, 5), slice(4, 9), size=(7, 9), scale=scale)
            expected = whole[..., 2 * scale : 5 * scale, 4 * scale : 9 * scale]
            assert torch.equal(part, expected)

    def test_a_small_map_is_repeated_and_a_large_one_taken_as_it_is(self) -> None:
        values = labels(2, 3)
        large = CategoryMap(labels=values).whole((2, 3), scale=2).argmax(dim=1)[0].numpy()
        assert np.array_equal(large, values.repeat(2, 0).repeat(2, 1))
        again = CategoryMap(labels=large).whole((2, 3), scale=2)
        assert np.array_equal(again.argmax(dim=1)[0].numpy(), large)
        assert torch.equal(again.sum(dim=1), torch.ones(1, 4, 6))

    @pytest.mark.parametrize("size", [(3, 2), (2, 6), (8, 12), (4, 3), (1, 3)])
    def test_other_sizes_are_refused(self, size: tuple[int, int]) -> None:
        given = CategoryMap(labels=labels(*size), name="'m.png'")
        said = rf"'m.png' has {size[1]} x {size[0]} pixels; .* must have 3 x 2, or 6 x 4 as"
        with pytest.raises(ImageError, match=said):
            given.check_size((2, 3), scale=2)

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            (np.full((2, 2), 8), "holds the value 8; the values of a map are 0 background, 1 sky"),
            (np.full((2, 2), -1), "holds the value -1;"),
            (np.zeros((2, 2)), r"must be whole numbers \(h, w\); got \(2, 2\) of float64"),
            (np.zeros((2, 2, 1), np.uint8), r"got \(2, 2, 1\)"),
            (np.zeros((0, 2), np.uint8), r"got \(0, 2\)"),
        ],
    )
    def test_what_is_no_map_is_refused(self, values: np.ndarray, said: str) -> None:
        with pytest.raises(InputError, match=said):
            CategoryMap(labels=values)


class TestResults:
    @pytest.mark.parametrize("colours", [1, 3])
    @pytest.mark.parametrize("large", [False, True])
    def test_tiles_equal_the_whole(self, colours: int, large: bool) -> None:
        model, image = tiny(), some_image(colours=colours)
        values = labels(60, 80) if large else labels(30, 40)
        whole = upscaled(image, model=model, categories=CategoryMap(labels=values))
        tile = 2 * model.overlap + 5
        assert len(plan_axis(30, tile=tile, overlap=model.overlap)) > 2
        tiled = upscaled(image, model=model, tile=tile, categories=CategoryMap(labels=values))
        assert np.abs(tiled.pixels.astype(int) - whole.pixels).max() <= 1
        assert (tiled.pixels != whole.pixels).mean() < 0.001  # rounding
        if colours == 3:
            full = values if large else values.repeat(2, 0).repeat(2, 1)
            expected = by_hand(model, image, full)
            assert np.abs(whole.pixels.astype(int) - expected).max() <= 1
        without = upscaled(image, model=model)
        assert np.abs(whole.pixels.astype(int) - without.pixels).mean() > 1

    def test_in_float_tiles_equal_the_whole_to_rounding(self) -> None:
        model = tiny()
        lr = to_tensor(some_image())
        maps = CategoryMap(labels=labels(60, 80)).whole((30, 40), scale=2)
        seams = verify_seams(model, lr, request=Request(tile=2 * model.overlap + 5), maps=maps)
        assert seams.levels < 1e-3
        # and the map matters: in another order it gives another image
        runner = TileRunner(model)
        assert (runner(lr, maps=maps) - runner(lr, maps=maps.flip(-1))).abs().max() > 0.1

    def test_two_passes_take_the_same_map(self) -> None:
        model, image, values = tiny(), some_image(12, 10), labels(12, 10)
        once = upscaled(image, model=model, categories=CategoryMap(labels=values))
        twice = upscaled(image, model=model, categories=CategoryMap(labels=values), scale=4)
        # The second pass begins from what was not yet rounded, so that a level may differ.
        again = by_hand(model, once, values.repeat(4, 0).repeat(4, 1))
        assert twice.pixels.shape == (48, 40, 3)
        assert np.abs(twice.pixels.astype(int) - again).mean() < 1

    def test_the_map_is_turned_with_the_image(self) -> None:
        model = tiny(3)
        lr = torch.rand(1, 3, 6, 9, generator=torch.Generator().manual_seed(0))
        maps = CategoryMap(labels=labels(18, 27)).whole((6, 9), scale=3)
        eight = TileRunner(model, ensemble=True)
        result = eight(lr, maps=maps)
        total = torch.zeros(1, 3, 18, 27)
        with torch.no_grad():
            for turns in range(4):
                for flip in ([], [-1]):
                    x, m = (t.rot90(turns, (-2, -1)).flip(flip) for t in (lr, maps))
                    sr = model.with_conditions(x, m)
                    total += sr.flip(flip).rot90(-turns, (-2, -1))
        torch.testing.assert_close(result, (total / 8).clamp(0, 1), atol=1e-5, rtol=0)
        turned = eight(lr.flip(-1), maps=maps.flip(-1)).flip(-1)
        torch.testing.assert_close(turned, result, atol=1e-5, rtol=0)
        assert not torch.allclose(eight(lr.flip(-1), maps=maps).flip(-1), result, atol=1e-2)

    def test_the_precision_is_tried_with_the_map(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("edgekeeper.inference.choose.bfloat16_is_fast", lambda device: True)
        model, seen = tiny(), []

        def spy(model: SFTGAN, lr: torch.Tensor, *, maps: torch.Tensor, **rest: object) -> object:
            seen.append((lr, maps))
            return infer(model, lr, maps=maps, **rest)  # type: ignore[arg-type]

        monkeypatch.setattr("edgekeeper.inference.choose.infer", spy)
        maps = CategoryMap(labels=labels(40, 280)).whole((20, 140), scale=2)
        found = choose(model, (20, 140), device=torch.device("cpu"), maps=maps)
        assert found.precision in ("float32", "bfloat16")
        assert len(seen) == 2
        for part, beside in seen:
            assert torch.equal(part, probe_tile()[..., :20, :])
            assert torch.equal(beside, maps[..., :256])

    def test_without_a_map_the_notes_say_so(self) -> None:
        model, image = tiny(), some_image(12, 10)
        assert upscale_image(image, Request(model=model)).notes == (NO_MAP,)
        sky = CategoryMap(labels=labels(12, 10))
        assert upscale_image(image, Request(model=model, categories=sky)).notes == ()


class TestPython:
    def test_a_category_by_name(self, tmp_path: Path) -> None:
        model, lr = tiny(), to_tensor(some_image(12, 10))
        sr = edgekeeper.upscale(lr, model=model, categories="water", precision="float32")
        water = torch.eye(8)[[CATEGORIES.index("water")], :, None, None].expand(-1, -1, 24, 20)
        expected = infer(model, lr, maps=water)
        torch.testing.assert_close(sr, expected)
        assert not torch.equal(sr, edgekeeper.upscale(lr, model=model, categories="sky"))
        image = edgekeeper.upscale(
            some_image(12, 10), model=model, categories="water", precision="float32"
        )
        assert np.abs(image.pixels.astype(int) - from_tensor(expected)).max() <= 1

    def test_the_file_of_a_map(self, tmp_path: Path) -> None:
        model, lr = tiny(), to_tensor(some_image(12, 10))
        path = stored(labels(12, 10), tmp_path / "map.png")
        exact = {"model": model, "categories": path, "precision": "float32"}
        sr = edgekeeper.upscale(lr, **exact)
        maps = CategoryMap(labels=labels(12, 10)).whole((12, 10), scale=2)
        torch.testing.assert_close(sr, infer(model, lr, maps=maps))
        twice = edgekeeper.upscale(lr, scale=4, **exact)
        again = CategoryMap(labels=labels(12, 10)).whole((24, 20), scale=2)
        torch.testing.assert_close(twice, infer(model, sr, maps=again))

    @pytest.mark.parametrize("scale", [2, 0.5])
    def test_a_network_that_takes_no_map_refuses_one(self, scale: float) -> None:
        lr = to_tensor(some_image(12, 10))
        for image in (lr, some_image(12, 10)):
            with pytest.raises(InputError, match=r"ESPCN takes no map of categories; only SFTGAN"):
                edgekeeper.upscale(image, model="espcn_x2", scale=scale, categories="sky")

    def test_what_is_wrong_is_said(self, tmp_path: Path) -> None:
        model, lr = tiny(), to_tensor(some_image(12, 10))
        with pytest.raises(InputError, match=r"no category and no file 'watr'.*mean 'water'"):
            edgekeeper.upscale(lr, model=model, categories="watr")
        wrong = stored(labels(13, 10), tmp_path / "map.png")
        for image in (lr, some_image(12, 10)):
            with pytest.raises(ImageError, match=r"map.png' has 10 x 13 pixels; .* 20 x 24"):
                edgekeeper.upscale(image, model=model, categories=wrong)
        colour = stored(np.zeros((12, 10, 3), np.uint8), tmp_path / "colour.png")
        with pytest.raises(ImageError, match=r"colour.png' is in colour; a map is grey"):
            edgekeeper.upscale(lr, model=model, categories=colour)
        large = stored(np.full((12, 10), 255, np.uint8), tmp_path / "large.png")
        with pytest.raises(ImageError, match=r"large.png' holds the value 255; .* 7 animal"):
            edgekeeper.upscale(lr, model=model, categories=large)

    def test_all_categories_can_be_named(self) -> None:
        for number, name in enumerate(CATEGORIES):
            (of,) = [find_maps(name, images=[Path("a"), Path("b")])]
            assert of(Path("b")).labels.tolist() == [[number]]


class TestFiles:
    def test_a_file(self, tmp_path: Path) -> None:
        model, image = tiny(), some_image(12, 10)
        write_image(image, tmp_path / "a.png")
        given = stored(labels(12, 10), tmp_path / "m.png")
        asked = Request(model=model, categories=given)
        upscale_file(tmp_path / "a.png", tmp_path / "b.png", request=asked)
        expected = upscaled(image, model=model, categories=given)
        assert np.array_equal(edgekeeper.read_image(tmp_path / "b.png").pixels, expected.pixels)

    def test_in_a_folder_each_image_has_its_own(self, tmp_path: Path) -> None:
        model, source, maps = tiny(), tmp_path / "in", tmp_path / "maps"
        for number, place in enumerate(("a", "sub/a", "none", "wrong")):
            (source / place).parent.mkdir(parents=True, exist_ok=True)
            write_image(some_image(12, 10 + number), source / f"{place}.png")
        stored(labels(12, 10), maps / "a.tif")
        stored(labels(24, 22), maps / "sub" / "a.png")
        stored(labels(5, 5), maps / "wrong.png")
        asked = Request(sources=(source,), output=tmp_path / "out", model=model, categories=maps)
        results = {str(r.source.relative_to(source)): r for r in upscale_files(asked)}
        assert {name: r.status for name, r in results.items()} == {
            "a.png": "done",
            "none.png": "failed",
            "sub/a.png": "done",
            "wrong.png": "failed",
        }
        said = results["none.png"].reason
        assert "no map of categories for" in said and "maps/none.png' (or .tif, .tiff)" in said
        assert "wrong.png' has 5 x 5 pixels" in results["wrong.png"].reason
        for name, values, width in (("a", labels(12, 10), 10), ("sub/a", labels(24, 22), 11)):
            made = edgekeeper.read_image(tmp_path / "out" / f"{name}.png")
            expected = upscaled(
                some_image(12, width), model=model, categories=CategoryMap(labels=values)
            )
            assert np.array_equal(made.pixels, expected.pixels)
        names = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*")}
        assert names == {"a.png", "sub/a.png"}

    def test_one_map_for_several_images_is_refused(self, tmp_path: Path) -> None:
        given = stored(labels(3, 3), tmp_path / "m.png")
        with pytest.raises(InputError, match=r"is one map, and there are 2 images; give a fold"):
            find_maps(given, images=[Path("a.png"), Path("b.png")])

    def test_two_images_never_share_a_map_of_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"'x/a.png' and 'y/a.jpg' would both have the map"):
            find_maps(tmp_path, images=[Path("x/a.png"), Path("y/a.jpg")])

    def test_a_network_without_maps_refuses_before_anything_is_written(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "in").mkdir()
        write_image(some_image(), tmp_path / "in" / "a.png")
        model = edgekeeper.load("espcn_x2")
        with pytest.raises(InputError, match="ESPCN takes no map"):
            upscale_files(
                Request(
                    sources=(tmp_path / "in",),
                    output=tmp_path / "out",
                    model=model,
                    categories="sky",
                )
            )
        assert not (tmp_path / "out").exists()
