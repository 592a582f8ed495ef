"""What a worker process does: it looks at images, says what a job will take, and computes jobs.

Tasks come as lines of JSON on standard input, answers go as lines of JSON to standard output. The
process ends when its standard input does, whatever killed the server.
"""

import functools
import itertools
import json
import os
import queue
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import pyvips
import torch

from edgekeeper.errors import EdgekeeperError, ImageError, InputError
from edgekeeper.evaluation.inspect import inspect_files
from edgekeeper.image import (
    FORMATS,
    Image,
    SaveOptions,
    as_unit,
    from_tensor,
    open_image,
    write_image,
)
from edgekeeper.image.quality import estimate
from edgekeeper.image.unusual import CURE, to_srgb
from edgekeeper.inference import Networks, Request, Step, networks_for, upscale_file, upscale_image
from edgekeeper.inference.choose import LEAST, PassPlan, plan_passes
from edgekeeper.inference.request import VIDEO_SUFFIXES, is_video
from edgekeeper.pretrained.zoo import Style, find_device
from edgekeeper.server.jobs import TAKE_THE_REST
from edgekeeper.video import upscale_video
from edgekeeper.video.source import read_frames, survey

TILE = 512
"""The side of the tiles of a view."""

_LOOKED_AT = 1024  # pixels a side: what an image went through shows in its middle
_TIMED = 96  # pixels a side of the image that a network is timed on
_BESIDE = 0.13e-6  # seconds a pixel of a result for all but networks, as measured; then learnt
_AT_LEAST = 0.6  # seconds of a job of any size
_TIMES = 3  # a network is timed, of which the least counts: what else runs only adds

Message = dict[str, Any]


class CancelledError(Exception):
    """The user wants the job no more."""


# ---- Looking at an image -------------------------------------------------------------------------


def look_at(task: Message) -> Message:
    """Return what is known of an image or video before anything is computed, and make its view.

    Raises ImageError: it cannot be read; InputError: it is larger than what is taken.
    """
    source = Path(task["source"])
    if is_video(source):
        return _look_at_video(source, task)
    with open_image(source, frames="all", tolerant=True) as reader:
        header, moves = reader.header, reader.header.animation
        height, width = header.height, header.width
        _check_size(width, height, task)
        top, left = (max(0, n - _LOOKED_AT) // 16 * 8 for n in (height, width))
        rows = reader.rows(top, min(height, top + _LOOKED_AT))
        part = rows[:, left : left + _LOOKED_AT, : header.colours]
    unit = torch.from_numpy(as_unit(part))  # (H, W, C)
    condition = estimate(unit.permute(2, 0, 1)[None].contiguous(), path=source)
    return {
        "width": width,
        "height": height,
        "format": header.format,
        "depth": header.depth,
        "grey": header.colours == 1,
        "alpha": header.alpha != "none",
        "profile": header.metadata.icc is not None,
        "notes": list(header.notes),
        "damaged": _is_damaged(header.notes),
        **asdict(condition),
        **({"frames": moves.frames, "seconds": sum(moves.delays) / 1000} if moves else {}),
        "view": make_view(source, Path(task["view"])),
    }


def _look_at_video(source: Path, task: Message) -> Message:
    facts = survey(source, tolerant=True)
    height, width = facts.size
    _check_size(width, height, task)
    return {
        "width": width,
        "height": height,
        "format": source.suffix[1:].lower(),
        "depth": 16 if facts.layout.depth > 8 else 8,
        "grey": facts.layout.family == "grey",
        "alpha": facts.layout.alpha,
        "profile": False,
        "notes": list(facts.notes),
        "damaged": _is_damaged(facts.notes),
        "jpeg_quality": None,
        "noise": 0.0,
        "strength": 0.0,
        "subsampling": None,
        "frames": facts.frames,
        "seconds": round(float(facts.frames / facts.rate), 2),
        "view": make_view(_still(source, Path(task["view"])), Path(task["view"])),
    }


def _is_damaged(notes: Iterable[str]) -> bool:
    return any("is damaged" in note for note in notes)


def _still(video: Path, folder: Path) -> Path:
    """Write the frame that stands for a video, one of its first second, as a PNG in ``folder``."""
    facts = survey(video, tolerant=True)
    number = min(facts.frames // 2, round(facts.rate))
    frames = read_frames(facts, wanted=lambda n: n >= number)
    for frame in itertools.islice(frames, 1):
        write_image(frame.image, folder / "still.png", overwrite="replace")
    frames.close()
    return folder / "still.png"


def _check_size(width: int, height: int, task: Message) -> None:
    if width * height > task["max_pixels"]:
        raise InputError(
            f"An image of {width} x {height} pixels ({width * height / 1e6:.0f} megapixels) is too "
            f"large here: at most {task['max_pixels'] / 1e6:.0f} megapixels are taken."
        )


def make_view(path: Path, folder: Path) -> Message:
    """Write the image as tiles of 512 pixels at every power of two, in sRGB, for a browser.

    Level n has at most 2^n pixels on its longer side. Returns the size and the tiles' suffix.
    """
    image = pyvips.Image.new_from_file(str(path), access="sequential")
    if image.get_typeof("orientation") and image.get("orientation") > 1:
        image = pyvips.Image.new_from_file(str(path)).autorot()
    image = _in_srgb(image)
    suffix = "png" if image.hasalpha() else "jpg"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "view_files", ignore_errors=True)  # of an attempt that was cut short
    saved = ".png" if suffix == "png" else ".jpg[Q=95,subsample_mode=off]"
    image.dzsave(str(folder / "view"), suffix=saved, tile_size=TILE, overlap=0, keep="none")
    return {"width": image.width, "height": image.height, "suffix": suffix}


def _in_srgb(image: pyvips.Image) -> pyvips.Image:
    with suppress(pyvips.Error):  # a damaged profile is left out of the view
        if image.interpretation == "cmyk":
            image, _ = to_srgb(image, name="The image")
        elif image.get_typeof("icc-profile-data"):
            image = image.icc_transform("srgb", embedded=True, depth=8)
    return image.colourspace("srgb").cast("uchar")


# ---- What a job takes ----------------------------------------------------------------------------


def request_of(options: Message, *, device: str) -> Request:
    """Return the library's request for the options of a job."""
    size = {name: options[name] for name in ("scale", "width", "height") if options.get(name)}
    if options.get("fit"):
        size["fit"] = tuple(options["fit"])
    return Request(
        model=_networks(_kind(options), device),
        style=options["style"],
        sharpness=options.get("sharpness"),
        precision="auto",
        device=device,
        strength=options.get("strength"),
        save=SaveOptions(format=options["form"], quality=options["quality"]),
        existing="replace",
        tolerant=options.get("tolerant", False),
        **size,
    )


class _Kind(NamedTuple):
    """What networks are asked for."""

    style: Style
    model: str | None
    guard: bool


def _kind(options: Message) -> _Kind:
    return _Kind(options["style"], options.get("model"), options.get("guard", False))


@functools.cache
def _networks(kind: _Kind, device: str) -> Networks:
    return networks_for(Request(**kind._asdict(), device=device))


def foresee(task: Message) -> Message:
    """Return the size of a result and the seconds for it: networks, files, views and risk."""
    plan = _plan(task)
    height, width = plan.size
    try:
        _check_size(width, height, task)
    except InputError as error:
        return {"width": width, "height": height, "allowed": False, "reason": str(error)}
    pixels, seconds = task["width"] * task["height"], 0.0
    kind, strength = _kind(task["options"]), _strength(task)
    for factor in plan.passes:
        seconds += pixels * _seconds_per_pixel(kind, factor, task["device"], strength)
        pixels *= factor**2
    still = task.get("format") in FORMATS and not FORMATS[task["options"]["form"]].animated
    frames = 1 if still else task.get("frames", 1)
    seconds = _AT_LEAST + (seconds + height * width * _BESIDE) * frames
    return {"width": width, "height": height, "seconds": seconds, "allowed": True, "reason": ""}


def _strength(task: Message) -> float | None:
    """Return how far a job restores, all between 0 and 1 as 0.5; None: its networks cannot."""
    options = task["options"]
    if options.get("model") or options["style"] in ("faithful", "sharp"):
        return None
    seen = 1.0 if options["style"] == "restore" else task.get("strength", 0.0)
    strength = seen if options.get("strength") is None else options["strength"]
    return 0.0 if strength < LEAST else 1.0 if strength == 1 else 0.5


def _plan(task: Message) -> PassPlan:
    request = request_of(task["options"], device=task["device"])
    assert isinstance(request.model, Networks)
    size = (task["height"], task["width"])
    return plan_passes(size, request, factors=request.model.factors)


@functools.cache
def _seconds_per_pixel(kind: _Kind, factor: int, device: str, strength: float | None) -> float:
    """Return the time of a network per pixel that it is given, measured on a small image.

    A ``strength`` between 0 and 1 takes two networks.
    """
    noise = torch.rand(1, 3, _TIMED, _TIMED, generator=torch.Generator().manual_seed(0))
    request = Request(
        model=_networks(kind, device),
        style=kind.style,
        strength=strength,
        scale=factor,
        device=device,
        precision="auto",
    )
    image = Image(pixels=from_tensor(noise))
    upscale_image(image, request)
    return min(upscale_image(image, request).network_seconds for _ in range(_TIMES)) / _TIMED**2


# ---- A job ---------------------------------------------------------------------------------------


def compute(task: Message, on_step: Callable[[Step], None]) -> Message:
    """Return what became of a job, whose result and views are written.

    Raises EdgekeeperError: it cannot be done, as the sentence says.
    """
    source, folder, options = Path(task["source"]), Path(task["folder"]), task["options"]
    began = time.monotonic()
    height, width = _plan(task).size
    _check_size(width, height, task)
    folder.mkdir(parents=True, exist_ok=True)
    request = request_of(options, device=task["device"])
    before, after = source, folder / f"result{FORMATS[options['form']].suffixes[0]}"
    if is_video(source):
        suffix = source.suffix.lower()
        target = folder / f"result{suffix if suffix in VIDEO_SUFFIXES else '.mkv'}"
        result = upscale_video(source, target, request=request, on_step=on_step)
        assert result.size is not None  # of what was written, perhaps a row less
        height, width = result.size
        before, after = source.with_name("still.png"), _still(target, folder)
    else:
        target = after
        result = upscale_file(source, target, request=request, on_step=on_step)
    answer: Message = {
        "file": target.name,
        "bytes": target.stat().st_size,
        "width": width,
        "height": height,
        "notes": list(result.notes),
        "view": make_view(after, folder),
        "risk": None,
    }
    if options["risk"]:
        overlay = folder / "risk.png"
        try:
            report = inspect_files(
                *(before, after),
                overlay_path=overlay,
                tolerant=options.get("tolerant", False),
                overwrite="replace",
            )
        except (InputError, ImageError) as error:  # a factor of 2.7, an image of 5 x 5 pixels
            answer["notes"].append(f"No structure risk: {error}".replace(str(before), "image"))
        else:
            found = {k: getattr(report, k) for k in ("undecided", "verdict")}
            answer["risk"] = {"score": report.risk, **found}
            answer["risk"]["view"] = make_view(overlay, folder / "risk")
    answer["seconds"] = round(time.monotonic() - began, 3)
    return answer


# ---- The process ---------------------------------------------------------------------------------


def _read_tasks(tasks: "queue.Queue[Message]", cancelled: set[str]) -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if "cancel" in message:
            cancelled.add(message["cancel"])
        else:
            cancelled.discard(message.get("id", ""))  # of an earlier attempt
            tasks.put(message)
    os._exit(0)  # the server has gone


def answer_tasks() -> None:
    """Answer tasks until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    with suppress(OSError):  # when memory runs out Linux is to end this process, not the server
        Path("/proc/self/oom_score_adj").write_text("500")
    tasks: queue.Queue[Message] = queue.Queue()
    cancelled: set[str] = set()
    threading.Thread(target=_read_tasks, args=(tasks, cancelled), daemon=True).start()

    def say(**message: object) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    while True:
        task = tasks.get()
        task["device"] = find_device(task.get("device", "cpu"))

        def on_step(step: Step, job: str = task.get("id", "")) -> None:
            if job in cancelled:
                raise CancelledError
            say(done=step.done, total=step.total)

        try:
            if task["do"] == "start":
                say(answer={})
            elif task["do"] == "compute":
                say(answer=compute(task, on_step))
            else:
                say(answer=look_at(task) if task["do"] == "look" else foresee(task))
        except CancelledError:
            say(cancelled=True)
        except (EdgekeeperError, pyvips.Error, OSError) as error:
            say(error=_sentence(error, task))


def _sentence(error: Exception, task: Message) -> str:
    """Return what went wrong in one line, without the paths of this machine."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    text = text.replace(CURE, TAKE_THE_REST)
    for key, word in (("source", "the image"), ("folder", "the result"), ("view", "the view")):
        if key in task:
            path = re.escape(task[key])
            text = re.sub(rf"'{path}(/[^']*)?'|{path}(/[\w.-]*\w)?", word, text)
    return text[:1].upper() + text[1:]


if __name__ == "__main__":
    answer_tasks()
