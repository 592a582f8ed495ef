"""What moves images and jobs on: two workers, one loop each, and the events of what changes."""

import asyncio
import contextlib
import json
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

from edgekeeper.server.jobs import TAKE_THE_REST, Form, FullError, Job, Jobs, Options, UploadedImage
from edgekeeper.server.worker import TaskCancelledError, Worker, WorkerDiedError, WorkerError

Change = dict[str, Any]
Changes = asyncio.Queue[Change | None]
"""What changed, in order; None is the end."""

_MOST_EVENTS = 1000  # that may wait for one listener
_PROGRESS_EVERY = 0.2  # seconds between two events of one job


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is taken at most: bytes of an upload, pixels of an image or result, waiting jobs."""

    upload: int = 500 * 10**6
    pixels: int = 400 * 10**6
    waiting: int = 1000
    reserve: int = 200 * 10**6
    """Bytes of the disk that stay free."""


@dataclass(kw_only=True)
class Service:
    """The images and jobs of a folder, and the processes that work on them."""

    folder: Path
    device: str = "cpu"
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        self.jobs = Jobs(self.folder)
        self.looker, self.computer = Worker(), Worker()
        self._listeners: set[Changes] = set()
        self._new_image, self._new_job = asyncio.Event(), asyncio.Event()
        self._running: Job | None = None
        self._begun = 0.0
        self._foreseen: dict[str, dict[str, float]] = {}  # image -> options -> seconds

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """While in the block images are looked at and jobs computed."""
        loops = [asyncio.create_task(self._look()), asyncio.create_task(self._compute())]
        try:
            yield
        finally:
            for events in list(self._listeners):
                self._send_away(events)
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
            await asyncio.gather(self.looker.close(), self.computer.close())
            self.jobs.close()

    # ---- What users do ---------------------------------------------------------------------------

    def add_image(self, upload: Path, *, name: str, reason: str = "") -> UploadedImage:
        """Take a file that was uploaded; it is looked at soon, but for the ``reason`` it cannot.

        Of what cannot be opened its name alone is kept.
        """
        suffix = Path(name).suffix.lower()
        known = suffix[1:].isascii() and suffix[1:].isalnum() and len(suffix) <= 6
        image = UploadedImage(
            id=secrets.token_hex(8),
            name=name,
            suffix=suffix if known else "",
            bytes=upload.stat().st_size,
            state="failed" if reason else "looking",
            reason=f"'{name}' cannot be opened: {reason}." if reason else "",
        )
        self.jobs.place(image).mkdir()
        if not reason:
            upload.replace(self.jobs.source(image))
        self.jobs.save(image)
        self._publish(self.as_event(image))
        self._new_image.set()
        return image

    def add_job(self, image: UploadedImage, options: Options) -> Job:
        """Put a job into the queue. Raises FullError when too many wait."""
        if len(self.jobs.in_state("queued")) >= self.limits.waiting:
            raise FullError(
                f"{self.limits.waiting} jobs are waiting, which is the most; try again later."
            )
        given = asdict(options)
        foreseen = self._foreseen.get(image.id, {}).get(json.dumps(given), 0.0)
        job = Job(id=secrets.token_hex(8), image=image.id, options=given, foreseen=foreseen)
        self.jobs.save(job)
        self._publish(self.as_event(job))
        self._new_job.set()
        return job

    def cancel(self, job: Job) -> None:
        """Take a job out of the queue, or stop it."""
        if job.state == "queued":
            self._set(job, state="cancelled")
        elif job is self._running:
            self.computer.cancel(job.id)

    def retry(self, job: Job) -> None:
        """Put a job that failed or was cancelled into the queue again."""
        if job.state in ("failed", "cancelled"):
            self._set(job, state="queued", reason="", starts=0, done=0, total=0)
            self._new_job.set()

    def remove(self, thing: UploadedImage | Job) -> None:
        """Remove a job, or an image with its jobs, and their files."""
        if isinstance(thing, UploadedImage):
            for job in self.jobs.of(thing):
                self.remove(job)
            self._foreseen.pop(thing.id, None)
        else:
            self.cancel(thing)
        self.jobs.remove(thing)
        self._publish({"removed": thing.id})

    async def foresee(self, image: UploadedImage, options: Options) -> dict[str, Any]:
        """Return the size of a result and how many seconds it will take, before computing it.

        Where it is not to be had ``allowed`` is false, and ``reason`` says why.
        Raises WorkerDiedError: it may be asked again.
        """
        if image.state != "ready":
            return _refused(image.reason or "The image is still being looked at.")
        if image.look.get("damaged") and not options.tolerant:
            return _refused(f"'{image.name}' is damaged.{TAKE_THE_REST}")
        given = asdict(options)
        task = {"do": "foresee", **self._task(image, given), **_size(image)}
        try:
            answer = await self._ask_looker(task)
        except WorkerDiedError:
            raise
        except WorkerError as error:
            return _refused(_named(error, image))
        if answer["allowed"]:
            self._foreseen.setdefault(image.id, {})[json.dumps(given)] = answer["seconds"]
            for job in self.jobs.of(image):  # that were asked for before the answer
                if job.state == "queued" and json.dumps(job.options) == json.dumps(given):
                    self._set(job, foreseen=answer["seconds"])
            answer["seconds"] *= self._pace(given)
        return answer

    # ---- Events ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def events(self) -> Iterator[Changes]:
        """Yield the queue of what changes from now on; who falls too far behind is sent away."""
        events: Changes = asyncio.Queue(_MOST_EVENTS)
        self._listeners.add(events)
        try:
            yield events
        finally:
            self._listeners.discard(events)

    def as_event(self, thing: UploadedImage | Job) -> Change:
        """Return what is published when an image or a job has changed."""
        return {"image" if isinstance(thing, UploadedImage) else "job": self.as_json(thing)}

    def as_json(self, thing: UploadedImage | Job) -> dict[str, Any]:
        """Return an image or a job as the API shows it."""
        shown = asdict(thing)
        if isinstance(thing, UploadedImage):
            del shown["suffix"]
            return shown
        form = shown["options"].pop("form")
        shown["options"]["format"] = form
        shown["name"] = self.jobs.images[thing.image].name
        if thing is not self._running:
            shown["foreseen"] *= self._pace(thing.options)
        elif thing.done or thing.foreseen:
            shown["seconds_left"] = round(self._left(thing), 1)
        return shown

    def _left(self, job: Job) -> float:
        """Return the seconds a job still needs: at first as foreseen, then as its tiles go.

        The first tile waits until the network is loaded.
        """
        spent, share = time.monotonic() - self._begun, job.done / max(1, job.total)
        seen = min(1.0, 3 * share) if job.foreseen else 1.0
        whole = (1 - seen) * job.foreseen * self.jobs.pace(job.options)
        return max(0.0, whole + seen * spent / max(share, 1e-9) - spent)

    def _pace(self, options: dict[str, Any]) -> float:
        """Return what such jobs take over what is foreseen, with the one that runs now."""
        job = self._running
        if job is None or job.done < max(1, job.total / 4):
            return self.jobs.pace(options)
        spent = time.monotonic() - self._begun
        return self.jobs.pace(options, running=(job, spent * job.total / job.done))

    def _publish(self, event: Change) -> None:
        for events in list(self._listeners):
            if events.full():
                self._send_away(events)
            else:
                events.put_nowait(event)

    def _send_away(self, events: Changes) -> None:
        self._listeners.discard(events)
        while events.full():
            events.get_nowait()
        events.put_nowait(None)

    def _set(self, thing: UploadedImage | Job, **changes: object) -> None:
        known = self.jobs.images if isinstance(thing, UploadedImage) else self.jobs.jobs
        for name, value in changes.items():
            setattr(thing, name, value)
        if thing.id in known:  # not removed meanwhile
            with contextlib.suppress(FullError):  # a full disk: it is in memory, and saved later
                self.jobs.save(thing)
            self._publish(self.as_event(thing))

    # ---- The loops -------------------------------------------------------------------------------

    async def _start(self, worker: Worker) -> None:
        """Load torch while the user still looks for an image."""
        with contextlib.suppress(WorkerError):
            await worker.ask({"do": "start"})

    def _task(self, image: UploadedImage, options: dict[str, Any]) -> dict[str, Any]:
        found = image.look.get("format")
        kept = found in get_args(Form) and (found != "gif" or "frames" in image.look)
        form = options["form"] or (found if kept else "png")
        return {
            "options": {**options, "form": form},
            "device": self.device,
            "max_pixels": self.limits.pixels,
        }

    async def _look(self) -> None:
        await self._start(self.looker)
        while True:
            self._new_image.clear()
            for image in [i for i in self.jobs.images.values() if i.state == "looking"]:
                task = {
                    "do": "look",
                    "source": str(self.jobs.source(image)),
                    "view": str(self.jobs.place(image)),
                    "max_pixels": self.limits.pixels,
                }
                try:
                    seen = await self._ask_looker(task)
                except WorkerError as error:
                    self._set(image, state="failed", reason=_named(error, image))
                else:
                    self._set(image, state="ready", look=seen)
                self._new_job.set()
            await self._new_image.wait()

    async def _ask_looker(self, task: dict[str, Any]) -> dict[str, Any]:
        """Return the looker's answer; a process that dies of it is asked again, once."""
        with contextlib.suppress(WorkerDiedError):
            return await self.looker.ask(task)
        return await self.looker.ask(task)

    async def _compute(self) -> None:
        await self._start(self.computer)
        while True:
            self._new_job.clear()
            while job := self._next_job():
                await self._run(job, self.jobs.images[job.image])
            await self._new_job.wait()

    def _next_job(self) -> Job | None:
        """Return the first job that waits and whose image was looked at."""
        waiting = self.jobs.in_state("queued")
        return next((j for j in waiting if self.jobs.images[j.image].state != "looking"), None)

    async def _run(self, job: Job, image: UploadedImage) -> None:
        if image.state == "failed":
            self._set(job, state="failed", reason=image.reason)
            return
        self._running, self._begun, published = job, time.monotonic(), 0.0
        self._set(job, state="running", starts=job.starts + 1, done=0, total=0)

        def on_progress(done: int, total: int) -> None:
            nonlocal published
            job.done, job.total = done, total
            if time.monotonic() - published >= _PROGRESS_EVERY and job.id in self.jobs.jobs:
                published = time.monotonic()
                self._publish(self.as_event(job))

        task = {
            "do": "compute",
            "id": job.id,
            "source": str(self.jobs.source(image)),
            "folder": str(self.jobs.place(job)),
            **self._task(image, job.options),
            **_size(image),
        }
        try:
            result = await self.computer.ask(task, on_progress=on_progress)
        except TaskCancelledError:
            self._set(job, state="cancelled")
        except WorkerError as error:
            self._set(job, state="failed", reason=_named(error, image))
        else:
            self._set(job, state="done", result=result, done=job.total)
        finally:
            self._running = None
            if job.id not in self.jobs.jobs:  # removed meanwhile
                shutil.rmtree(self.jobs.place(job), ignore_errors=True)


def _size(image: UploadedImage) -> dict[str, Any]:
    known = ("width", "height", "format", "frames", "strength")
    return {k: image.look[k] for k in known if k in image.look}


def _refused(reason: str) -> dict[str, Any]:
    return {"allowed": False, "reason": reason}


def _named(error: WorkerError, image: UploadedImage) -> str:
    return str(error).replace("The image", f"'{image.name}'", 1)
