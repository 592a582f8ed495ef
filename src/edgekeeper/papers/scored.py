"""Scores of ours for a paper's table: one pass over a set, every definition at once, kept on disk.

A network runs once for each image; its result is scored under each protocol of ``SCORED_UNDER`` and
by the perceptual metrics. Only the interpolation is made anew for each protocol.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from edgekeeper.errors import DataError, UnavailableError
from edgekeeper.evaluation.evaluate import results, score_result
from edgekeeper.files import make_folder, read_text, sha256_of, write_text
from edgekeeper.metrics.ma import MA_FILE
from edgekeeper.metrics.niqe import NIQE_FILE
from edgekeeper.metrics.perceptual import HEADS_FILE, PERCEPTUAL
from edgekeeper.metrics.protocol import Protocol, find_protocol
from edgekeeper.metrics.risk import structure_risk
from edgekeeper.metrics.score import Score, read_scores, write_scores
from edgekeeper.models import SRModel
from edgekeeper.models.backbones import ALEXNET_FILE, weights_file
from edgekeeper.pretrained.checkpoint import load_model

SCORED_UNDER = ("spsr_toolbox", "y_matlab")
PERCEPTUAL_METRICS = ("lpips", "niqe", "pi")
BICUBIC = "Bicubic"
SCALE = 4  # of all tables here
_FILES = (ALEXNET_FILE, HEADS_FILE, NIQE_FILE, MA_FILE)

ByProtocol = dict[str, list[Score]]
"""The scores of a set under each protocol; those of the first hold the perceptual numbers."""


@dataclass(frozen=True)
class Ours:
    """A row of ours: its name, where its images come from, and what they depend on.

    source: a network, a folder of results, or the word "bicubic". key: a digest of the files
    behind it; with "" nothing is kept.
    """

    name: str
    source: SRModel | Path | str
    key: str = ""


def files_key(path: Path) -> str:
    """A digest of a network file's contents, or of the names, sizes and times in a folder."""
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            facts = file.stat()
            digest.update(
                f"{file.relative_to(path)} {facts.st_size} {facts.st_mtime_ns}\n".encode()
            )
    else:
        # An exported network has its weights in a second file; always in this order.
        for part in dict.fromkeys((path, path.with_suffix(".bin"))):
            if part.is_file():
                digest.update(bytes.fromhex(sha256_of(part)))
    return digest.hexdigest()[:16]


def scores_of(
    ours: Ours,
    *,
    set_name: str,
    data_root: Path,
    weights: Path | None = None,
    out: Path | None = None,
    on_image: Callable[[Score], None] | None = None,
) -> ByProtocol:
    """Return the scores of one set, from the folder ``out`` where they are there and still hold.

    Raises as ``edgekeeper.evaluation.evaluate.evaluate``.
    """
    kept = {
        protocol: _file(ours, set_name=set_name, protocol=protocol, weights=weights, out=out)
        for protocol in SCORED_UNDER
    }
    found = {name: kept_scores(path, protocol=find_protocol(name)) for name, path in kept.items()}
    if all(found.values()):
        return found
    under = partial(
        results,
        ours.source,
        sets=[set_name],
        scale=SCALE,
        data_root=data_root,
        model_name=ours.name,
    )
    first, second = SCORED_UNDER
    made: ByProtocol = {first: [], second: []}
    for result in under(protocol=first):
        hr = result.pair.hr()
        made[first].append(score_result(result, hr, metrics=PERCEPTUAL_METRICS, weights=weights))
        if ours.source != "bicubic":
            again = replace(result, protocol=find_protocol(second))
            made[second].append(score_result(again, hr, metrics=()))
        if on_image is not None:
            on_image(made[first][-1])
    if ours.source == "bicubic":  # its image depends on the protocol
        made[second] = [score_result(x, x.pair.hr(), metrics=()) for x in under(protocol=second)]
    for protocol, path in kept.items():
        if path is not None:
            make_folder(path.parent)
            write_scores(made[protocol], path)
    return made


def _file(
    ours: Ours, *, set_name: str, protocol: str, weights: Path | None, out: Path | None
) -> Path | None:
    """Return where the scores are kept: under another name when anything they depend on differs."""
    if out is None or not ours.key:
        return None
    there = "".join("1" if is_there(name, weights) else "0" for name in _FILES)
    name = re.sub(r"[^\w.-]+", "_", f"{ours.name}-{ours.key}-{there}-{protocol}-{set_name}")
    return out / f"{name}.jsonl"


def is_there(name: str, weights: Path | None) -> bool:
    """Return whether a weight file is in the folder ``weights``, or where it is by default."""
    try:
        return weights_file(name, folder=weights, purpose="scoring").is_file()
    except UnavailableError:
        return False


def kept_scores(path: Path | None, *, protocol: Protocol) -> list[Score]:
    """Return the scores in a file, none where there is none or they do not hold any more."""
    if path is None or not path.is_file() or not os.access(path, os.R_OK):
        return []
    try:
        scores = read_scores(path)
    except DataError:  # of an older version of the package: measured anew
        return []
    # A protocol whose definition has changed since makes old scores void.
    return scores if all(score.protocol == protocol for score in scores) else []


# ---- A cell that was trained --------------------------------------------------------------------


@dataclass(frozen=True)
class CellScores:
    """The numbers of a network on a set, by measure and image, and what is said of those missing.

    "risk" is the structure risk, which needs no original (``metrics.risk``).
    """

    values: dict[str, list[float | None]]
    notes: tuple[str, ...] = ()

    def has(self, measure: str) -> bool:
        """Return whether every image has the number."""
        return all(value is not None for value in self.values[measure])


def cell_scores(
    folder: Path,
    set_name: str,
    *,
    measures: Sequence[str],
    protocol: Protocol,
    data_root: Path,
    weights: Path | None,
    device: str,
    tell: Callable[[Literal["scoring", "already scored"]], None],
) -> CellScores:
    """Return the scores of a trained cell on a set, from its files where those still hold."""
    # A set may be a folder of images.
    path = folder / f"scores-{protocol.name}-{Path(set_name).name}.jsonl"
    of_risk = folder / f"scores-risk-{Path(set_name).name}.jsonl"
    metrics = [measure for measure in measures if measure != "risk"]
    further = [metric for metric in metrics if metric in PERCEPTUAL]
    scores = kept_scores(path, protocol=protocol)
    risks: list[float] = json.loads(read_text(of_risk)) if of_risk.is_file() else []
    known = all(set(further) <= set(score.asked) for score in scores)
    if scores and known and ("risk" not in measures or risks):
        tell("already scored")
    else:
        tell("scoring")
        network = load_model(folder / "model.safetensors").to(device)
        scores, risks = [], []
        for result in results(
            network, sets=[set_name], data_root=data_root, protocol=protocol, model_name=folder.name
        ):
            hr, lr = result.pair.hr(), result.pair.lr()
            scores.append(score_result(result, hr, metrics=metrics, weights=weights))
            if "risk" in measures:
                found = structure_risk(lr, result.image.clamp(0, 1), scale=network.scale)
                risks.append(float(found.score))
        write_scores(scores, path)
        if risks:
            write_text(of_risk, json.dumps(risks) + "\n")
    values = {metric: [score.value(metric) for score in scores] for metric in metrics}
    reasons = dict(pair for score in scores for pair in score.unavailable)
    notes = tuple(f"{metric.upper()} is unavailable. {why}" for metric, why in reasons.items())
    return CellScores(values | ({"risk": list(risks)} if "risk" in measures else {}), notes)
