"""Score a network, the interpolation, or a folder of results: one line of JSON per picture.

    scores = evaluate("bicubic", sets=["Set5"], scale=4, data_root=folder)
    write_scores(scores, "bicubic.jsonl")
"""

import json
import math
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from edgekeeper.data.degrade import make_lr
from edgekeeper.data.pairs import Pair, load_pairs
from edgekeeper.errors import DataError, InputError
from edgekeeper.infer import infer
from edgekeeper.io import list_pictures, read_picture, to_rgb_tensor
from edgekeeper.metrics import compare_variances, gmsd, gradient_psnr, psnr, ssim
from edgekeeper.metrics.canary import End, check_set
from edgekeeper.metrics.protocol import Protocol, find_protocol
from edgekeeper.models import SRModel
from edgekeeper.ops.resize import imresize, pillow_resize

METRICS: dict[str, Literal["highest", "lowest", "nearest 1"]] = {
    "psnr": "highest",
    "ssim": "highest",
    "gradient_psnr": "highest",
    "gv_ratio": "nearest 1",
    "gv_gap": "lowest",
    "gmsd": "lowest",
}
"""The numbers of a score, and which of them are good ones."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """The numbers of one picture, and the conditions they were measured under.

    psnr, gradient_psnr: dB, inf for equal pictures. gv_ratio, gv_gap: mean of the x and y
    direction, which follow under their own names. lr_kernel: how the LR picture was made;
    "unknown" for a folder of results.
    """

    set: str
    picture: str
    scale: int
    model: str
    protocol: Protocol
    lr_kernel: str
    psnr: float
    ssim: float
    gradient_psnr: float
    gv_ratio: float
    gv_gap: float
    gmsd: float
    gv_ratio_x: float
    gv_ratio_y: float
    gv_gap_x: float
    gv_gap_y: float

    def to_json(self) -> str:
        """One line of JSON; the protocol by name and in full, infinity as the string "inf"."""
        record = {
            key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }
        record["protocol"] = self.protocol.name
        record["protocol_in_full"] = self.protocol.to_json()
        return json.dumps(record, ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> "Score":
        """The score written by ``to_json``; a missing or unknown field is a DataError."""
        record: dict[str, Any] = json.loads(line)
        protocol = record.pop("protocol_in_full", {})
        expected = {field.name for field in fields(cls)}
        if record.keys() != expected:
            odd = ", ".join(sorted(record.keys() ^ expected))
            raise DataError(f"A line of scores lacks, or has too much of, the fields {odd}.")
        numbers = {key: float(record[key]) for key in expected if _is_number(key)}
        return cls(**{**record, **numbers, "protocol": Protocol.from_json(protocol)})


@dataclass(frozen=True, kw_only=True)
class SetMean:
    """Means over the pictures of one set, for one model, scale and protocol: a row of a table."""

    set: str
    scale: int
    model: str
    protocol: Protocol
    lr_kernel: str
    pictures: int
    means: dict[str, float]


def evaluate(
    subject: SRModel | str | Path,
    *,
    sets: Sequence[str],
    scale: int,
    data_root: str | Path,
    protocol: str | Protocol = "y_matlab",
    model_name: str | None = None,
    on_picture: Callable[[Score, Tensor], None] | None = None,
) -> list[Score]:
    """Scores of ``subject`` on every picture of ``sets``, in the order of the sets.

    subject: a network; the word "bicubic" (the protocol's own interpolation of the LR
        picture); or a folder of result pictures, which are matched to the set by name. For
        several sets it may hold one folder for each: ``Set5`` or ``Set5_x4``.
    model_name: what the scores are filed under; by default the network's class or the folder.
    on_picture: called after each picture with its score and the result (1, 3, H, W).

    Raises DataError for a wrongly made set, missing or ambiguous result files and sizes that
    differ, InputError for an unknown protocol or a network of another scale.
    """
    chosen = find_protocol(protocol)
    if isinstance(subject, SRModel) and subject.scale != scale:
        raise InputError(f"The network enlarges by {subject.scale}, not by {scale}.")
    scores = []
    for set_name in [sets] if isinstance(sets, str) else sets:
        pairs = load_pairs(set_name, scale=scale, root=Path(data_root))
        first, last = (End(pair.name, pair.hr(), pair.lr()) for pair in (pairs[0], pairs[-1]))
        check_set(set_name, scale=scale, pictures=len(pairs), ends=(first, last))
        source = _source(subject, set_name=set_name, pairs=pairs, scale=scale, protocol=chosen)
        for pair in pairs:
            result = source.make(pair)
            score = score_picture(
                result, pair.hr(), set_name=set_name, picture=pair.name, scale=scale,
                model=model_name or source.name, protocol=chosen, lr_kernel=source.lr_kernel,
            )  # fmt: skip
            scores.append(score)
            if on_picture is not None:
                on_picture(score, result)
    return scores


def score_picture(
    sr: Tensor,
    hr: Tensor,
    *,
    set_name: str,
    picture: str,
    scale: int,
    model: str,
    protocol: Protocol,
    lr_kernel: str,
) -> Score:
    """The score of one result (1, 3, H, W) against its HR picture, both in [0, 1].

    Raises DataError when the sizes differ.
    """
    if sr.shape != hr.shape:
        raise DataError(
            f"{set_name} '{picture}': the result of {model} is {_size(sr)}, the HR picture "
            f"(cropped to a multiple of {scale}) is {_size(hr)}. Both must be equal."
        )
    variances = compare_variances(sr, hr, protocol=protocol, scale=scale)
    return Score(
        set=set_name,
        picture=picture,
        scale=scale,
        model=model,
        protocol=protocol,
        lr_kernel=lr_kernel,
        psnr=psnr(sr, hr, protocol=protocol, scale=scale).item(),
        ssim=ssim(sr, hr, protocol=protocol, scale=scale).item(),
        gradient_psnr=gradient_psnr(sr, hr, protocol=protocol, scale=scale).item(),
        gv_ratio=variances.ratio.item(),
        gv_gap=variances.gap.item(),
        gmsd=gmsd(sr, hr, protocol=protocol, scale=scale).item(),
        gv_ratio_x=variances.ratio_x.item(),
        gv_ratio_y=variances.ratio_y.item(),
        gv_gap_x=variances.gap_x.item(),
        gv_gap_y=variances.gap_y.item(),
    )


def mean_scores(scores: Sequence[Score]) -> dict[str, float]:
    """The mean of each metric over ``scores``, which must share model, scale and protocol."""
    conditions = {(score.model, score.scale, score.protocol) for score in scores}
    if len(conditions) != 1:
        raise InputError(
            f"A mean is over the pictures of one model, scale and protocol; {len(conditions)} "
            "combinations were given. Use summarise for several."
        )
    return {
        metric: math.fsum(getattr(score, metric) for score in scores) / len(scores)
        for metric in METRICS
    }


def summarise(scores: Iterable[Score]) -> list[SetMean]:
    """One row of means for each model, set, scale, protocol and LR kernel, in order of coming up."""
    groups: dict[tuple[Any, ...], list[Score]] = {}
    for score in scores:
        key = (score.set, score.scale, score.model, score.protocol, score.lr_kernel)
        groups.setdefault(key, []).append(score)
    return [
        SetMean(
            set=group[0].set,
            scale=group[0].scale,
            model=group[0].model,
            protocol=group[0].protocol,
            lr_kernel=group[0].lr_kernel,
            pictures=len(group),
            means=mean_scores(group),
        )
        for group in groups.values()
    ]


def write_scores(scores: Iterable[Score], path: str | Path) -> None:
    """Nothing; writes one line of JSON per score to ``path``, whole or not at all."""
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        temporary.write_text("".join(f"{s.to_json()}\n" for s in scores), encoding="utf-8")
        temporary.replace(target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DataError(f"The scores cannot be written to '{target}': {error.strerror}.") from error


def read_scores(path: str | Path) -> list[Score]:
    """The scores in a file of ``write_scores``; DataError when it is missing or damaged."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"The scores '{path}' cannot be read: {error.strerror}.") from error
    return [Score.from_json(line) for line in lines if line.strip()]


@dataclass(frozen=True)
class _Source:
    """Where the results come from: a name, how LR was made, and a picture for each pair."""

    name: str
    lr_kernel: str
    make: Callable[[Pair], Tensor]


def _source(
    subject: SRModel | str | Path, *, set_name: str, pairs: Sequence[Pair], scale: int,
    protocol: Protocol,
) -> _Source:  # fmt: skip
    if isinstance(subject, SRModel):
        return _network(subject, scale=scale, protocol=protocol)
    if subject == "bicubic":
        return _interpolation(scale=scale, protocol=protocol)
    return _folder(Path(subject), set_name=set_name, pairs=pairs, scale=scale)


def _lr(pair: Pair, *, scale: int, protocol: Protocol) -> Tensor:
    if protocol.lr == "pillow_bilinear":
        return make_lr(pair.hr(), scale=scale, kernel="pillow_bilinear")
    return pair.lr()


def _network(model: SRModel, *, scale: int, protocol: Protocol) -> _Source:
    device = next((p.device for p in model.parameters()), None)

    def make(pair: Pair) -> Tensor:
        training = model.training
        model.eval()
        try:
            lr = _lr(pair, scale=scale, protocol=protocol).to(device)
            return infer(model, lr, clamp="none").cpu()
        finally:
            model.train(training)

    return _Source(type(model).__name__, protocol.lr, make)


def _interpolation(*, scale: int, protocol: Protocol) -> _Source:
    def make(pair: Pair) -> Tensor:
        if protocol.baseline == "bicubic_unrounded":
            return imresize(imresize(pair.hr(), scale=1 / scale), scale=scale)
        lr = _lr(pair, scale=scale, protocol=protocol)
        if protocol.baseline == "pillow_bilinear":
            size = (lr.shape[-2] * scale, lr.shape[-1] * scale)
            return pillow_resize(lr, size=size, method="bilinear")
        return imresize(lr, scale=scale)

    unrounded = protocol.baseline == "bicubic_unrounded"
    return _Source("bicubic", "matlab_unrounded" if unrounded else protocol.lr, make)


def _folder(folder: Path, *, set_name: str, pairs: Sequence[Pair], scale: int) -> _Source:
    if not folder.is_dir():
        raise InputError(
            f"'{folder}' is neither a folder of results nor the word 'bicubic' nor a network."
        )
    inner = [folder / set_name, folder / f"{set_name}_x{scale}"]
    found = next((candidate for candidate in inner if candidate.is_dir()), folder)
    files = match_results(
        list_pictures(found), set_name=set_name, names=[pair.name for pair in pairs], scale=scale
    )

    def make(pair: Pair) -> Tensor:
        return to_rgb_tensor(read_picture(files[pair.name]))

    return _Source(folder.name, "unknown", make)
