import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from edgekeeper.data.catalogue import find_set
from edgekeeper.data.pairs import load_pairs
from edgekeeper.errors import DataError, InputError
from edgekeeper.evaluation.evaluate import evaluate, match_results
from edgekeeper.image import read_image, to_rgb_tensor
from edgekeeper.metrics import PROTOCOLS
from edgekeeper.metrics import psnr as psnr_of
from edgekeeper.metrics.score import Score, mean_scores
from edgekeeper.models.base import SRModel
from edgekeeper.ops.resize import imresize


class Bicubic(SRModel):
    """The interpolation as a network."""

    def __init__(self, *, scale: int) -> None:
        super().__init__()
        self.scale, self.channels, self.receptive_field = scale, "rgb", 2
        self.modes: list[bool] = []

    def forward(self, lr: Tensor) -> Tensor:
        self.modes.append(self.training)
        return imresize(lr, scale=self.scale, boundary="replicate", quantise="uint8")


class Overshooting(Bicubic):
    """Leaves the range of images."""

    def forward(self, lr: Tensor) -> Tensor:
        return 1.2 * super().forward(lr)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of three HR images, one of them of odd size."""
    folder = tmp_path / "mine"
    folder.mkdir()
    y, x = np.mgrid[:47, :50]
    for k, name in enumerate(("cat", "dog", "dogma")):
        planes = [128 + 90 * np.sin(0.2 * (k + c + 1) * x + 0.4 * y) for c in range(3)]
        Image.fromarray(np.stack(planes, -1).astype(np.uint8)).save(folder / f"{name}.png")
    return folder


def save(image: Tensor, path: Path) -> None:
    pixels = (image[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(path)


def numbers(scores: list[Score]) -> list[float]:
    return [number for s in scores for number in (s.psnr, s.ssim, s.gmsd, s.gv_gap)]


def test_a_network_the_interpolation_and_a_folder_agree(images: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()

    def keep(score: Score, result: Tensor) -> None:
        save(result, results / f"{score.image}_ours_x2.png")

    network = evaluate(Bicubic(scale=2), sets=[images], scale=2, data_root=".", on_image=keep)
    plain = evaluate("bicubic", sets=[images], scale=2, data_root=".")
    folder = evaluate(results, sets=[images], scale=2, data_root=".", model_name="ours")
    for scores in (network, plain, folder):
        assert [s.image for s in scores] == ["cat", "dog", "dogma"]
    assert numbers(network) == pytest.approx(numbers(plain))
    assert numbers(folder) == pytest.approx(numbers(plain))
    assert {(s.set, s.scale, s.protocol.name) for s in network} == {("mine", 2, "y_matlab")}
    assert (network[0].model, plain[0].model, folder[0].model) == ("Bicubic", "bicubic", "ours")
    assert (network[0].lr_kernel, folder[0].lr_kernel) == ("matlab_uint8", "unknown")


def test_the_network_runs_in_evaluation_mode_and_stays_as_it_was(images: Path) -> None:
    model = Bicubic(scale=2).train()
    evaluate(model, sets=[images], scale=2, data_root=".")
    assert model.modes == [False] * 3
    assert model.training


def test_clipping_is_up_to_the_protocol(images: Path) -> None:
    seen: list[float] = []

    def largest(score: Score, result: Tensor) -> None:
        seen.append(float(result.max()))

    model = Overshooting(scale=2)
    clipped, loose = (
        evaluate(model, sets=[images], scale=2, data_root=".", protocol=p, on_image=largest)
        for p in ("rgb_matlab", "gv_repo")
    )
    assert max(seen) > 1
    assert mean_scores(clipped)["psnr"] > mean_scores(loose)["psnr"]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_makes_its_own_lr(name: str, images: Path) -> None:
    score = evaluate("bicubic", sets=[images], scale=2, data_root=".", protocol=name)[0]
    expected = {"spsr_toolbox": "matlab_unrounded", "gv_repo": "pillow_bilinear"}
    assert score.lr_kernel == expected.get(name, "matlab_uint8")
    assert score.model == ("bilinear" if name == "gv_repo" else "bicubic")
    assert score.protocol == PROTOCOLS[name]


def test_several_sets_from_one_folder_of_folders(images: Path, tmp_path: Path) -> None:
    other = shutil.copytree(images, tmp_path / "Other")
    for inner, level in (("mine_x2", 1.0), ("other", 0.5)):
        (tmp_path / "results" / inner).mkdir(parents=True)
        for file in images.iterdir():
            image = Image.open(file).crop((0, 0, 50, 46))
            image.point(lambda v, level=level: v * level).save(
                tmp_path / "results" / inner / file.name
            )
    scores = evaluate(tmp_path / "results", sets=[images, other], scale=2, data_root=".")
    assert [s.set for s in scores] == ["mine"] * 3 + ["Other"] * 3
    assert all(s.psnr == float("inf") for s in scores[:3])
    assert all(s.psnr < 20 for s in scores[3:])


def test_wrong_subjects_are_refused(images: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="enlarges by 2, not by 3"):
        evaluate(Bicubic(scale=2), sets=[images], scale=3, data_root=".")
    with pytest.raises(InputError, match="no network 'bicubik'"):
        evaluate("bicubik", sets=[images], scale=2, data_root=".")
    with pytest.raises(InputError, match="Did you mean 'y_float'"):
        evaluate("bicubic", sets=[images], scale=2, data_root=".", protocol="y_flaot")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"'cat' has no file; 'dog' has no file"):
        evaluate(tmp_path / "empty", sets=[images], scale=2, data_root=".")
    # The results must be as large as the cropped HR image, 50x46.
    with pytest.raises(DataError, match=r"'cat': the result of mine is 50x47, .* is 50x46"):
        evaluate(images, sets=[images], scale=2, data_root=".")


def test_perceptual_metrics_are_measured_when_they_are_named(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGEKEEPER_DATA", raising=False)
    (plain, *_) = evaluate("bicubic", sets=[images], scale=2, data_root=".")
    assert plain.asked == ()
    asked = evaluate(
        "bicubic",
        sets=[images],
        scale=2,
        data_root=".",
        metrics=("psnr", "lpips", "pi"),
        weights=tmp_path,
    )
    assert [score.asked for score in asked] == [("lpips", "pi")] * 3
    assert asked[0].psnr == plain.psnr
    assert f"'{tmp_path}' does not hold it" in dict(asked[0].unavailable)["lpips"]
    with pytest.raises(InputError, match="Did you mean 'niqe'"):
        evaluate("bicubic", sets=[images], scale=2, data_root=".", metrics=("nique",))


def test_everything_is_looked_up_before_the_first_image(images: Path, tmp_path: Path) -> None:
    model = Bicubic(scale=2)
    with pytest.raises(DataError, match="There is no folder"):
        evaluate(model, sets=[images, tmp_path / "missing"], scale=2, data_root=".")
    assert model.modes == []


def paths(*names: str) -> list[Path]:
    return [Path("results") / name for name in names]


@pytest.mark.parametrize(
    "pattern",
    [
        "{}.png",
        "{}x4.png",
        "{}_RCAN_x4.png",
        "{}_SRF_4_HR.png",
        "{}-ours.webp",
        "x4_{}.PNG",
        "ESRGAN_{}_x4.png",
        "{}.x4.png",
    ],
)
def test_names_from_anywhere_are_matched(pattern: str) -> None:
    for label in ("set5", "set14"):
        names = find_set(label).names
        files = paths(*(pattern.format(name) for name in names))
        random.Random(1).shuffle(files)
        found = match_results(files, set_name=label, names=names, scale=4)
        assert found == {name: Path("results") / pattern.format(name) for name in names}


def test_numbers_stand_for_names_in_numbered_sets() -> None:
    names = find_set("set5").names
    files = paths(*(f"img_00{k}_SRF_4_HR.png" for k in (3, 1, 2, 5, 4)))
    found = match_results(files, set_name="Set5", names=names, scale=4)
    assert found["butterfly"].name == "img_003_SRF_4_HR.png"
    with pytest.raises(DataError, match="'baby' has no file"):
        match_results(files, set_name="my set", names=names, scale=4)
    found = match_results(
        paths("101087_x4.png", "101085.png"), set_name="bsd100", names=["101085", "101087"], scale=4
    )
    assert found["101085"].name == "101085.png"


def test_other_spellings() -> None:
    names = find_set("set14").names
    files = paths(
        *(f"{n}.png" for n in names if n not in ("lenna", "pepper")), "lena.png", "Peppers.png"
    )
    found = match_results(files, set_name="set14", names=names, scale=4)
    assert (found["lenna"].name, found["pepper"].name) == ("lena.png", "Peppers.png")


def test_another_scale_is_not_taken() -> None:
    files = paths("bird_x2.png", "bird_x4.png", "babyx2.png", "box2.png")
    found = match_results(files, set_name="mine", names=["bird", "box2"], scale=4)
    assert (found["bird"].name, found["box2"].name) == ("bird_x4.png", "box2.png")
    with pytest.raises(DataError, match=r"'baby' has no file.*no other scale than x4"):
        match_results(files, set_name="mine", names=["bird", "baby"], scale=4)


@pytest.mark.timeout(20)  # name by name it was more than twice as long
def test_many_names_are_matched_at_once() -> None:
    names = [f"img {number:05}" for number in range(5000)]
    files = [Path(f"a_{name}x4.png") for name in names]
    found = match_results(files, set_name="mine", names=names, scale=4)
    assert list(found.values()) == files


def test_ambiguous_and_missing_names_are_all_listed() -> None:
    files = paths("cat.png", "cat_ours.png", "dog_cow.png", "catalogue.png", "catx2b.png")
    with pytest.raises(DataError) as caught:
        match_results(files, set_name="mine", names=["cat", "dog", "cow", "emu"], scale=2)
    message = str(caught.value)
    assert "'cat' has 2 files (cat.png, cat_ours.png)" in message
    assert "'emu' has no file" in message
    assert "'dog_cow.png' fits several images" in message
    assert "catalogue" not in message


# Y-PSNR of bicubic, as the papers print it, on the public LR files.
BICUBIC = {
    "set5": {2: 33.64, 3: 30.39, 4: 28.42},
    "set14": {2: 30.31, 3: 27.63, 4: 26.09},
    "bsd100": {2: 29.55, 3: 27.20, 4: 25.96},
}
# x4, by an independent numpy script on LR rounded once at the end: PSNR, plain SSIM.
BICUBIC_ROUNDED_ONCE = {
    "set5": (28.4189, 0.8102),
    "set14": (26.0874, 0.7042),
    "bsd100": (25.9579, 0.6674),
}
# SPSR (CVPR 2020), Table 1, row Bicubic; four digits by the same script.
SPSR_BICUBIC = {"set5": (28.4197, 0.8245), "set14": (26.1001, 0.7850), "bsd100": (25.9614, 0.6675)}
# The input of the networks in the code of the gradient variance loss: Pillow bilinear.
GV_INPUT = {
    "set5": {2: (29.17, 0.8892), 3: (27.09, 0.8341), 4: (25.07, 0.7640)},
    "set14": {2: (26.41, 0.8093), 3: (24.73, 0.7367), 4: (23.19, 0.6597)},
}
LARGE = [pytest.param(label, marks=pytest.mark.slow) for label in ("set14", "bsd100")]


def means(subject: str | Path, label: str, root: Path, **settings: Any) -> tuple[float, float]:
    found = mean_scores(evaluate(subject, sets=[label], data_root=root, **settings))
    return found["psnr"], found["ssim"]


@pytest.mark.data
@pytest.mark.parametrize("label", ["set5", *LARGE])
def test_bicubic_as_the_papers_print_it(label: str, data_root: Path) -> None:
    for scale, expected in BICUBIC[label].items():
        found, _ = means("bicubic", label, data_root, scale=scale)
        assert found == pytest.approx(expected, abs=0.005)


@pytest.mark.data
@pytest.mark.parametrize("label", ["set5", *LARGE])
def test_bicubic_to_four_digits(label: str, data_root: Path) -> None:
    rounded_once = replace(
        PROTOCOLS["y_matlab"], name="rounded once", lr="matlab_float", baseline="bicubic"
    )
    for protocol, table in ((rounded_once, BICUBIC_ROUNDED_ONCE), ("spsr_toolbox", SPSR_BICUBIC)):
        found = means("bicubic", label, data_root, scale=4, protocol=protocol)
        assert found == pytest.approx(table[label], abs=6e-5)


@pytest.mark.data
@pytest.mark.parametrize("label", ["set5", LARGE[0]])
def test_input_of_the_gradient_variance_code(label: str, data_root: Path) -> None:
    for scale, expected in GV_INPUT[label].items():
        psnr, ssim = means("bicubic", label, data_root, scale=scale, protocol="gv_repo")
        assert psnr == pytest.approx(expected[0], abs=0.005)
        assert ssim == pytest.approx(expected[1], abs=5e-5)


@pytest.mark.data
def test_published_results_of_rcan(data_root: Path) -> None:
    # RCAN (ECCV 2018), Table 2, Set5: float luma as in most toolboxes.
    published = {2: (38.27, 0.9614), 3: (34.74, 0.9299), 4: (32.63, 0.9002)}
    for scale, (expected_psnr, expected_ssim) in published.items():
        psnr, ssim = means(
            data_root / "results" / "RCAN", "set5", data_root, scale=scale, protocol="y_float"
        )
        assert psnr == pytest.approx(expected_psnr, abs=0.005)
        assert ssim == pytest.approx(expected_ssim, abs=5e-5)


@pytest.mark.data
def test_results_of_esrgan(data_root: Path) -> None:
    # Images published with ESRGAN (Set14 comic and baboon); 20.97 and 20.32 dB are what an
    # independent script measured on them.
    folder = data_root / "results" / "ESRGAN_Set14_x4"
    pairs = {pair.name: pair for pair in load_pairs("set14", scale=4, root=data_root)}
    for name, expected in (("comic", 20.97), ("baboon", 20.32)):
        sr = to_rgb_tensor(read_image(folder / f"{name}.png"))
        found = psnr_of(sr, pairs[name].hr(), protocol="y_float", scale=4).item()
        assert found == pytest.approx(expected, abs=0.005)


@pytest.mark.data
def test_perceptual_numbers_of_published_results(data_root: Path) -> None:
    found = evaluate(
        data_root / "results" / "RCAN",
        sets=["set5"],
        scale=4,
        data_root=data_root,
        metrics=("lpips", "niqe", "pi"),
        weights=data_root / "weights",
    )
    means = mean_scores(found)
    interpolated = mean_scores(
        evaluate(
            "bicubic",
            sets=["set5"],
            scale=4,
            data_root=data_root,
            metrics=("lpips",),
            weights=data_root / "weights",
        )
    )
    assert 0 < means["lpips"] < 0.6 * interpolated["lpips"]
    assert all(score.niqe is not None for score in found)
    if not (data_root / "weights" / "model.mat").is_file():
        assert "pi" not in means
        assert "'model.mat'" in dict(found[0].unavailable)["pi"]


@pytest.mark.data
def test_a_wrongly_made_set_stops_the_run(data_root: Path, tmp_path: Path) -> None:
    made = tmp_path / "Set5" / "image_SRF_4"
    made.mkdir(parents=True)
    for pair in load_pairs("set5", scale=4, root=data_root, lr="pillow_bilinear"):
        shutil.copy(pair.hr_path, made)
        save(pair.lr(), made / pair.hr_path.name.replace("_HR", "_LR"))
    with pytest.raises(
        DataError, match=r"set5 ×4 is not the public set.*'baby'.*data check set5 --scale 4"
    ):
        evaluate("bicubic", sets=["Set5"], scale=4, data_root=tmp_path)
