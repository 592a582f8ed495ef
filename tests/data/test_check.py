"""The check finds each thing that can be wrong with a set, and nothing in a right one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edgekeeper.data.check import check_set, shift
from edgekeeper.data.copies import (
    describe_squares,
    find_copies,
    look,
    part_likeness,
    symmetric_forms,
    symmetric_thumb,
)
from edgekeeper.data.degrade import LrKernel, make_lr, to_bytes
from edgekeeper.data.pairs import Pair, load_pairs


def scene(seed: int, *, height: int = 120, width: int = 160) -> Image.Image:
    """An image with structure at all sizes: noise with a spectrum that falls as 1 / f."""
    rng = np.random.default_rng(seed)
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    fall = 1 / np.maximum(np.hypot(fy, fx), 1 / max(height, width))
    planes = []
    for _ in range(3):
        plane = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((height, width))) * fall)
        planes.append(127 + 50 * (plane - plane.mean()) / plane.std())
    return Image.fromarray(np.stack(planes, -1).clip(0, 255).astype(np.uint8))


def tensor(opened: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(opened)).permute(2, 0, 1)[None] / 255


def to_pil(image: torch.Tensor) -> Image.Image:
    return Image.fromarray(to_bytes(image)[0].permute(1, 2, 0).numpy())


def pair(folder: Path, *, lr: torch.Tensor, seed: int = 0, scale: int = 4) -> Pair:
    scene(seed).save(folder / "hr.png")
    to_pil(lr).save(folder / "lr.png")
    return Pair("hr", scale, folder / "hr.png", folder / "lr.png")


@pytest.mark.parametrize(
    "kernel", ["matlab_uint8", "matlab_float", "pillow_bicubic", "pillow_bilinear", "box"]
)
def test_the_kernel_is_named(tmp_path: Path, kernel: LrKernel) -> None:
    lr = make_lr(tensor(scene(0)), scale=4, kernel=kernel)
    report = check_set([pair(tmp_path, lr=lr)], lr_kernel=kernel)
    assert not report.findings
    assert report.kernels[0].kernel == kernel and report.kernels[0].largest == 0
    assert report.lines()[1] == f"1 LR images made by {kernel}."
    other: LrKernel = "box" if kernel != "box" else "matlab_uint8"
    report = check_set([pair(tmp_path, lr=lr)], lr_kernel=other)
    assert [finding.kind for finding in report.findings] == ["kernel"]
    assert f"made by {kernel} (largest difference 0" in report.findings[0].message


def test_an_unknown_kernel_is_called_so(tmp_path: Path) -> None:
    lr = scene(0).resize((40, 30), Image.Resampling.LANCZOS)
    report = check_set([pair(tmp_path, lr=tensor(lr))])
    assert [finding.kind for finding in report.findings] == ["kernel"]
    assert "made by no known kernel: nearest is" in report.findings[0].message
    assert "made by no known kernel, nearest" in report.lines()[1]


@pytest.mark.parametrize("move", [(0, 2), (-3, 0), (4, -4), (1, 1)])
def test_a_moved_lr_is_found_with_its_shift(tmp_path: Path, move: tuple[int, int]) -> None:
    hr = tensor(scene(0))
    moved = torch.roll(hr, move, dims=(-2, -1))
    lr = make_lr(moved, scale=4, kernel="matlab_uint8")
    assert shift(hr, lr, scale=4) == move
    report = check_set([pair(tmp_path, lr=lr)])
    assert [finding.kind for finding in report.findings] == ["unaligned"]
    assert f"moved by {move[0]} rows and {move[1]} columns" in report.findings[0].message


@pytest.mark.parametrize("kernel", ["box", "pillow_bilinear", "matlab_float"])
def test_a_kernel_alone_is_no_shift(kernel: LrKernel) -> None:
    for scale in (2, 3, 4):
        hr = tensor(scene(scale))[..., :, :159]
        hr = hr[..., : hr.shape[-1] // scale * scale]
        assert shift(hr, make_lr(hr, scale=scale, kernel=kernel), scale=scale) == (0, 0)


def test_what_no_shift_explains_is_no_shift() -> None:
    other = torch.rand(1, 3, 30, 40, generator=torch.Generator().manual_seed(0))
    assert shift(tensor(scene(0)), other, scale=4) == (0, 0)
    assert shift(tensor(scene(0, height=40, width=40)), other[..., :10, :10], scale=4) == (0, 0)


def test_wrong_sizes_and_unreadable_files(tmp_path: Path) -> None:
    wrong = pair(tmp_path, lr=torch.zeros(1, 3, 30, 41))
    report = check_set([wrong])
    assert [finding.kind for finding in report.findings] == ["size"]
    assert "asks for 40x30" in report.findings[0].message
    (tmp_path / "lr.png").write_bytes(b"no image")
    assert [finding.kind for finding in check_set([wrong]).findings] == ["unreadable"]
    made = Pair("made", 4, tmp_path / "hr.png", None)
    report = check_set([made], train=[tmp_path / "lr.png"])
    assert [finding.kind for finding in report.findings] == ["unreadable"]
    assert report.kernels == ()


def test_copies_of_every_kind_are_found_and_others_are_not(tmp_path: Path) -> None:
    original = scene(1, height=240, width=320)
    original.save(tmp_path / "test.png")
    kinds = {
        "jpeg": original,
        "small": original.resize((80, 60), Image.Resampling.BILINEAR),
        "flipped": original.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        "turned": original.transpose(Image.Transpose.ROTATE_90),
        "grey": original.convert("L"),
        "crop": original.crop((40, 20, 240, 170)),
    }
    for name, copy in kinds.items():
        copy.save(tmp_path / f"{name}.jpg", quality=40)
    (tmp_path / "same.png").write_bytes((tmp_path / "test.png").read_bytes())
    for n in range(6):
        scene(10 + n, height=240, width=320).save(tmp_path / f"other{n}.jpg")
    train = sorted(path for path in tmp_path.iterdir() if path.name != "test.png")
    copies = find_copies([look(tmp_path / "test.png")], [look(path) for path in train])
    found = {copy.train.stem: copy.kind for copy in copies}
    same = dict.fromkeys(["jpeg", "small", "flipped", "turned", "grey"], "same image")
    assert found == same | {"crop": "part", "same": "same file"}
    report = check_set([Pair("test", 2, tmp_path / "test.png", None)], train=train)
    assert {finding.kind for finding in report.findings} == {"copy"}
    assert len(report.findings) == 7
    # The part is found from either side.
    whole, crop = look(tmp_path / "test.png"), look(tmp_path / "crop.jpg")
    assert part_likeness(crop, whole) > 0.95
    assert [copy.kind for copy in find_copies([crop], [whole])] == ["part"]


def test_symmetric_forms_are_those_of_the_turned_image() -> None:
    thumb = torch.rand(96, 96, generator=torch.Generator().manual_seed(0))
    forms = symmetric_forms(describe_squares(thumb[None]))[:, 0]
    for form in range(8):
        turned = describe_squares(symmetric_thumb(thumb, form)[None])[0]
        assert torch.allclose(forms[form], turned, atol=1e-5)


def test_nothing_to_compare_is_no_copy() -> None:
    assert find_copies([], []) == []


@pytest.mark.data
def test_published_sets_are_right_and_a_known_copy_is_found(data_root: Path) -> None:
    for scale in (2, 3, 4):
        report = check_set(load_pairs("set5", scale=scale, root=data_root))
        assert not report.findings and all(match.largest == 0 for match in report.kernels)
    train = data_root / "train" / "BSDS500_train"
    others = [train / name for name in ("100075.jpg", "12003.jpg", "299091.jpg")]
    report = check_set(
        load_pairs("set5", scale=2, root=data_root), train=[*others, train / "302003.jpg"]
    )
    # Set5's "woman" is a training image of BSDS500.
    assert [finding.image for finding in report.findings] == ["img_005_SRF_2_HR.png"]
