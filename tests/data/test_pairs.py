"""Pairs: the three layouts, and what is wrong with a folder said in a sentence."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edgekeeper.data.degrade import make_lr
from edgekeeper.data.pairs import load_pairs
from edgekeeper.errors import DataError, InputError


def save(path: Path, *, height: int, width: int, seed: int = 0, grey: bool = False) -> None:
    shape = (height, width, *(() if grey else (3,)))
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def selfexsr(folder: Path, *, scale: int, count: int, side: int = 12) -> None:
    for n in range(1, count + 1):
        name = f"image_SRF_{scale}/img_{n:03d}_SRF_{scale}"
        save(folder / f"{name}_HR.png", height=side, width=side, seed=n)
        save(folder / f"{name}_LR.png", height=side // scale, width=side // scale, seed=100 + n)


def test_plain_folder_makes_lr_and_repeats_grey(tmp_path: Path) -> None:
    save(tmp_path / "own" / "b.png", height=14, width=17)
    save(tmp_path / "own" / "a.png", height=12, width=12, grey=True)
    (tmp_path / "own" / "notes.txt").write_text("not an image")
    pairs = load_pairs(tmp_path / "own", scale=3)
    assert [pair.name for pair in pairs] == ["a", "b"]
    assert pairs[0].hr().shape == (1, 3, 12, 12)
    assert torch.equal(pairs[0].hr()[:, 0], pairs[0].hr()[:, 2])
    stored = torch.from_numpy(np.array(Image.open(tmp_path / "own" / "b.png")))
    hr = stored.permute(2, 0, 1)[None, :, :12, :15] / 255
    assert torch.equal(pairs[1].hr(), hr)
    assert torch.equal(pairs[1].lr(), make_lr(hr, scale=3, kernel="matlab_uint8"))
    other = load_pairs(str(tmp_path / "own"), scale=3, lr="pillow_bilinear")[1]
    assert torch.equal(other.lr(), make_lr(hr, scale=3, kernel="pillow_bilinear"))


def test_selfexsr_layout_gives_the_stored_lr_and_the_usual_names(tmp_path: Path) -> None:
    selfexsr(tmp_path / "benchmarks" / "Set5", scale=4, count=5)
    pairs = load_pairs("Set5", scale=4, root=tmp_path)
    assert [pair.name for pair in pairs] == ["baby", "bird", "butterfly", "head", "woman"]
    lr = pairs[2].lr_path
    assert lr is not None and lr.name == "img_003_SRF_4_LR.png"
    stored = torch.from_numpy(np.array(Image.open(lr))).permute(2, 0, 1)[None] / 255
    assert torch.equal(pairs[2].lr(), stored)
    made = load_pairs("set5", scale=4, root=tmp_path, lr="matlab_float")[2]
    assert torch.equal(made.lr(), make_lr(made.hr(), scale=4, kernel="matlab_float"))


def test_a_set_is_found_in_a_folder_of_sets_and_must_be_whole(tmp_path: Path) -> None:
    selfexsr(tmp_path / "Set5", scale=2, count=4)
    with pytest.raises(DataError, match=r"holds 4 images at scale 2; Set5 .* has 5"):
        load_pairs("set5", scale=2, root=tmp_path)
    with pytest.raises(DataError, match="is not at"):
        load_pairs("set14", scale=2, root=tmp_path)
    (tmp_path / "Set5" / "image_SRF_2" / "img_002_SRF_2_LR.png").unlink()
    with pytest.raises(DataError, match="no LR image beside it"):
        load_pairs("set5", scale=2, root=tmp_path)
    with pytest.raises(DataError, match="holds no images named"):
        load_pairs("set5", scale=3, root=tmp_path)


def test_urban100_takes_hr_of_one_scale_for_all(tmp_path: Path) -> None:
    selfexsr(tmp_path / "Urban100", scale=4, count=100, side=8)
    selfexsr(tmp_path / "Urban100", scale=2, count=100, side=4)  # the half-size trap
    pairs = load_pairs("urban100", scale=2, root=tmp_path)
    assert pairs[0].hr().shape == (1, 3, 8, 8)
    assert pairs[0].lr().shape == (1, 3, 4, 4)
    assert pairs[0].lr_path is None


@pytest.mark.parametrize("index", ["file", "none"])
def test_separate_hr_folder_with_index(tmp_path: Path, index: str) -> None:
    for n, name in enumerate(["10.jpg", "9.jpg"], start=1):
        save(tmp_path / "HR" / name, height=9, width=10, seed=n)
        save(tmp_path / "image_SRF_3" / f"img_{n:03d}_SRF_3_LR.png", height=3, width=3)
    if index == "file":
        rows = "lr_name,hr_file\nimg_001,9.jpg\nimg_002,10.jpg\n"
        (tmp_path / "index.csv").write_text(rows)
    pairs = load_pairs(tmp_path, scale=3)
    assert [pair.name for pair in pairs] == (["9", "10"] if index == "file" else ["10", "9"])
    assert [pair.lr_path.name[:7] for pair in pairs if pair.lr_path] == ["img_001", "img_002"]
    assert pairs[0].hr().shape == (1, 3, 9, 9)
    assert load_pairs(tmp_path, scale=2)[0].lr_path is None
    (tmp_path / "image_SRF_3" / "img_002_SRF_3_LR.png").unlink()
    with pytest.raises(DataError, match="has no LR image at scale 3"):
        load_pairs(tmp_path, scale=3)
    (tmp_path / "index.csv").write_text("lr_name,hr_file\nimg_001,none.jpg\n")
    with pytest.raises(DataError, match="must have the columns"):
        load_pairs(tmp_path, scale=3)


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Did you mean 'set14'"):
        load_pairs("set-14", scale=2, root=tmp_path)
    for wrong in (1, 2.5):
        with pytest.raises(InputError, match=f"scale is {wrong}"):
            load_pairs("set5", scale=wrong, root=tmp_path)
    with pytest.raises(DataError, match="no folder"):
        load_pairs(tmp_path / "none", scale=2)
    with pytest.raises(DataError, match="holds no images"):
        load_pairs(tmp_path, scale=2)


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder, other in (("own", "a.bmp"), ("HR", "a.ppm"), ("pair/HR", "A_HR.png")):
        for name in ("a.png", other):
            save(tmp_path / folder / name, height=12, width=12)
    save(tmp_path / "pair" / "LR" / "a.png", height=6, width=6)
    for folder in ("own", ".", "pair"):
        with pytest.raises(DataError, match="are both called 'a'"):
            load_pairs(tmp_path / folder, scale=2)


@pytest.mark.data
@pytest.mark.parametrize(("name", "count"), [("set5", 5), ("set14", 14), ("bsd100", 100)])
def test_published_sets_load(data_root: Path, name: str, count: int) -> None:
    for scale in (2, 3, 4):
        pairs = load_pairs(name, scale=scale, root=data_root)
        assert len(pairs) == count
        last = pairs[-1]
        assert last.hr().shape[-1] == scale * last.lr().shape[-1]
    if name == "bsd100":
        assert pairs[0].name == "101085"
        csv = (data_root / "benchmarks" / "BSD100" / "index.csv").read_text().splitlines()[1:]
        # Without index.csv the order of names pairs them; it is the same here.
        assert [row.split(",")[1] for row in csv] == sorted(row.split(",")[1] for row in csv)


@pytest.mark.parametrize(
    ("high", "low", "names"),
    [
        ("HR", "LR", ("a.png", "a.png")),
        ("GT", "LQ", ("a.png", "a.png")),
        ("HR", "LR_bicubic/X4", ("0801.png", "0801x4.png")),
        ("DIV2K_valid_HR", "DIV2K_valid_LR_bicubic/X4", ("0801.png", "0801x4.png")),
        ("hr", "lr/x4", ("a_HR.png", "a_LR.png")),
        (".", "LR", ("a.png", "a.png")),
    ],
)
def test_lr_images_of_one_s_own_folder_are_used(
    tmp_path: Path, high: str, low: str, names: tuple[str, str]
) -> None:
    save(tmp_path / high / names[0], height=12, width=16)
    save(tmp_path / low / names[1], height=3, width=4, seed=1)
    (pair,) = load_pairs(tmp_path, scale=4)
    assert (pair.lr_path, pair.lr_kernel) == (tmp_path / low / names[1], "own files")
    stored = torch.from_numpy(np.array(Image.open(tmp_path / low / names[1])))
    assert torch.equal(pair.lr(), stored.permute(2, 0, 1)[None] / 255)
    (elsewhere,) = load_pairs(tmp_path / high, scale=4, lr_folder=tmp_path / low)
    assert elsewhere.lr_path == pair.lr_path


def test_lr_images_are_refused_rather_than_passed_over(tmp_path: Path) -> None:
    save(tmp_path / "HR" / "a.png", height=12, width=16)
    save(tmp_path / "LR" / "X2" / "a.png", height=6, width=8)
    with pytest.raises(DataError, match="has no LR images for scale 4, only x2"):
        load_pairs(tmp_path, scale=4)
    with pytest.raises(DataError, match="protocol makes LR by 'pillow_bilinear'"):
        load_pairs(tmp_path, scale=2, lr="pillow_bilinear")
    save(tmp_path / "LR" / "X2" / "b.png", height=6, width=8)
    with pytest.raises(DataError, match=r"b\.png' is one of 1 HR and 2 LR images"):
        load_pairs(tmp_path, scale=2)
    with pytest.raises(DataError, match=r"no folder .*nowhere' of LR images"):
        load_pairs(tmp_path / "HR", scale=2, lr_folder=tmp_path / "nowhere")
