"""What is wrong with a test set: sizes, alignment, the kernel of its LR, copies in training data.

A wrongly made set moves every number by tenths of a decibel or more, and nothing else tells.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from edgekeeper.data.copies import Look, find_copies, look
from edgekeeper.data.degrade import LR_KERNELS, LrKernel, make_lr
from edgekeeper.data.pairs import Pair
from edgekeeper.errors import ImageError

FindingKind = Literal["unreadable", "size", "unaligned", "kernel", "copy"]

# Of 255 grey levels. Kernels differ by more than this, rounding by less.
SAME_LEVELS = 1


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, in a sentence."""

    kind: FindingKind
    image: str
    message: str


@dataclass(frozen=True)
class KernelMatch:
    """The kernel that comes nearest to how an LR image was made; differences are in levels."""

    image: str
    kernel: LrKernel
    largest: int
    mean: float


@dataclass(frozen=True)
class Report:
    """All findings about a set, and the nearest kernel of each stored LR image."""

    images: int
    findings: tuple[Finding, ...]
    kernels: tuple[KernelMatch, ...]

    def lines(self) -> list[str]:
        """Return the report as sentences to print."""
        counts = Counter((match.kernel, match.largest <= SAME_LEVELS) for match in self.kernels)
        lines = [f"{self.images} images checked, {len(self.findings)} findings."]
        for (kernel, exact), count in counts.most_common():
            how = "made by" if exact else "made by no known kernel, nearest"
            lines.append(f"{count} LR images {how} {kernel}.")
        return lines + [f"{finding.image}: {finding.message}" for finding in self.findings]


def check_set(
    pairs: Sequence[Pair], *, train: Sequence[Path] = (), lr_kernel: LrKernel = "matlab_uint8"
) -> Report:
    """Return the report on the test ``pairs``; LR should have been made by ``lr_kernel``.

    ``train``: files of training images in which copies of the test images are looked for.
    """
    findings: list[Finding] = []
    kernels: list[KernelMatch] = []
    for pair in pairs:
        found, match = _check_pair(pair, lr_kernel=lr_kernel)
        findings += found
        kernels += match
    findings += check_copies([pair.hr_path for pair in pairs], train) if train else []
    return Report(len(pairs), tuple(findings), tuple(kernels))


def _check_pair(pair: Pair, *, lr_kernel: LrKernel) -> tuple[list[Finding], list[KernelMatch]]:
    """Return what is wrong with one pair, and how its LR was made when a file holds it."""
    try:
        hr, lr = pair.hr(), pair.lr()
    except ImageError as error:
        return [Finding("unreadable", pair.name, str(error))], []
    expected = (hr.shape[-2] // pair.scale, hr.shape[-1] // pair.scale)
    if tuple(lr.shape[-2:]) != expected:
        message = (
            f"LR is {lr.shape[-1]}x{lr.shape[-2]}, but HR is {hr.shape[-1]}x{hr.shape[-2]} and "
            f"asks for {expected[1]}x{expected[0]} at scale {pair.scale}."
        )
        return [Finding("size", pair.name, message)], []
    if pair.lr_path is None:
        return [], []
    match = nearest_kernel(hr, lr, name=pair.name, scale=pair.scale)
    findings: list[Finding] = []
    if match.largest > SAME_LEVELS:
        down, right = shift(hr, lr, scale=pair.scale, kernel=match.kernel)
        if (down, right) != (0, 0):
            message = (
                f"LR does not lie over HR: it is moved by {down} rows and {right} columns of HR."
            )
            return [Finding("unaligned", pair.name, message)], [match]
    if match.largest > SAME_LEVELS or match.kernel != lr_kernel:
        findings.append(Finding("kernel", pair.name, _kernel_message(match, lr_kernel)))
    return findings, [match]


def nearest_kernel(hr: Tensor, lr: Tensor, *, name: str, scale: int) -> KernelMatch:
    """The kernel with the smallest mean difference between ``lr`` and what it makes of ``hr``."""
    matches = []
    for kernel in LR_KERNELS:
        levels = ((make_lr(hr, scale=scale, kernel=kernel) - lr) * 255).abs().round()
        matches.append(KernelMatch(name, kernel, int(levels.max()), float(levels.mean())))
    return min(matches, key=lambda match: match.mean)


def _kernel_message(match: KernelMatch, expected: LrKernel) -> str:
    size = f"largest difference {match.largest} of 255"
    if match.largest <= SAME_LEVELS:
        return f"LR was made by {match.kernel} ({size}), not by {expected}."
    mean = f"mean {match.mean:.2f}"
    return f"LR was made by no known kernel: nearest is {match.kernel} ({size}, {mean})."


def shift(
    hr: Tensor, lr: Tensor, *, scale: int, kernel: LrKernel = "matlab_uint8"
) -> tuple[int, int]:
    """Rows and columns of HR by which ``lr`` lies below and right of ``hr``, up to an LR pixel.

    It is that by which HR is moved before ``kernel`` makes the LR image most like ``lr``.
    """
    border = 4  # LR pixels that the moved image's other side may reach into
    if min(lr.shape[-2:]) <= 2 * border + 4:
        return 0, 0
    inner = (..., slice(border, -border), slice(border, -border))
    means: dict[tuple[int, int], float] = {}
    for down, right in product(range(-scale, scale + 1), repeat=2):
        moved = make_lr(torch.roll(hr, (down, right), dims=(-2, -1)), scale=scale, kernel=kernel)
        means[down, right] = float((moved - lr)[inner].abs().mean())
    best = min(means, key=lambda move: means[move])
    # A shift must explain the image clearly better than none does.
    return best if means[best] < 0.9 * means[0, 0] else (0, 0)


def check_copies(test: Sequence[Path], train: Sequence[Path]) -> list[Finding]:
    """A finding for each training image that shows a test image, and for unreadable files."""
    findings: list[Finding] = []
    looks: list[list[Look]] = []
    for files in (test, train):
        seen = []
        for path in files:
            try:
                seen.append(look(path))
            except ImageError as error:
                findings.append(Finding("unreadable", path.name, str(error)))
        looks.append(seen)
    for copy in find_copies(looks[0], looks[1]):
        what = {
            "same file": "is the same file as",
            "same image": "shows the same image as",
            "part": "shows a part of the same image as",
        }[copy.kind]
        message = (
            f"the training image '{copy.train}' {what} it (likeness {copy.likeness:.2f}); "
            "leave it out of training."
        )
        findings.append(Finding("copy", copy.test.name, message))
    return findings
