"""The HTTP API and the page: ``/api`` says what there is, ``/`` is the page that uses it."""

import asyncio
import contextlib
import json
import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from edgekeeper.errors import EdgekeeperError, InputError
from edgekeeper.files import BAD_ZIP, is_full, parse_json
from edgekeeper.server.archive import (
    extract,
    is_wanted,
    is_zip,
    name_in,
    opened,
    plain_name,
    zipped,
)
from edgekeeper.server.guard import OWN_NAMES, Guard
from edgekeeper.server.jobs import NAMED_MODELS, FullError, Job, Options, UploadedImage
from edgekeeper.server.service import Service
from edgekeeper.server.worker import WorkerDiedError

PAGE = Path(__file__).parent / "page"

_SILENCE = 60.0  # seconds without a byte after which an upload is given up, and any body of JSON
_SLOWEST = 20_000  # bytes a second that an upload has to reach in the mean, but for its first 60 s
_HEARTBEAT = 15.0  # seconds between two signs of life of an event stream
_JSON = 10_000  # bytes of options at most

Endpoint = Callable[[Request], Awaitable[Response]]


def create_app(service: Service, *, token: str | None = None) -> ASGIApp:
    """Return the ASGI application; without a ``token`` it answers to this machine's names only."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with service.at_work():
            yield

    app = Starlette(
        routes=_routes(_Api(service)),
        lifespan=lifespan,
        exception_handlers={EdgekeeperError: _on_error, HTTPException: on_http_error},
    )
    return Guard(app=app, names=OWN_NAMES if token is None else None, token=token)


def _routes(api: "_Api") -> list[BaseRoute]:
    image, job = "/api/v1/images/{image}", "/api/v1/jobs/{job}"
    table: list[tuple[str, str, Endpoint]] = [
        ("GET", "/", _page),
        ("GET", "/api", _openapi),
        ("GET", "/api/v1/status", api.status),
        ("GET", "/api/v1/events", api.events),
        ("GET", "/api/v1/images", api.list_images),
        ("POST", "/api/v1/images", api.add_images),
        ("DELETE", "/api/v1/images", api.remove_all),
        ("GET", image, api.show),
        ("DELETE", image, api.remove),
        ("POST", f"{image}/foresee", api.foresee),
        ("GET", f"{image}/view/{{level:int}}/{{x:int}}_{{y:int}}", api.view),
        ("GET", "/api/v1/jobs", api.list_jobs),
        ("POST", "/api/v1/jobs", api.add_job),
        ("POST", "/api/v1/jobs/cancel", api.cancel_all),
        ("GET", job, api.show),
        ("DELETE", job, api.remove),
        ("POST", f"{job}/cancel", api.cancel),
        ("POST", f"{job}/retry", api.retry),
        ("GET", f"{job}/result", api.result),
        ("GET", f"{job}/view/{{level:int}}/{{x:int}}_{{y:int}}", api.view),
        ("GET", f"{job}/risk/{{level:int}}/{{x:int}}_{{y:int}}", api.risk),
        ("GET", "/api/v1/results.zip", api.results),
    ]
    routes: list[BaseRoute] = [Route(path, end, methods=[how]) for how, path, end in table]
    return [*routes, Mount("/page", StaticFiles(directory=PAGE))]


async def _page(_: Request) -> Response:
    return FileResponse(PAGE / "index.html")


async def _openapi(_: Request) -> Response:
    return FileResponse(PAGE / "openapi.json", media_type="application/json")


async def _on_error(_: Request, error: Exception) -> Response:
    later = isinstance(error, FullError | WorkerDiedError)  # worth asking again
    return JSONResponse({"error": str(error)}, 503 if later else 422)


async def on_http_error(_: Request, error: Exception) -> Response:
    """Answer with what is wrong as JSON."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


class _Api:
    """The endpoints."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._jobs = service.jobs

    async def status(self, _: Request) -> Response:
        limits = self._service.limits
        return JSONResponse(
            {
                "device": self._service.device,
                "queued": len(self._jobs.in_state("queued")),
                "running": len(self._jobs.in_state("running")),
                "most_waiting": limits.waiting,
                "most_bytes": limits.upload,
                "most_pixels": limits.pixels,
                "models": NAMED_MODELS,
            }
        )

    async def events(self, request: Request) -> Response:
        return StreamingResponse(self._stream(), media_type="text/event-stream")

    async def _stream(self) -> AsyncIterator[str]:
        """Yield all there is, and then what changes."""
        with self._service.events() as events:
            there: list[UploadedImage | Job] = [
                *self._jobs.images.values(),
                *self._jobs.jobs.values(),
            ]
            whole = json.dumps([self._service.as_event(thing) for thing in there])
            yield f"event: all\ndata: {whole}\n\n"
            while True:
                try:
                    event = await asyncio.wait_for(events.get(), _HEARTBEAT)
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                if event is None:
                    return
                yield f"data: {json.dumps(event)}\n\n"

    # ---- Images ----------------------------------------------------------------------------------

    async def list_images(self, _: Request) -> Response:
        return JSONResponse([self._service.as_json(image) for image in self._jobs.images.values()])

    async def add_images(self, request: Request) -> Response:
        """The body is the file, or a ZIP of files; its name is in the address.

        A file that arrived and cannot be read is an image that failed, with the reason.
        """
        name = plain_name(request.query_params.get("name", ""))
        upload = self._jobs.temporary / secrets.token_hex(8)
        try:
            await self._receive(request, upload)
            named_so = name.lower().endswith(".zip") and upload.stat().st_size > 0
            if named_so or is_zip(upload):
                images = await self._unpack(upload, name=name)
            else:
                images = [self._service.add_image(upload, name=name)]
        except OSError as error:
            raise self._no_room(error) from error
        finally:
            upload.unlink(missing_ok=True)
        return JSONResponse([self._service.as_json(image) for image in images], 201)

    async def _receive(self, request: Request, target: Path) -> None:
        limit = self._service.limits.upload
        self._check_bytes(int(request.headers.get("content-length", "0")))
        received = 0
        with target.open("wb") as file:
            async for chunk in _body_of(request, grace=1 / _SLOWEST):
                received += len(chunk)
                if received > limit:
                    self._check_bytes(received)
                file.write(chunk)

    def _check_bytes(self, count: int) -> None:
        limits = self._service.limits
        if count > limits.upload:
            raise HTTPException(
                413,
                f"The file is larger than {limits.upload / 1e6:.0f} MB, the most that is taken.",
            )
        if shutil.disk_usage(self._jobs.folder).free < count + limits.reserve:
            raise HTTPException(507, "The disk of the server is full.")

    async def _unpack(self, upload: Path, *, name: str) -> list[UploadedImage]:
        """Take the files of a ZIP whose contents together are no larger than an upload may be.

        What is damaged in it fails alone, and the ZIP where nothing can be read.
        """
        limits, unpacked = self._service.limits, list[tuple[Path, str, str]]()
        try:
            with await asyncio.to_thread(opened, upload, most=limits.waiting) as archive:
                files = [i for i in archive.infolist() if not i.is_dir() and is_wanted(i.filename)]
                if not files:
                    raise InputError("it holds no file")
                size, most = sum(info.file_size for info in files), limits.upload
                if size > most:
                    raise InputError(
                        f"its files are larger than {most / 1e6:.0f} MB, the most that is taken"
                    )
                self._check_bytes(size)
                for info in files:
                    target = self._jobs.temporary / secrets.token_hex(8)
                    wrong = await asyncio.to_thread(extract, archive, info, target=target)
                    unpacked.append((target, plain_name(name_in(info)), wrong))
            if unpacked and all(wrong for _, _, wrong in unpacked):
                raise InputError(unpacked[0][2])
            return [self._service.add_image(t, name=n, reason=wrong) for t, n, wrong in unpacked]
        except FullError:
            raise
        except (InputError, *BAD_ZIP) as error:
            return [self._service.add_image(upload, name=name, reason=str(error))]
        finally:
            for target, _, _ in unpacked:
                target.unlink(missing_ok=True)

    @staticmethod
    def _no_room(error: OSError) -> HTTPException:
        if is_full(error):
            return HTTPException(507, "The disk of the server is full.")
        return HTTPException(500, f"The server cannot keep the file: {error.strerror}.")

    async def foresee(self, request: Request) -> Response:
        image = self._thing(request)
        assert isinstance(image, UploadedImage)
        options = Options.from_json(await _json(request))
        return JSONResponse(await self._service.foresee(image, options))

    async def view(self, request: Request) -> Response:
        """One tile of what a browser shows of an image or a result."""
        thing = self._thing(request)
        known = thing.look if isinstance(thing, UploadedImage) else thing.result
        return self._tile(request, known, self._jobs.place(thing))

    async def risk(self, request: Request) -> Response:
        """One tile of where a result has structure that its image does not support."""
        job = self._job(request)
        return self._tile(request, job.result.get("risk") or {}, self._jobs.place(job) / "risk")

    @staticmethod
    def _tile(request: Request, known: dict[str, Any], folder: Path) -> Response:
        params = request.path_params
        tile = f"{params['level']}/{params['x']}_{params['y']}"
        suffix = known.get("view", {}).get("suffix", "")
        path = folder / "view_files" / f"{tile}.{suffix}"
        if not suffix or not path.is_file():
            raise HTTPException(404, "There is no such tile.")
        return FileResponse(path, headers={"Cache-Control": "private, max-age=86400"})

    # ---- Jobs ------------------------------------------------------------------------------------

    async def list_jobs(self, _: Request) -> Response:
        return JSONResponse([self._service.as_json(job) for job in self._jobs.jobs.values()])

    async def add_job(self, request: Request) -> Response:
        given = await _json(request)
        image = self._jobs.images.get(str(given.pop("image", "")))
        if image is None:
            raise HTTPException(422, "'image' is the id of an image that was uploaded.")
        job = self._service.add_job(image, Options.from_json(given))
        return JSONResponse(self._service.as_json(job), 202)

    async def show(self, request: Request) -> Response:
        return JSONResponse(self._service.as_json(self._thing(request)))

    async def remove(self, request: Request) -> Response:
        self._service.remove(self._thing(request))
        return Response(status_code=204)

    async def remove_all(self, _: Request) -> Response:
        for image in list(self._jobs.images.values()):
            self._service.remove(image)
            await asyncio.sleep(0)  # so that listeners keep up
        return Response(status_code=204)

    async def cancel_all(self, _: Request) -> Response:
        for job in [*self._jobs.in_state("queued"), *self._jobs.in_state("running")]:
            self._service.cancel(job)
            await asyncio.sleep(0)
        return Response(status_code=204)

    async def cancel(self, request: Request) -> Response:
        job = self._job(request)
        self._service.cancel(job)
        return JSONResponse(self._service.as_json(job))

    async def retry(self, request: Request) -> Response:
        job = self._job(request)
        self._service.retry(job)
        return JSONResponse(self._service.as_json(job))

    async def result(self, request: Request) -> Response:
        job = self._job(request)
        if job.state != "done":
            raise HTTPException(409, f"There is no result: the job is {job.state}.")
        return FileResponse(self._file(job), filename=self._name(job))

    async def results(self, request: Request) -> Response:
        """All results, or those that ``jobs`` names, as one ZIP that is made while it is sent."""
        wanted = request.query_params.get("jobs")
        chosen = None if wanted is None else set(wanted.split(","))
        done = [j for j in self._jobs.in_state("done") if chosen is None or j.id in chosen]
        if not done:
            raise HTTPException(404, "There are no results.")
        files, taken = {}, set[str]()
        for job in done:
            name = self._name(job)
            stem, suffix = Path(name).stem, Path(name).suffix
            number = 1
            while name.casefold() in taken:  # where files go by their names in any case
                number += 1
                name = f"{stem} ({number}){suffix}"
            taken.add(name.casefold())
            files[name] = self._file(job)
        return StreamingResponse(
            zipped(files),
            media_type="application/zip",
            headers={"Content-Disposition": 'attachment; filename="edgekeeper.zip"'},
        )

    def _thing(self, request: Request) -> UploadedImage | Job:
        """Return the image or the job that the address names."""
        given = dict(request.path_params)
        known = self._jobs.images if "image" in given else self._jobs.jobs
        if thing := known.get(given.get("image") or given["job"]):
            return thing
        raise HTTPException(404, "There is nothing of that id.")

    def _job(self, request: Request) -> Job:
        job = self._thing(request)
        assert isinstance(job, Job)
        return job

    def _file(self, job: Job) -> Path:
        return self._jobs.place(job) / str(job.result["file"])

    def _name(self, job: Job) -> str:
        """Return the name under which a result is saved: photo_x4.png."""
        options, result = job.options, job.result
        size = f"{result['width']}x{result['height']}"
        if options["scale"]:
            size = f"x{options['scale']:g}"
        style = options.get("model") or options["style"]
        style = "" if style == "auto" else f"_{style}"
        stem = Path(self._jobs.images[job.image].name).stem
        return f"{stem}_{size}{style}{Path(result['file']).suffix}"


async def _json(request: Request) -> dict[str, Any]:
    try:
        given = parse_json(await short_body(request, most=_JSON) or b"{}")
    except ValueError:
        raise HTTPException(422, "The options are no JSON.") from None
    if not isinstance(given, dict):
        raise HTTPException(422, "The options are a JSON object.")
    return given


async def short_body(request: Request, *, most: int) -> bytes:
    """Return the body of a request; HTTPException when it is longer, or takes a minute."""
    body = b""
    async for chunk in _body_of(request):
        body += chunk
        if len(body) > most:
            raise HTTPException(413, "The request is too long.")
    return body


async def _body_of(request: Request, *, grace: float = 0) -> AsyncIterator[bytes]:
    """Yield the body, for which there is a minute, and ``grace`` seconds more for each byte."""
    chunks, clock = aiter(request.stream()), asyncio.get_running_loop().time
    end = clock() + _SILENCE
    while True:
        try:
            left = min(_SILENCE, max(0, end - clock()))
            chunk = await asyncio.wait_for(anext(chunks, None), left)
        except TimeoutError:
            raise HTTPException(408, "The upload came to a stop, or is too slow.") from None
        except ClientDisconnect:
            raise HTTPException(400, "The upload was cut short.") from None
        if chunk is None:
            return
        end += len(chunk) * grace
        yield chunk
