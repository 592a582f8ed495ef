"""Score a network, the interpolation, or a folder of results: one score per image.

scores = evaluate("espcn_x4", sets=["Set5"], data_root=folder)
write_scores(scores, "bicubic.jsonl")
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from edgekeeper.data.pairs import Pair, by_name, load_pairs
from edgekeeper.errors import DataError, InputError
from edgekeeper.image import list_images, read_image, to_rgb_tensor
from edgekeeper.inference.network import infer
from edgekeeper.metrics.canary import End, check_canary
from edgekeeper.metrics.protocol import Protocol, find_protocol
from edgekeeper.metrics.score import METRICS, Score, find_metrics, score_image
from edgekeeper.models import SRModel
from edgekeeper.ops.resize import imresize, pillow_resize
from edgekeeper.pretrained.zoo import check_named, load_network

# Sets that are published under numbers (img_001, in alphabetical order) as well as names.
NUMBERED = ("set5", "set14", "bsd100")
OTHER_SPELLINGS = {"lenna": "lena", "pepper": "peppers", "ppt3": "ppt", "coastguard": "coast_guard"}


def evaluate(
    subject: SRModel | str | Path,
    *,
    sets: Sequence[str | Path],
    scale: int | None = None,
    data_root: str | Path | None = None,
    protocol: str | Protocol = "y_matlab",
    metrics: Sequence[str] = tuple(METRICS),
    weights: str | Path | None = None,
    model_name: str | None = None,
    on_image: Callable[[Score, Tensor], None] | None = None,
) -> list[Score]:
    """Scores of ``subject`` on every image of ``sets``, in the order of the sets.

    subject: a network, its name or its file; the word "bicubic" (the protocol's own interpolation);
    or a folder of result images, matched to the set by name, which may hold one folder for each
    set: ``Set5`` or ``Set5_x4``. sets: sets of the catalogue below ``data_root`` (by default
    EDGEKEEPER_DATA), or folders of one's own. scale: by default the network's. metrics: those of
    ``METRICS`` are always measured, those of ``PERCEPTUAL`` when named; where one is unavailable,
    the score has the reason. weights: the folder of their files. model_name: what the scores are
    filed under.
    on_image: called after each image with its score and the result (1, 3, H, W).

    Raises DataError for a wrongly made set, missing or ambiguous results and sizes that differ.
    """
    asked = find_metrics(metrics)
    scores = []
    for result in results(
        subject,
        sets=sets,
        scale=scale,
        data_root=data_root,
        protocol=protocol,
        model_name=model_name,
    ):
        score = score_result(result, result.pair.hr(), metrics=asked, weights=weights)
        scores.append(score)
        if on_image is not None:
            on_image(score, result.image)
    return scores


@dataclass(frozen=True)
class PairResult:
    """What a subject made of a pair: ``image`` (1, 3, H, W), and the conditions of its score."""

    set: str
    pair: Pair
    image: Tensor
    model: str
    protocol: Protocol
    lr_kernel: str


def results(
    subject: SRModel | str | Path,
    *,
    sets: Sequence[str | Path],
    scale: int | None = None,
    data_root: str | Path | None = None,
    protocol: str | Protocol = "y_matlab",
    model_name: str | None = None,
    lr_folder: str | Path | None = None,
) -> Iterator[PairResult]:
    """The images of ``subject`` one by one, not scored; arguments and errors as ``evaluate``.

    All sets and result files are looked up before the first image is made. ``lr_folder``: the LR
    images of the one set, where they do not lie in its folder. Raises InputError.
    """
    chosen = find_protocol(protocol)
    root = os.environ.get("EDGEKEEPER_DATA", ".") if data_root is None else data_root
    found = find_subject(subject, scale=scale)
    if isinstance(found, SRModel):
        if scale not in (None, found.scale):
            raise InputError(f"The network enlarges by {found.scale}, not by {scale}.")
        scale = found.scale
        if found is not subject:
            model_name = model_name or Path(str(subject)).stem
    if scale is None:
        raise InputError("Neither bicubic nor a folder says its scale: give scale=2, 3 or 4.")
    prepared = []
    for given in [sets] if isinstance(sets, str | Path) else sets:
        own_folder = isinstance(given, Path) or "/" in given or "\\" in given
        label = Path(given).resolve().name if own_folder else str(given).lower()
        pairs = load_pairs(given, scale=scale, root=root, lr=chosen.lr, lr_folder=lr_folder)
        if pairs[0].lr_kernel != "own files":
            _check_set(given, label=label, scale=scale, root=root)
        source = _source(found, label=label, pairs=pairs, protocol=chosen)
        prepared.append((label, pairs, source))
    return (
        PairResult(
            set=label,
            pair=pair,
            image=source.make(pair),
            model=model_name or source.name,
            protocol=chosen,
            lr_kernel=source.lr_kernel or pair.lr_kernel,
        )
        for label, pairs, source in prepared
        for pair in pairs
    )


def input_results(
    subject: SRModel | str | Path, *, inputs: str | Path, scale: int
) -> Iterator[tuple[Pair, Tensor]]:
    """Return results for images without originals. Raises InputError, DataError: no images."""
    folder = Path(inputs)
    if not folder.is_dir():
        raise InputError(f"There is no folder '{folder}' of images to enlarge.")
    pairs = [
        Pair(file.stem, scale, file, file, "own files")
        for file in by_name(list_images(folder)).values()
    ]
    if not pairs:
        raise DataError(f"'{folder}' holds no images.")
    protocol, label = find_protocol("y_matlab"), folder.resolve().name
    found = find_subject(subject, scale=scale)
    source = _source(found, label=label, pairs=pairs, protocol=protocol)
    return ((pair, source.make(pair)) for pair in pairs)


def score_result(
    result: PairResult, hr: Tensor, *, metrics: Sequence[str], weights: str | Path | None = None
) -> Score:
    """Return a result's score against ``hr`` (1, 3, H, W), as ``score_image``. Raises DataError."""
    try:
        return score_image(
            result.image,
            hr,
            set_name=result.set,
            image=result.pair.name,
            scale=result.pair.scale,
            model=result.model,
            protocol=result.protocol,
            lr_kernel=result.lr_kernel,
            metrics=metrics,
            weights=weights,
        )
    except InputError as error:  # too small for the protocol's border, for example
        raise DataError(f"{result.set} '{result.pair.name}': {error}") from error


def find_subject(
    subject: SRModel | str | Path, *, scale: int | None = None
) -> SRModel | str | Path:
    """Return what to score: the word bicubic, a folder of results, or else a network."""
    if isinstance(subject, SRModel) or subject == "bicubic":
        return subject
    path = Path(check_named(subject))
    return path if path.is_dir() else load_network(subject, factor=scale)


def _check_set(given: str | Path, *, label: str, scale: int, root: str | Path) -> None:
    """DataError when a well-known set is not what it must be, whatever LR the protocol takes."""
    pairs = load_pairs(given, scale=scale, root=root)
    first, last = (End(pair.name, pair.hr(), pair.lr()) for pair in (pairs[0], pairs[-1]))
    check_canary(label, scale=scale, images=len(pairs), ends=(first, last))


@dataclass(frozen=True)
class _Source:
    """Where results come from: a name, an image for each pair, the LR kernel if not the pair's."""

    name: str
    make: Callable[[Pair], Tensor]
    lr_kernel: str | None = None


def _source(
    subject: SRModel | str | Path, *, label: str, pairs: Sequence[Pair], protocol: Protocol
) -> _Source:
    if isinstance(subject, SRModel):
        model = subject
        device = next((parameter.device for parameter in model.parameters()), None)
        # Clipping is the protocol's business: some tables come from unclipped output.
        return _Source(
            type(model).__name__,
            lambda pair: infer(model, pair.lr().to(device), clamp="none").cpu(),
        )
    if subject == "bicubic":
        kernel = "matlab_unrounded" if protocol.baseline == "bicubic_unrounded" else None
        return _Source(interpolation_name(protocol), partial(_interpolated, protocol), kernel)
    folder = Path(subject)
    names = [pair.name for pair in pairs]
    files = result_files(folder, set_name=label, names=names, scale=pairs[0].scale)
    return _Source(folder.name, lambda pair: to_rgb_tensor(read_image(files[pair.name])), "unknown")


def _interpolated(protocol: Protocol, pair: Pair) -> Tensor:
    if protocol.baseline == "bicubic_unrounded":
        return imresize(imresize(pair.hr(), scale=1 / pair.scale), scale=pair.scale)
    lr = pair.lr()
    if protocol.baseline == "pillow_bilinear":
        size = (lr.shape[-2] * pair.scale, lr.shape[-1] * pair.scale)
        return pillow_resize(lr, size=size, method="bilinear")
    if protocol.baseline == "bicubic_uint8":
        return imresize(lr, scale=pair.scale, boundary="replicate", quantise="uint8")
    return imresize(lr, scale=pair.scale)


def interpolation_name(protocol: Protocol) -> str:
    """Return what the protocol's own interpolation, asked for as "bicubic", really is."""
    return "bilinear" if protocol.baseline == "pillow_bilinear" else "bicubic"


def result_files(
    folder: Path, *, set_name: str, names: Sequence[str], scale: int
) -> dict[str, Path]:
    """Return the result file of each image, as ``match_results``, from a folder of results."""
    of_set = (set_name.lower(), f"{set_name.lower()}_x{scale}")
    for wanted in (of_set, (f"x{scale}",)):
        inner = [path for path in sorted(folder.iterdir()) if path.name.lower() in wanted]
        folder = next((path for path in inner if path.is_dir()), folder)
    return match_results(list_images(folder), set_name=set_name, names=names, scale=scale)


def match_results(
    files: Sequence[Path], *, set_name: str, names: Sequence[str], scale: int
) -> dict[str, Path]:
    """Return the result file of each image, matched by name and never by order.

    A file belongs to an image when the image's name, or the other name or number it is published
    under, stands in the file's name as a word: ``baby.png``, ``babyx4.png``, ``baby_RCAN_x4.png``,
    ``img_001_SRF_4_HR.png``. Files that say another scale, or belong to no image, are left out.
    Raises DataError: an image has no file, or several.
    """
    named: dict[str, list[str]] = {}  # what images go by -> their names
    for name, ways in _ways(set_name, names).items():
        for way in ways:
            named.setdefault(way, []).append(name)
    found: dict[str, list[Path]] = {name: [] for name in names}
    shared = []
    for file in files:
        said = {name for way in _words(file, scale) for name in named.get(way, ())}
        for name in said:
            found[name].append(file)
        shared += [file.name] if len(said) > 1 else []
    complaints = [f"'{name}' has no file" for name, group in found.items() if not group]
    complaints += [
        f"'{name}' has {len(group)} files ({', '.join(file.name for file in group)})"
        for name, group in found.items()
        if len(group) > 1
    ]
    complaints += [f"'{file}' fits several images" for file in shared]
    if complaints:
        raise DataError(
            f"The results do not fit {set_name} ×{scale}: {'; '.join(complaints)}. Each image "
            f"needs one file with its name in it and no other scale than x{scale}; "
            f"{len(files)} files were looked at."
        )
    return {name: group[0] for name, group in found.items()}


def _ways(set_name: str, names: Sequence[str]) -> dict[str, set[str]]:
    ways = {name: {name.lower(), OTHER_SPELLINGS.get(name, name.lower())} for name in names}
    if set_name.lower() in NUMBERED:
        for number, name in enumerate(names, start=1):
            ways[name].add(f"img_{number:03d}")
    return ways


def _words(file: Path, scale: int) -> Iterator[str]:
    """Yield what stands in the file's name as a word or words, with no other scale after it."""
    stem = file.stem.lower()
    # A word ends at a sign that is no letter or digit, or at a scale as in "babyx4".
    ends = [m.start() for m in re.finditer(r"(?=$|[^a-z0-9]|x\d(?![a-z0-9]))", stem)]
    ends = [
        end
        for end in ends
        if set(re.findall(r"(?:x|srf_?)(\d)(?![a-z0-9])", stem[end:])) <= {str(scale)}
    ]
    for begin in (m.start() for m in re.finditer(r"(?<![a-z0-9])", stem)):
        yield from (stem[begin:end] for end in ends if end > begin)
