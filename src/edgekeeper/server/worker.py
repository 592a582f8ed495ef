"""A worker process as the server sees it: asked one task at a time, replaced when it dies."""

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from edgekeeper.errors import EdgekeeperError

PATIENCE = 20.0
"""Seconds after which a process that does not heed a cancellation is killed."""


class WorkerError(EdgekeeperError):
    """A task that failed; the message is for the user."""


class WorkerDiedError(WorkerError):
    """The process ended in the middle of a task."""


class TaskCancelledError(WorkerError):
    """The task was cancelled."""


class Worker:
    """One process of ``edgekeeper.server.compute``, started when it is first asked.

    ``ask`` calls wait for each other. A process that died is replaced by the next call.
    """

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._task = 0
        self._cancelled: set[str] = set()
        self._closed = False

    async def ask(
        self, task: dict[str, Any], *, on_progress: Callable[[int, int], None] | None = None
    ) -> dict[str, Any]:
        """Return the answer to a task; ``on_progress`` gets the tiles that are done, and all.

        Raises:
            WorkerError: it failed. WorkerDiedError: the process ended. TaskCancelledError.
        """
        async with self._turn:
            self._task += 1
            self._cancelled.discard(task.get("id", ""))
            process = await self._started()
            assert process.stdin is not None and process.stdout is not None
            with suppress(ConnectionError):  # then readline tells that it has gone
                process.stdin.write(json.dumps(task).encode() + b"\n")
                await process.stdin.drain()
            while line := await process.stdout.readline():
                message: dict[str, Any] = json.loads(line)
                if "answer" in message:
                    answer: dict[str, Any] = message["answer"]
                    return answer
                if "error" in message:
                    raise WorkerError(message["error"])
                if "cancelled" in message:
                    raise TaskCancelledError("Cancelled.")
                if on_progress is not None:
                    on_progress(message["done"], message["total"])
            await process.wait()
            self._process = None
            if task.get("id") in self._cancelled:
                raise TaskCancelledError("Cancelled.")
            raise WorkerDiedError(
                "The process that computed it ended in the middle, perhaps for lack of memory. "
                "Try again, or a smaller size."
            )

    def cancel(self, job: str) -> None:
        """Ask the process to stop computing ``job``; it is killed if it does not in 20 s."""
        if self._process is None or self._process.stdin is None:
            return
        self._cancelled.add(job)
        with suppress(ConnectionError):
            self._process.stdin.write(json.dumps({"cancel": job}).encode() + b"\n")
        asyncio.get_running_loop().call_later(PATIENCE, self._kill_if_at, self._task)

    async def close(self) -> None:
        """End the process."""
        self._closed = True
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    def _kill_if_at(self, task: int) -> None:
        if self._turn.locked() and self._task == task and self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def _started(self) -> asyncio.subprocess.Process:
        if self._closed:
            raise WorkerError("The server is stopping.")
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "edgekeeper.server.compute"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=2**22,
                start_new_session=True,  # Ctrl-C in the terminal is for the server alone
            )
        return self._process
