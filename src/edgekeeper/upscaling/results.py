"""What is said about files that are made larger, before, while and after."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from edgekeeper.infer import Precision
from edgekeeper.io import Overwrite, SaveOptions
from edgekeeper.upscaling.enlarger import Drift

OnError = Literal["report", "raise"]


@dataclass(frozen=True, kw_only=True)
class FileResult:
    """What became of one file.

    Attributes:
        path: the picture that was read.
        target: the file that was written, or would have been.
        status: "done"; "skipped" (the target existed); "failed" (no file was written).
        message: why not, one sentence; empty when done.
        seconds: the time from the beginning of the work to the written file. Files overlap, so
            that the sum over a folder is more than the time it took.
        network_seconds: the part of it that the networks took.
        source_size, size: (height, width) of what was read and written; None unless done.
        precision: of the networks; None when none was run.
        drift: see ``Drift``; None unless ``consistent`` was asked for.
        notes: sentences on what was done to the picture that one might not expect.
    """

    path: Path
    target: Path
    status: Literal["done", "skipped", "failed"]
    message: str
    seconds: float
    network_seconds: float = 0.0
    source_size: tuple[int, int] | None = None
    size: tuple[int, int] | None = None
    precision: Precision | None = None
    drift: Drift | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FolderStep:
    """How far a folder is: file number ``file`` of ``files``, ``tile`` of its ``tiles`` done."""

    path: Path
    file: int
    files: int
    tile: int
    tiles: int


class FolderProgress(Protocol):
    """Called when a file starts (tile 0 of 0) and after each of its tiles."""

    def __call__(self, step: FolderStep) -> None:
        """Take notice of the progress."""


@dataclass(frozen=True, kw_only=True)
class Saving:
    """How files are written, and what happens to those that exist.

    Attributes:
        options: format, quality and so on; the ending of the name decides on the format where
            they do not.
        overwrite: "replace" replaces files that exist.
        existing: for "refuse", whether a file that exists skips its picture or fails it.
        folders: "make" makes the folders that the targets need.
    """

    options: SaveOptions = field(default_factory=SaveOptions)
    overwrite: Overwrite = "refuse"
    existing: Literal["skip", "fail"] = "skip"
    folders: Literal["make", "need"] = "need"
