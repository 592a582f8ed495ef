"""Images and jobs, kept in one SQLite file, so that they survive a restart of the server."""

import json
import shutil
import sqlite3
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from edgekeeper.errors import InputError

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
Form = Literal["png", "jpeg", "webp", "tiff", "avif", "gif"]
JobStyle = Literal["auto", "faithful", "sharp", "texture", "restore"]

NAMED_MODELS = tuple(
    sorted(path.stem for path in Path(__file__).parents[1].glob("pretrained/weights/*.safetensors"))
)
"""The networks inside the package, which a page elsewhere may name; files it may not."""

TAKE_THE_REST = " The option 'tolerant' takes what is there."
"""The end of a sentence on damage, where what is there of a file can be had."""

MOST_STARTS = 3
"""How often a job is begun when the server keeps dying with it."""


class FullError(InputError):
    """The queue or the disk is full."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is asked of a job: how large (one of the four), by which style, how it is written.

    ``strength``, ``model``, ``sharpness`` and ``guard`` are those of the library's ``Request``; a
    model is one of ``NAMED_MODELS``, in the place of a style. ``form`` None keeps the format of the
    image where that can be written, GIF where it moves; ``risk`` measures where the result has
    structure that the image does not support; ``tolerant`` takes what is there of a damaged file.
    """

    scale: float | None = None
    width: int | None = None
    height: int | None = None
    fit: tuple[int, int] | None = None
    style: JobStyle = "auto"
    strength: float | None = None
    model: str | None = None
    sharpness: float | None = None
    guard: bool = False
    form: Form | None = None
    quality: int = 95
    risk: bool = True
    tolerant: bool = False

    @classmethod
    def from_json(cls, given: object) -> "Options":
        """Return the options of a request's JSON; raises InputError with what is allowed."""
        if not isinstance(given, dict):
            raise InputError("The options are a JSON object.")
        if unknown := sorted(set(given) - set(_ALLOWED)):
            raise InputError(f"There is no option '{unknown[0]}'. Known: {', '.join(_ALLOWED)}.")
        for name, value in given.items():
            is_right, allowed = _ALLOWED[name]
            if value is not None and not is_right(value):
                raise InputError(f"'{name}' is {allowed}.")
        if sum(given.get(name) is not None for name in ("scale", "width", "height", "fit")) > 1:
            raise InputError("Say once how large: scale, width, height or fit.")
        named, style = given.get("model") is not None, given.get("style") or "auto"
        if named and style != "auto":
            raise InputError("Say a style or a model, not both.")
        if given.get("strength") is not None and (named or style in _WITHOUT_STRENGTH):
            raise InputError("'strength' is for the styles auto, texture and restore.")
        if given.get("guard") and not named and style != "texture":
            raise InputError("'guard' is for the style texture, or for a model.")
        kept = {name: value for name, value in given.items() if value is not None}
        form, fit = kept.pop("format", None), kept.pop("fit", None)
        return cls(**kept, form=form, fit=None if fit is None else (fit[0], fit[1]))


_OF_PACE = ("style", "model", "guard")  # what the time of a job hangs on, beside its size
_WITHOUT_STRENGTH = ("faithful", "sharp")


def _is_side(value: object) -> bool:
    return type(value) is int and 0 < value < 10_000_000


_SHARE = (lambda x: type(x) in (int, float) and 0 <= x <= 1, "a number from 0 to 1")
_SIDE = (_is_side, "a whole number of pixels, from 1 to 9999999")
_ALLOWED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "scale": (lambda x: type(x) in (int, float) and 0 < x <= 64, "a number above 0, at most 64"),
    "width": _SIDE,
    "height": _SIDE,
    "fit": (
        lambda x: isinstance(x, list) and len(x) == 2 and all(map(_is_side, x)),
        "a list of width and height in pixels, such as [3840, 2160]",
    ),
    "style": (lambda x: x in get_args(JobStyle), f"one of {', '.join(get_args(JobStyle))}"),
    "strength": _SHARE,
    "model": (lambda x: x in NAMED_MODELS, f"one of {', '.join(NAMED_MODELS)}"),
    "sharpness": _SHARE,
    "guard": (lambda x: type(x) is bool, "true or false"),
    "format": (lambda x: x in get_args(Form), f"one of {', '.join(get_args(Form))}"),
    "quality": (lambda x: type(x) is int and 1 <= x <= 100, "a whole number from 1 to 100"),
    "risk": (lambda x: type(x) is bool, "true or false"),
    "tolerant": (lambda x: type(x) is bool, "true or false"),
}


@dataclass(kw_only=True)
class UploadedImage:
    """An image that was given: its name, for people only, and what was seen of it."""

    id: str
    name: str
    suffix: str
    bytes: int
    state: Literal["looking", "ready", "failed"] = "looking"
    reason: str = ""
    look: dict[str, Any] = field(default_factory=dict)
    created: float = field(default_factory=time.time)


@dataclass(kw_only=True)
class Job:
    """One image to be enlarged, and what became of it."""

    id: str
    image: str
    options: dict[str, Any]
    state: JobState = "queued"
    reason: str = ""
    starts: int = 0
    done: int = 0
    total: int = 0
    foreseen: float = 0.0
    result: dict[str, Any] = field(default_factory=dict)
    created: float = field(default_factory=time.time)


def _table(thing: UploadedImage | Job) -> str:
    return "images" if isinstance(thing, UploadedImage) else "jobs"


class Jobs:
    """The images and jobs of a folder, in memory and in its SQLite file.

    Every change is in the file when the call returns. One process at a time has the folder.
    Raises InputError: another server has the folder, or it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(folder / "jobs.sqlite", timeout=1, isolation_level=None)
            self._file.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute("PRAGMA synchronous = NORMAL")
            for table in ("images", "jobs"):
                self._file.execute(
                    f"CREATE TABLE IF NOT EXISTS {table} (id TEXT PRIMARY KEY, record TEXT)"
                )
            self._file.execute("BEGIN IMMEDIATE")  # which takes the lock now
            self._file.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise InputError(f"Another server uses the folder '{folder}'.") from error
            raise InputError(f"The folder '{folder}' cannot be used: {error}.") from error
        except OSError as error:
            raise InputError(f"The folder '{folder}' cannot be used: {error.strerror}.") from error
        self.images = {row["id"]: UploadedImage(**row) for row in self._rows("images")}
        self.jobs = {row["id"]: Job(**row) for row in self._rows("jobs")}
        self._begin_again()

    def close(self) -> None:
        """Close the file and empty the folder for temporary files."""
        self._file.close()
        shutil.rmtree(self.temporary, ignore_errors=True)

    @property
    def temporary(self) -> Path:
        """Where unfinished uploads are."""
        return self.folder / "temporary"

    def source(self, image: UploadedImage) -> Path:
        """Return the file of an image."""
        return self.folder / "images" / image.id / f"source{image.suffix}"

    def place(self, thing: UploadedImage | Job) -> Path:
        """Return the folder of an image or a job."""
        return self.folder / _table(thing) / thing.id

    def save(self, thing: UploadedImage | Job) -> None:
        """Write an image or a job, a new one too; raises FullError when the disk is full."""
        table, record = _table(thing), json.dumps(asdict(thing))
        # REPLACE would put it at the end; the order of the rows is the order of the queue.
        try:
            self._file.execute(
                f"INSERT INTO {table} VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET record = ?",
                (thing.id, record, record),
            )
        except sqlite3.OperationalError as error:
            raise FullError(f"The disk of the server is full or fails ({error}).") from error
        if isinstance(thing, UploadedImage):
            self.images[thing.id] = thing
        else:
            self.jobs[thing.id] = thing

    def remove(self, thing: UploadedImage | Job) -> None:
        """Forget an image or a job, with its files."""
        self._file.execute(f"DELETE FROM {_table(thing)} WHERE id = ?", (thing.id,))
        (self.images if isinstance(thing, UploadedImage) else self.jobs).pop(thing.id, None)
        shutil.rmtree(self.place(thing), ignore_errors=True)

    def of(self, image: UploadedImage) -> list[Job]:
        """Return the jobs of an image."""
        return [job for job in self.jobs.values() if job.image == image.id]

    def in_state(self, state: JobState) -> list[Job]:
        """Return the jobs in a state, the oldest first."""
        return [job for job in self.jobs.values() if job.state == state]

    def pace(self, options: dict[str, Any], *, running: tuple[Job, float] | None = None) -> float:
        """Return what jobs took over what was foreseen: the last five such, else the last five.

        ``running``, and the seconds it seems to take, counts as the last.
        """
        took = [(job, job.result["seconds"]) for job in self.in_state("done") if job.foreseen]
        took += [running] if running and running[0].foreseen else []
        kind = [options.get(name) for name in _OF_PACE]
        such = [one for one in took if [one[0].options.get(name) for name in _OF_PACE] == kind]
        last = (such or took)[-5:]
        return sum(s for _, s in last) / sum(job.foreseen for job, _ in last) if last else 1.0

    def _rows(self, table: str) -> list[dict[str, Any]]:
        rows = self._file.execute(f"SELECT record FROM {table} ORDER BY rowid").fetchall()
        return [json.loads(record) for (record,) in rows]

    def _begin_again(self) -> None:
        """Put what was being computed back into the queue, and remove files that nobody has."""
        for job in self.in_state("running"):
            job.state, job.done, job.total = "queued", 0, 0
            if job.starts >= MOST_STARTS:
                job.state = "failed"
                job.reason = f"The server ended {MOST_STARTS} times while it was being computed."
            self.save(job)
        shutil.rmtree(self.temporary, ignore_errors=True)
        self.temporary.mkdir()
        for kind, known in (("images", set(self.images)), ("jobs", set(self.jobs))):
            (self.folder / kind).mkdir(exist_ok=True)
            for path in (self.folder / kind).iterdir():
                if path.name not in known:
                    shutil.rmtree(path, ignore_errors=True)
