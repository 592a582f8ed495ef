"""The videos among the sources of ``edgekeeper upscale``."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekeeper.cli.upscale_output import OutputLostError, Style, shortened, shown
from edgekeeper.cli.upscale_run import Interrupts
from edgekeeper.errors import ImageError, InputError
from edgekeeper.files import make_folder

if TYPE_CHECKING:
    from rich.progress import Progress

    from edgekeeper.cli.upscale_run import Job
    from edgekeeper.video import VideoOptions, VideoResult, VideoStep


def run_with_videos(job: "Job", *, codec: str | None, crf: int | None) -> int:
    """The exit status of ``run_job``, after the videos that are named among the sources are made.

    Videos inside folders are left alone.

    Raises:
        InputError: an option has no meaning for what was given.
        UnavailableError: videos need something that is not installed.
    """
    from edgekeeper.cli.upscale_run import run_job
    from edgekeeper.video import READ_SUFFIXES, VideoOptions

    videos = [
        source
        for source in job.sources
        if Path(source).suffix.lower() in READ_SUFFIXES and Path(source).is_file()
    ]
    if not videos:
        if codec is not None or crf is not None:
            raise InputError("--codec and --crf are for videos, and none was given.")
        return run_job(job)
    if job.categories is not None:
        raise InputError("--categories is for images; a video was given.")
    options = VideoOptions(codec=codec or VideoOptions.codec, crf=crf)
    if job.report == "yes" or job.seams == "yes":
        raise InputError("--report and --verify-seams are for images; a video was given.")
    pairs = _pairs([Path(video) for video in videos], job)
    status = _run(pairs, job, options)
    images = tuple(source for source in job.sources if source not in videos)
    if status > 1 or not images:
        return status
    return max(status, run_job(replace(job, sources=images)))


def _pairs(videos: list[Path], job: "Job") -> list[tuple[Path, Path]]:
    """Return the videos with the files to write."""
    from edgekeeper.video import SUFFIXES

    def named(video: Path, label: str) -> str:
        extension = video.suffix if video.suffix.lower() in SUFFIXES else ".mkv"
        return f"{video.stem}{label}{extension}"

    if job.output is None:
        return [(video, video.with_name(named(video, job.label))) for video in videos]
    if job.output == "-":
        raise InputError("A video cannot go to standard output; name a file with -o.")
    output = Path(job.output)
    if len(job.sources) == 1 and not output.is_dir() and not job.output.endswith(("/", os.sep)):
        return [(videos[0], output)]
    make_folder(output, error=ImageError)
    pairs = [(video, output / named(video, "")) for video in videos]
    if len({target for _, target in pairs}) < len(pairs):
        raise InputError(f"Several videos would be written to one name in '{output}'.")
    return pairs


def _run(pairs: list[tuple[Path, Path]], job: "Job", options: "VideoOptions") -> int:
    """Return the exit status: 0, 1 if a video failed, 130 or 143 after an interrupt."""
    from edgekeeper.video import upscale_video

    status = 0
    with Interrupts() as interrupts, _Progress() as progress:

        def on_step(step: "VideoStep") -> None:
            interrupts.check()
            progress.update(step)

        for source, target in pairs:
            if job.existing == "skip" and os.path.lexists(target):
                _say(f"skipped: '{target}' exists already.", style=job.style)
                continue
            try:
                result = upscale_video(
                    source,
                    target,
                    settings=job.settings,
                    options=options,
                    overwrite=job.overwrite,
                    on_step=on_step,
                )
            except ImageError as error:
                click.echo(f"failed: {shown(error)}", err=True)
                if job.style == "json":
                    _print(json.dumps(_failure(source, target, str(error))))
                status = 1
            except KeyboardInterrupt:
                if interrupts.status is None:
                    raise
                click.echo("Stopped. To go on, give the same command again.", err=True)
                return interrupts.status
            else:
                _tell(result, style=job.style)
    return status


class _Progress:
    """One line on the terminal: frames, frames a second, time left."""

    def __init__(self) -> None:
        self._display: Progress | None = None

    def __enter__(self) -> "_Progress":
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            self._display = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TextColumn("{task.completed:.0f}/{task.total:.0f} frames"),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(elapsed_when_finished=True),
                console=Console(stderr=True),
                redirect_stdout=False,
                redirect_stderr=False,
                transient=True,
                speed_estimate_period=120,
            )
            self._display.start()
            self._task = self._display.add_task("", total=1, rate="", visible=False)
        return self

    def __exit__(self, *_: object) -> None:
        if self._display is not None:
            self._display.stop()

    def update(self, step: "VideoStep") -> None:
        """Show how far the video is; what an earlier run did does not count for the rate."""
        if self._display is None:
            return
        name = shortened(step.path.name)
        if step.frame == step.found:
            self._display.reset(
                self._task,
                total=step.frames,
                completed=step.frame,
                description=name,
                visible=True,
                rate="",
            )
            return
        self._display.update(self._task, completed=step.frame, total=step.frames)
        speed = self._display.tasks[0].speed
        if speed:
            self._display.update(self._task, rate=f"{speed:.2f} frames/s")


def _tell(result: "VideoResult", *, style: Style) -> None:
    if style == "json":
        _print(json.dumps(_as_json(result)))
        return
    for note in result.notes:
        click.secho(f"{shown(result.path.name)}: {shown(note)}", err=True, dim=True)
    made = result.frames - result.found
    found = f" ({result.found} found)" if result.found else ""
    _say(
        f"{result.target}  {result.size[1]}x{result.size[0]}  {result.frames} frames{found}  "
        f"{result.seconds:.1f} s  {made / result.seconds:.2f} frames/s  {result.codec} "
        f"{result.pixels}",
        style=style,
    )


def _as_json(result: "VideoResult") -> dict[str, object]:
    return {
        "input": str(result.path),
        "output": str(result.target),
        "status": "done",
        "message": "",
        "input_size": list(result.source_size[::-1]),
        "output_size": list(result.size[::-1]),
        "seconds": round(result.seconds, 4),
        "network_seconds": round(result.network_seconds, 4),
        "precision": result.precision,
        "frames": result.frames,
        "found": result.found,
        "codec": result.codec,
        "pixels": result.pixels,
        "notes": list(result.notes),
    }


def _failure(source: Path, target: Path, message: str) -> dict[str, object]:
    return {
        "input": str(source),
        "output": str(target),
        "status": "failed",
        "message": message,
    }


def _say(text: str, *, style: Style) -> None:
    if style == "lines":
        _print(shown(text))


def _print(line: str) -> None:
    try:
        click.echo(line)
    except OSError as error:
        raise OutputLostError(error) from error
