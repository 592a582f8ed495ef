"""A study that is served: a link per participant, each answer kept before the next is asked."""

import base64
import hashlib
import json
import os
import re
import secrets
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from edgekeeper.errors import DataError, InputError
from edgekeeper.files import is_full, parse_json, read_text, write_text
from edgekeeper.server.app import on_http_error, short_body
from edgekeeper.server.guard import OWN_NAMES, Guard

_LONGEST = 10_000  # bytes of an answer
_STUDY = re.compile(r"const STUDY = (\{.*\});\n")
_SERVED = "/*SERVED*/null"


class StudyService:
    """The page of ``study make``, and a folder with the links and a file of answers for each.

    Raises DataError: the page is none of ``study make``, or the folder holds another study;
    InputError: the folder has links for fewer participants, whose number cannot grow.
    """

    def __init__(self, page: Path, folder: Path, *, participants: int) -> None:
        self._page, self.folder = read_text(page), folder
        found = _STUDY.search(self._page)
        if found is None or self._page.count(_SERVED) != 1:
            raise DataError(f"'{page}' is no page of `edgekeeper study make`.")
        study = parse_json(found[1])
        self.id = str(study["id"])
        shown = [_shown(trial) for trial in study["trials"]]
        self._trials = {*shown, *(trial[::-1] for trial in shown)}  # sides are exchanged
        folder.mkdir(parents=True, exist_ok=True)
        links = folder / "links.json"
        known: dict[str, Any] = {"study": self.id, "links": []}
        if links.is_file():
            known = parse_json(read_text(links))
        if known["study"] != self.id:
            raise DataError(f"'{folder}' holds the answers of another study.")
        self.links: list[str] = known["links"]
        self.links += [secrets.token_urlsafe(12) for _ in range(participants - len(self.links))]
        write_text(links, json.dumps({"study": self.id, "links": self.links}) + "\n")
        self.answers = {link: self._read(link) for link in self.links}

    def file(self, link: str) -> Path:
        """Return where the answers of a participant are."""
        return self.folder / f"participant_{self.links.index(link) + 1:03}.jsonl"

    def name(self, link: str) -> str:
        """Return what a participant is called in the answers."""
        return self.file(link).stem

    def _read(self, link: str) -> list[dict[str, Any]]:
        file = self.file(link)
        if not file.is_file():
            return []
        whole = read_text(file)
        if not whole.endswith("\n"):  # a line that a crash cut off was never acknowledged
            whole = whole[: whole.rfind("\n") + 1]
            write_text(file, whole)
        return [parse_json(line) for line in whole.splitlines()]

    def page(self, link: str) -> tuple[str, str]:
        """Return the page for a participant, and what it may do as a content security policy."""
        row, answers = self.links.index(link), self.answers[link]
        served = {"participant": self.name(link), "row": row, "answers": answers}
        page = self._page.replace(_SERVED, json.dumps(served).replace("<", "\\u003c"))
        script = page.partition("<script>")[2].partition("</script>")[0]
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy = (
            f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
            "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        )
        return page, policy

    def add(self, link: str, *, number: int, answer: dict[str, Any]) -> None:
        """Keep an answer; one that is there already, sent again, is not kept twice.

        Raises InputError: it is no answer of this study, or one before it is missing; OSError: it
        cannot be written.
        """
        known = self.answers[link]
        shown, order = _shown(answer), answer.get("order")
        fits = answer.get("choice") in ("left", "right", "none") if order is None else True
        if shown not in self._trials or answer.get("study") != self.id or not fits:
            raise InputError("This is no answer of this study.")
        if order and sorted(map(str, order)) != sorted(shown):
            raise InputError("Every image needs a rank.")
        if number > len(known):
            raise InputError("An answer before this one is missing.")
        if number < len(known):
            return
        names = ("left", "right", "images", "choice", "order", "seconds")
        kept = {"study": self.id, "participant": self.name(link)}
        kept |= {name: answer[name] for name in names if name in answer}
        line = (json.dumps(kept) + "\n").encode()
        with self.file(link).open("ab") as file:
            end = file.tell()
            try:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.truncate(file.fileno(), end)
                raise
        known.append(kept)


def _shown(trial: dict[str, Any]) -> tuple[str, ...]:
    given = trial["images"] if "images" in trial else (trial.get("left"), trial.get("right"))
    return tuple(map(str, given)) if isinstance(given, list | tuple) else ()


def create_study_app(service: StudyService, *, everywhere: bool = False) -> ASGIApp:
    """Return the ASGI application: ``/p/LINK`` is a participant's page, and takes the answers."""
    pages = _Pages(service)
    app = Starlette(
        routes=[
            Route("/p/{link}", pages.page, methods=["GET"]),
            Route("/p/{link}/answers", pages.answer, methods=["POST"]),
        ],
        exception_handlers={HTTPException: on_http_error},
    )
    return Guard(app=app, names=None if everywhere else OWN_NAMES)


class _Pages:
    """The endpoints."""

    def __init__(self, service: StudyService) -> None:
        self._service = service

    def _link(self, request: Request) -> str:
        link = str(request.path_params["link"])
        if link not in self._service.answers:
            raise HTTPException(404, "There is no such link.")
        return link

    async def page(self, request: Request) -> Response:
        html, policy = self._service.page(self._link(request))
        return HTMLResponse(html, headers={"Content-Security-Policy": policy})

    async def answer(self, request: Request) -> Response:
        link, body = self._link(request), await short_body(request, most=_LONGEST)
        try:
            given = parse_json(body)
            self._service.add(link, number=int(given["number"]), answer=dict(given["answer"]))
        except (ValueError, KeyError, TypeError):
            raise HTTPException(422, "This is no answer of this study.") from None
        except InputError as error:
            raise HTTPException(422, str(error)) from None
        except OSError as error:
            status = 507 if is_full(error) else 500
            raise HTTPException(status, "The answer cannot be kept.") from error
        return JSONResponse({"kept": len(self._service.answers[link])})
