"""``edgekeeper.upscale`` and ``evaluate`` with what Python programs hold, and what they refuse."""

import io
import os
import pickle
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from torch import nn

import edgekeeper
from edgekeeper.errors import EdgekeeperError, InputError
from edgekeeper.image import Image, Metadata, read_image, write_image
from edgekeeper.inference.network import infer
from edgekeeper.losses import L1, SSIM, GradientVariance
from edgekeeper.losses import check as losses_check
from edgekeeper.metrics import psnr, ssim
from edgekeeper.models import ESPCN, SRResNet

SCALE = 2


@pytest.fixture(scope="module")
def model() -> ESPCN:
    torch.manual_seed(0)
    return ESPCN(scale=SCALE).eval()


def samples(channels: int = 3, kind: type = np.uint8) -> np.ndarray:
    rng = np.random.default_rng(0)
    values = rng.random((20, 30, channels))
    return values.astype(kind) if np.dtype(kind).kind == "f" else (values * 200).astype(kind)


def refused(image: object, **asked) -> str:
    with pytest.raises(InputError) as found:
        edgekeeper.upscale(image, **asked)
    return str(found.value)


class TestKinds:
    def test_files_give_an_image(self, tmp_path: Path, model) -> None:
        path = tmp_path / "in.png"
        write_image(Image.from_numpy(samples()), path)
        data = path.read_bytes()
        wanted = edgekeeper.upscale(str(path), model=model)
        assert isinstance(wanted, Image) and wanted.pixels.shape == (40, 60, 3)
        given = [path, data, bytearray(data), memoryview(data), io.BytesIO(data), read_image(path)]
        for one in given:
            made = edgekeeper.upscale(one, model=model)
            assert np.array_equal(made.pixels, wanted.pixels), type(one)
        with path.open("rb") as file:
            assert np.array_equal(edgekeeper.upscale(file, model=model).pixels, wanted.pixels)

    def test_arrays_give_their_like(self, model) -> None:
        wanted = edgekeeper.upscale(samples(), model=model)
        for kind in (np.uint8, np.uint16, np.float16, np.float32, np.float64, ">f4", ">u2"):
            for channels in (1, 2, 3, 4):
                array = samples(channels, np.dtype(kind).type).astype(kind)
                made = edgekeeper.upscale(array, model=model)
                shape = (40, 60) if channels == 1 else (40, 60, channels)
                assert (made.shape, made.dtype) == (shape, np.dtype(kind)), (kind, channels)
            flat = edgekeeper.upscale(array[..., 0], model=model)
            assert flat.shape == (40, 60)
        turned = samples()[:, ::-1]  # strides below zero
        assert edgekeeper.upscale(turned, model=model).shape == (40, 60, 3)
        assert np.array_equal(edgekeeper.upscale(samples(), model=model), wanted)

    def test_floats_are_not_rounded(self, model) -> None:
        array = samples(kind=np.float32)
        made = edgekeeper.upscale(array, model=model, precision="float32")
        lr = torch.from_numpy(array).permute(2, 0, 1)[None]  # (1, 3, H, W)
        whole = infer(model, lr, layout="channels last")[0].permute(1, 2, 0).numpy()
        assert np.abs(made - whole).max() < 1e-5
        assert len(np.unique(made)) > 1000

    def test_tensors_give_their_like(self, model) -> None:
        batch = torch.rand(2, 3, 20, 30)
        made = full = edgekeeper.upscale(batch, model=model, precision="float32")
        torch.testing.assert_close(made, infer(model, batch), atol=1e-5, rtol=0)
        one = edgekeeper.upscale(batch[1], model=model, precision="float32")
        torch.testing.assert_close(one, made[1])
        for kind in (torch.float16, torch.bfloat16, torch.float64):
            assert edgekeeper.upscale(batch.to(kind), model=model).dtype == kind
        for channels in (1, 2, 4):
            made = edgekeeper.upscale(torch.rand(1, channels, 9, 8), model=model)
            assert made.shape == (1, channels, 18, 16)
        negated = torch._neg_view(-batch)  # whose sign is not in its memory
        made = edgekeeper.upscale(negated, model=model, precision="float32")
        torch.testing.assert_close(made, full)
        learning = batch.clone().requires_grad_()
        assert not edgekeeper.upscale(learning, model=model).requires_grad

    def test_pillow_images_give_their_like(self, model) -> None:
        colour = PILImage.fromarray(samples())
        for mode, wanted in {
            "RGB": "RGB",
            "RGBA": "RGBA",
            "L": "L",
            "LA": "LA",
            "La": "LA",
            "P": "RGB",
            "1": "L",
            "CMYK": "RGB",
            "YCbCr": "RGB",
            "HSV": "RGB",
        }.items():
            made = edgekeeper.upscale(colour.convert(mode), model=model)
            assert (made.mode, made.size) == (wanted, (60, 40)), mode
        deep = PILImage.fromarray(samples(1, np.uint16)[..., 0])
        assert edgekeeper.upscale(deep, model=model).mode == "I;16"
        floats = PILImage.fromarray(samples(1, np.float32)[..., 0])
        assert edgekeeper.upscale(floats, model=model).mode == "F"
        clear = colour.quantize(8)
        clear.info["transparency"] = 0
        assert edgekeeper.upscale(clear, model=model).mode == "RGBA"
        assert edgekeeper.upscale(clear, model=model).info == {}

    def test_what_a_pillow_image_says_of_itself_is_kept(self, model) -> None:
        image = PILImage.fromarray(samples())
        image.info |= {"icc_profile": b"profile", "dpi": (300, 300)}
        assert edgekeeper.upscale(image, model=model).info == image.info
        assert "icc_profile" not in edgekeeper.upscale(image.convert("CMYK"), model=model).info

    def test_an_image_through_tiles_is_the_image_at_once(self, model) -> None:
        batch = torch.rand(1, 3, 40, 50)
        tiled = edgekeeper.upscale(batch, model=model, tile=20, precision="float32")
        torch.testing.assert_close(tiled, infer(model, batch), atol=1e-5, rtol=0)


class TestTheImage:
    def test_it_is_an_array_and_a_pillow_image(self) -> None:
        for channels in (1, 2, 3, 4):
            array = samples(channels)
            image = Image.from_numpy(array)
            squeezed = array[..., 0] if channels == 1 else array
            assert np.array_equal(np.asarray(image), squeezed)
            assert np.array_equal(image.to_numpy(), squeezed)
            assert np.array_equal(np.asarray(image.to_pil()), squeezed)
            assert np.array_equal(Image.from_pil(image.to_pil()).to_numpy(), squeezed)
        assert np.asarray(image, dtype=np.float32).dtype == np.float32

    def test_pillow_is_told_what_the_file_said(self) -> None:
        metadata = Metadata(icc=b"profile", exif=b"exif", pixels_per_mm=(10, 10))
        made = Image(pixels=samples(), metadata=metadata).to_pil()
        assert made.info == {"icc_profile": b"profile", "exif": b"exif", "dpi": (254, 254)}
        deep = Image.from_numpy(samples(3, np.uint16) * 257).to_pil()  # Pillow has no such RGB
        assert np.array_equal(np.asarray(deep), samples(3))

    def test_it_is_saved_and_shown(self, tmp_path: Path) -> None:
        image = Image.from_numpy(samples())
        image.save(tmp_path / "a.png")
        assert np.array_equal(read_image(tmp_path / "a.png").pixels, image.pixels)
        with pytest.raises(EdgekeeperError, match="exists already"):
            image.save(tmp_path / "a.png")
        image.save(tmp_path / "a.png", overwrite="replace")
        image.save(tmp_path / "a.jpg", quality=50)
        for kind in (np.uint8, np.uint16, np.float32):
            for channels in (1, 2, 3, 4):
                shown = Image.from_numpy(samples(channels, kind))._repr_png_()
                assert PILImage.open(io.BytesIO(shown)).size == (30, 20)
        wide = Image(pixels=np.zeros((10, 3000, 3), np.uint8))._repr_png_()
        assert PILImage.open(io.BytesIO(wide)).size[0] == 1024
        assert repr(image) == "<edgekeeper.Image 30 x 20 RGB, uint8>"

    def test_floats_are_written_as_16_bits(self, tmp_path: Path) -> None:
        floats = samples(3, np.float32)
        Image.from_numpy(floats).save(tmp_path / "a.png")
        kept = read_image(tmp_path / "a.png").pixels
        assert kept.dtype == np.uint16
        assert np.abs(kept / 65535 - floats).max() <= 0.5 / 65535 + 1e-7


class TestRefusals:
    def test_what_is_no_image_is_told_with_a_cure(self, model) -> None:
        floats, closed = samples(kind=np.float32), io.BytesIO()
        closed.close()
        for image, words in [
            (samples().transpose(2, 0, 1), ["(3, 20, 30)", "array.transpose(1, 2, 0)"]),
            (samples()[None], ["one image is (H, W)"]),
            (np.zeros((20, 30, 7), np.uint8), ["1 to 4 channels"]),
            (np.zeros((0, 30), np.uint8), ["(H, W)"]),
            (samples().astype(np.int64), ["int64", "astype(numpy.uint8)"]),
            (samples() > 3, ["bool"]),
            (floats * 255, ["from 0", "to 25", "divide by 255"]),
            (floats - 0.5, ["from -0."]),
            (np.where(floats < 0.5, np.nan, floats), ["NaN"]),
            (torch.rand(1, 20, 30, 3), ["permute(0, 3, 1, 2)"]),
            (torch.rand(20, 30, 3), ["permute(2, 0, 1)"]),
            (torch.rand(20, 30), ["(20, 30)", "(C, H, W)"]),
            (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), ["uint8", ".float() / 255"]),
            (torch.rand(1, 3, 4, 4) * 255, ["divide by 255"]),
            (torch.rand(1, 3, 4, 4) - 3, ["from -3 to -2", "from -2.9"]),
            (torch.full((1, 3, 4, 4), torch.inf), ["inf"]),
            (PILImage.fromarray(np.full((4, 4), -5, np.int32)), ["mode I", "-5"]),
            (io.StringIO("text"), ["mode 'rb'"]),
            (closed, ["closed file", "mode 'rb'"]),
            ([[1, 2], [3, 4]], ["type list", "NumPy array"]),
            (None, ["NoneType"]),
            (7, ["type int"]),
        ]:
            said = refused(image, model=model)
            assert any(word in said for word in words), (said, words)

    def test_arguments_are_told_with_a_cure(self) -> None:
        class Plain(nn.Module):
            pass

        image = samples()
        for asked, words in [
            ({"scale": "4"}, "scale is '4'; give a number"),
            ({"scale": True}, "scale is True; give a number"),
            ({"scale": 0}, "from 1e-7 to 1e7"),
            ({"scale": np.array([2, 3])}, "scale is array([2, 3]); give a number"),
            ({"guard": "no"}, "guard is 'no'; give True or False"),
            ({"scale": float("nan")}, "from 1e-7 to 1e7"),
            ({"style": "sharpe"}, "Did you mean 'sharp'?"),
            ({"precision": "float16"}, "bfloat16"),
            ({"runtime": "tensorrt"}, "auto, torch, onnx, openvino"),
            ({"tile": 0}, "whole number"),
            ({"tile": "256"}, "whole number"),
            ({"device": "gpu"}, "choose auto, cpu, cuda"),
            ({"device": "cuda:99"}, "has no cuda:99 device"),
            ({"model": Plain()}, "SRModel that sets scale"),
            ({"model": {"a": 1}}, "type dict"),
            ({"model": "espcn_x44"}, "Did you mean 'espcn_x4'?"),
            ({"model": "no/such.pth"}, "no network file"),
            ({"scale": 1000, "model": "espcn_x4"}, "30000 x 20000 pixels"),
        ]:
            assert words in refused(image, **asked), asked

    def test_a_file_that_is_none_is_one_sentence(self, tmp_path: Path) -> None:
        for given in (
            tmp_path / "none.png",
            "a\0.png",
            tmp_path,
            b"",
            b"no",
            io.BytesIO(b"x" * 99),
        ):
            with pytest.raises(EdgekeeperError):
                edgekeeper.upscale(given, model="espcn_x2")


class TestTheCallersNetwork:
    def test_one_in_training_is_not_touched_and_runs_in_threads(self) -> None:
        torch.manual_seed(0)
        network = SRResNet(scale=2, width=8, blocks=2).train()
        lr = torch.rand(1, 3, 12, 12)
        norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
        before = [m.running_mean.clone() for m in norms]
        want = edgekeeper.upscale(lr, model=network, precision="float32")
        torch.testing.assert_close(infer(network, lr), want, atol=1e-5, rtol=0)
        alone = infer(network, lr)
        with ThreadPoolExecutor(4) as pool:
            same = list(pool.map(lambda _: torch.equal(infer(network, lr), alone), range(40)))
            large = list(pool.map(lambda _: edgekeeper.upscale(lr, model=network), range(8)))
        assert all(same) and all(torch.equal(one, large[0]) for one in large)
        assert all(module.training for module in network.modules())
        assert all(torch.equal(a, m.running_mean) for a, m in zip(before, norms, strict=True))

    def test_its_weights_are_the_ones_that_run(self) -> None:
        network = ESPCN(scale=2).train()
        lr = torch.rand(1, 3, 6, 6)
        before = infer(network, lr)
        with torch.no_grad():
            for weight in network.parameters():
                weight.mul_(0.5)
        assert not torch.equal(infer(network, lr), before)
        assert all(weight.requires_grad for weight in network.parameters())

    def test_a_network_used_twice_is_one(self) -> None:
        class Twice(ESPCN):
            def __init__(self) -> None:
                super().__init__(scale=2)
                self.again = self.layers if hasattr(self, "layers") else nn.Identity()

        network = Twice().train()
        assert infer(network, torch.rand(1, 3, 6, 6)).shape == (1, 3, 12, 12)


class TestProcesses:
    def test_reading_and_enlarging_in_a_forked_process(self, tmp_path: Path) -> None:
        """Writing does not survive a fork, and says so instead of waiting for ever."""
        image = Image.from_numpy(samples())
        image.save(tmp_path / "a.png")
        if not hasattr(os, "fork"):
            pytest.skip("no fork here")
        with warnings.catch_warnings():  # Python's own, of threads and forks
            warnings.simplefilter("ignore")
            child = os.fork()
        if child == 0:
            status = 1
            try:
                read = np.array_equal(read_image(tmp_path / "a.png").pixels, image.pixels)
                try:
                    image.save(tmp_path / "b.png")
                except EdgekeeperError as error:
                    status = 0 if read and "spawn" in str(error) else 3
            finally:
                os._exit(status)
        ended = threading.Timer(20, os.kill, (child, 9))
        ended.start()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        ended.cancel()
        assert status == 0


class TestMeasures:
    def test_metrics_check_the_result_as_they_check_the_original(self) -> None:
        hr = torch.rand(1, 3, 32, 32)
        for wrong in (hr * 255, torch.full_like(hr, torch.nan), hr * torch.inf):
            for metric in (psnr, ssim):
                with pytest.raises(InputError, match=r"sr must lie in \[0, 1\]; it (reaches|has)"):
                    metric(wrong, hr, scale=2)
        assert psnr(hr * 1.5 - 0.2, hr, scale=2).isfinite()  # a network's output may overshoot

    def test_losses_warn_of_8_bits_at_once(self, monkeypatch) -> None:
        monkeypatch.setattr(losses_check, "_range_was_seen", False)
        hr = torch.rand(1, 3, 32, 32)
        for loss in (L1(), SSIM(), GradientVariance()):
            with pytest.warns(UserWarning, match="divide by 255"):
                loss(hr * 255, hr * 255)
        SSIM(data_range=255)(hr * 255, hr * 255)  # as declared
        L1()(hr, hr)  # right: from here on nothing is looked at
        L1()(hr * 255, hr * 255)

    def test_evaluate_takes_names(self, tmp_path: Path) -> None:
        image = Image.from_numpy(np.random.default_rng(0).integers(0, 255, (48, 48, 3), np.uint8))
        (tmp_path / "own").mkdir()
        image.save(tmp_path / "own" / "a.png")
        sets = [tmp_path / "own"]
        scores = edgekeeper.evaluate("espcn_x4", sets=sets)
        network = edgekeeper.load("espcn_x4")
        again = edgekeeper.evaluate(network, sets=sets)
        assert (scores[0].model, scores[0].scale) == ("espcn_x4", 4)
        assert (again[0].model, again[0].psnr) == ("ESPCN", scores[0].psnr)
        for subject, words in [
            ("espcn_x5", "Did you mean"),
            ("bicubic", "give scale"),
            (nn.Conv2d(3, 3, 1), "SRModel"),
        ]:
            with pytest.raises(InputError, match=words):
                edgekeeper.evaluate(subject, sets=sets)
        with pytest.raises(InputError, match="enlarges by 4, not by 2"):
            edgekeeper.evaluate("espcn_x4", sets=sets, scale=2)


def test_a_store_is_a_dataset(tmp_path: Path) -> None:
    from edgekeeper.data.dataset import Patches
    from edgekeeper.data.prepare import prepare_store, sources_in
    from edgekeeper.data.store import Store

    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        image = Image.from_numpy(rng.integers(0, 255, (48, 48, 3), np.uint8))
        image.save(tmp_path / "images" / f"{name}.png")
    prepare_store(sources_in(tmp_path / "images"), tmp_path / "store", scales=(2,))
    data = Patches(Store.open(tmp_path / "store"), length=6, patch=16, scale=2)
    lr, hr = data[3]
    assert (lr.shape, hr.shape, len(data)) == ((3, 8, 8), (3, 16, 16), 6)
    same = pickle.loads(pickle.dumps(data))
    assert torch.equal(same[3][1], hr)
    assert len(pickle.dumps(data)) < 2000  # its place, not its pixels
    loaded = torch.utils.data.DataLoader(data, batch_size=3)
    assert [len(batch[0]) for batch in loaded] == [3, 3]
    with pytest.raises(IndexError):
        data[6]
