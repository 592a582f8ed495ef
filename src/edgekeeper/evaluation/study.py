"""A blind preference study: one HTML file for participants, one key for whoever analyses it."""

import base64
import json
import math
import secrets
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyvips
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from edgekeeper.errors import DataError, InputError
from edgekeeper.evaluation.evaluate import input_results, results
from edgekeeper.image import from_tensor
from edgekeeper.metrics.perceptual import measure_perceptual
from edgekeeper.metrics.psnr import psnr
from edgekeeper.metrics.risk import structure_risk
from edgekeeper.models import SRModel
from edgekeeper.ops.box import Box
from edgekeeper.ops.resize import imresize

# What attention checks show: the original beside the interpolated image, or stand-ins for both
ORIGINAL, BICUBIC = "original", "bicubic"
Ask = Literal["pairs", "rankings"]
Crops = Literal["random", "worst", "differ"]

# What answers are compared with, and whether more (1) or less (-1) of it is better
STUDY_MEASURES = {"psnr": 1, "lpips": -1, "risk": -1}
_REPEATED = 0.1  # share of the pairs that come twice, sides exchanged

_BLUR = 4  # factor by which a stand-in for bicubic is made smaller and larger again


def make_study(
    subjects: Mapping[str, SRModel | str | Path],
    *,
    sets: Sequence[str | Path] = (),
    inputs: str | Path | None = None,
    scale: int,
    data_root: str | Path = ".",
    question: str = "",
    ask: Ask = "pairs",
    crops: Crops = "random",
    side: int = 192,
    checks: int = 3,
    seed: int = 0,
    weights: str | Path | None = None,
) -> tuple[str, dict[str, Any]]:
    """Return the page that asks about every image, and the key to it.

    Asked is ``question``, or what they prefer, in their language; for all pairs of subjects or, of
    "rankings", for the order of all of them. Shown is a square of ``side`` pixels at a place drawn
    by ``seed``, of "differ" where the results differ most, or of "worst" where the error of one
    subject, each in its turn, most exceeds the others'. Each subject stands in each place equally
    often, and the page exchanges the sides for every second participant; one question in ten comes
    twice; ``checks`` pairs show the original beside bicubic. Nothing in the page names a subject or
    an image, and each part of the files of a question is as long. The key has PSNR, structure risk
    and, with its weights, LPIPS of what is shown.

    ``inputs``: a folder of images to enlarge in place of ``sets``, where nobody has originals.
    Then checks show a result of the first subject beside itself blurred. Result folders alone
    need only the names in ``inputs``, and scale 1 where their images are no LR images.
    Raises InputError: fewer than two subjects, more than nine to be ranked, "worst" without
    originals; those of ``evaluate``.
    """
    if len(subjects) < 2 or (ask == "rankings" and len(subjects) > 9):
        raise InputError("A study compares two subjects or more, and ranks nine at most.")
    if ORIGINAL in subjects:
        raise InputError(f"'{ORIGINAL}' is what attention checks show; rename that subject.")
    rng = np.random.Generator(np.random.Philox(seed))
    tokens: dict[str, dict[str, Any]] = {}
    images: dict[str, str] = {}

    def shown(image: Tensor, box: Box, *, name: str, of: str) -> str:
        token = secrets.token_hex(6)
        tokens[token] = {"method": name, "image": of}
        images[token] = _packed(box.cut(image).float())
        return token

    if inputs is not None and crops == "worst":
        raise InputError("Without originals no place is the worst: take 'differ' or 'random'.")
    trials: list[tuple[str, ...]] = []
    tests: list[tuple[str, ...]] = []
    parts = _results(subjects, sets=sets, inputs=inputs, scale=scale, data_root=data_root)
    for number, (of, hr, lr, made) in enumerate(parts):
        box = _place(number, hr, made, scale, side=side, crops=crops, rng=rng)
        mine = []
        for name, image in zip(subjects, made, strict=True):
            mine.append(shown(image, box, name=name, of=of))
            of_lr = None if lr is None or scale == 1 else _shrunk(box, scale).cut(lr).float()
            of_hr, of_sr = None if hr is None else box.cut(hr).float(), box.cut(image).float()
            tokens[mine[-1]]["measures"] = _measures(
                of_sr, of_hr, of_lr, scale=scale, weights=weights
            )
        if ask == "rankings":  # a Latin square: each subject stands in each place equally often
            trials.append(tuple(mine[(number + k) % len(mine)] for k in range(len(mine))))
        else:
            trials += [
                (mine[i], mine[j]) if (number + i + j) % 2 else (mine[j], mine[i])
                for i, j in combinations(range(len(mine)), 2)
            ]
        if len(tests) < checks:
            clear, poor = _check(hr, lr, made[0])
            both = [shown(clear, box, name=ORIGINAL, of=of), shown(poor, box, name=BICUBIC, of=of)]
            tests.append((both[number % 2], both[1 - number % 2]))
    again = rng.permutation(len(trials))[: max(1, round(_REPEATED * len(trials)))]
    everything = [*trials, *(trials[k][::-1] for k in again), *tests]
    study = {
        "id": secrets.token_hex(4),
        "question": question,
        "trials": [
            {"images": one} if len(one) > 2 else {"left": one[0], "right": one[1]}
            for one in everything
        ],
        "images": {token: images[token] for token in sorted(images)},
    }
    page = Path(__file__).with_name("study.html").read_text(encoding="utf-8")
    packed = json.dumps(study).replace("<", "\\u003c")
    key = {"study": study["id"], "methods": list(subjects), "tokens": tokens}
    return page.replace("/*STUDY*/null", packed), key


def _results(
    subjects: Mapping[str, SRModel | str | Path],
    *,
    sets: Sequence[str | Path],
    inputs: str | Path | None,
    scale: int,
    data_root: str | Path,
) -> Iterator[tuple[str, Tensor | None, Tensor | None, list[Tensor]]]:
    """Give of each image its name, the original, the LR image and what the subjects made of it."""
    if inputs is not None:
        found = [input_results(one, inputs=inputs, scale=scale) for one in subjects.values()]
        for made in zip(*found, strict=True):
            images, lr = [image for _, image in made], made[0][0].lr()
            _check_sizes(images, name=made[0][0].name)
            fits = images[0].shape[-2:] == (scale * lr.shape[-2], scale * lr.shape[-1])
            yield made[0][0].name, None, lr if fits else None, images
        return
    runs = [results(one, sets=sets, scale=scale, data_root=data_root) for one in subjects.values()]
    for made in zip(*runs, strict=True):
        pair, images = made[0].pair, [one.image for one in made]
        hr, name = pair.hr(), f"{made[0].set}/{pair.name}"
        _check_sizes([hr, *images], name=name)
        yield name, hr, pair.lr(), images


def _check_sizes(images: Sequence[Tensor], *, name: str) -> None:
    """Raise DataError unless all that is shown of an image is of one size."""
    sizes = sorted({f"{image.shape[-1]}x{image.shape[-2]}" for image in images})
    if len(sizes) > 1:
        raise DataError(f"What there is of '{name}' differs in size: {', '.join(sizes)} pixels.")


def _check(hr: Tensor | None, lr: Tensor | None, result: Tensor) -> tuple[Tensor, Tensor]:
    """Return what everybody prefers, and what nobody does."""
    if hr is not None and lr is not None:
        return hr, imresize(lr, size=(hr.shape[-2], hr.shape[-1]))
    height, width = result.shape[-2:]
    small = imresize(result, size=(max(1, height // _BLUR), max(1, width // _BLUR)))
    return result, imresize(small, size=(height, width))


def _shrunk(box: Box, scale: int) -> Box:
    return Box(box.top // scale, box.left // scale, box.height // scale, box.width // scale)


def _place(
    number: int,
    hr: Tensor | None,
    results: Sequence[Tensor],
    scale: int,
    *,
    side: int,
    crops: Crops,
    rng: np.random.Generator,
) -> Box:
    """Return the square to show of the image ``number``, on the grid of the LR pixels."""
    high, wide = (n // scale for n in results[0].shape[-2:])
    height, width = (min(max(1, side // scale), n) for n in (high, wide))
    if crops == "random":
        top, left = int(rng.integers(high - height + 1)), int(rng.integers(wide - width + 1))
    else:
        images = torch.cat(list(results)).float()  # (subjects, 3, H, W)
        if crops == "worst":
            assert hr is not None
            errors = (images - hr).square()
            turn = number % len(images)
            excess = errors[turn] - (errors.sum(dim=0) - errors[turn]) / (len(images) - 1)
        else:
            excess = images.var(dim=0)
        excess = avg_pool2d(excess.mean(dim=0)[None, None], scale)  # (1, 1, h, w)
        found = avg_pool2d(excess, (height, width), stride=1)
        top, left = divmod(int(found.argmax()), found.shape[-1])
    return Box(top * scale, left * scale, height * scale, width * scale)


def _measures(
    sr: Tensor, hr: Tensor | None, lr: Tensor | None, *, scale: int, weights: str | Path | None
) -> dict[str, float]:
    """Return those of ``STUDY_MEASURES`` that can be taken of what is shown."""
    values = {}
    if hr is not None:
        values = {"psnr": psnr(sr, hr, scale=scale).item()}
        values |= measure_perceptual(sr, hr, metrics=("lpips",), folder=weights).values
    if lr is not None and min(lr.shape[-2:]) >= 8:
        values["risk"] = structure_risk(lr, sr, scale=scale).score.item()
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _packed(image: Tensor) -> str:
    """Return the address of an image (1, 3, h, w) as a PNG whose parts are as long for any image.

    Sharper results compress less, so nothing is compressed: filling the others up would tell by
    how much.
    """
    pixels = pyvips.Image.new_from_array(from_tensor(image))
    png = pixels.pngsave_buffer(keep="none", compression=0, filter="none")
    return "data:image/png;base64," + base64.b64encode(png).decode()
