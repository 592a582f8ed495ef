"""Who holds a run's folder: a file that says so, with signs of life."""

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from edgekeeper.errors import EdgekeeperError, InputError

BEAT = 10.0  # seconds between two signs of life of who holds a folder


class HeldError(InputError):
    """Another process holds the folder."""


@contextmanager
def held(
    name: str, *, read: Callable[[], bytes | None], write: Callable[[bytes], None]
) -> Iterator[Callable[[], None]]:
    """Hold what ``name`` stands for; a file that is read and written says by whom, and beats.

    What is given raises InputError when another process has taken it over, because this one showed
    no sign of life for long. One whose sign of life stands still is taken over.
    """
    own, stop = {"host": socket.gethostname(), "process": os.getpid()}, threading.Event()
    own["token"] = secrets.token_hex(8)
    lost: list[str] = []

    def beat(count: int) -> None:
        write(json.dumps({**own, "beat": count}).encode())

    def beats() -> None:
        count = 1
        while not stop.wait(BEAT):
            try:
                holder = sign_of_life(read)
                if holder and holder.get("token") != own["token"]:
                    lost.append(_owner(holder))
                    return
                beat(count)
                count += 1
            except EdgekeeperError:
                continue  # a sign of life that is missed; the next may come through

    _wait_for(name, read)
    beat(0)
    thread = threading.Thread(target=beats, name="edgekeeper-heartbeat", daemon=True)
    thread.start()

    def check() -> None:
        if lost:
            raise InputError(f"The run in '{name}' was taken over by {lost[0]}; this one stops.")

    try:
        yield check
    finally:
        stop.set()
        thread.join()


def _wait_for(name: str, read: Callable[[], bytes | None]) -> None:
    """Return once the last holder is known to be gone; raise InputError when it lives."""
    before = sign_of_life(read)
    here = before.get("host") == socket.gethostname()
    if not before or (here and not psutil.pid_exists(int(before.get("process", 0)))):
        return
    for _ in range(5):  # two signs of life and a half
        time.sleep(BEAT / 2)
        after = sign_of_life(read)
        if after != before:
            break
    if after and after != before:
        raise under_way(name, after)


def sign_of_life(read: Callable[[], bytes | None]) -> dict[str, Any]:
    """Return the sign of life that ``read`` gives, {} without one."""
    try:
        found = json.loads(read() or b"{}")
    except (OSError, ValueError):  # of an earlier version, or in the middle of being written
        return {}
    return found if isinstance(found, dict) else {}


def under_way(name: str, holder: dict[str, Any]) -> HeldError:
    """Return the error that says who holds what ``name`` stands for."""
    return HeldError(
        f"The run in '{name}' is under way in {_owner(holder)}; wait for it, or choose another "
        "folder."
    )


def _owner(holder: dict[str, Any]) -> str:
    host = holder.get("host")
    here = "" if host == socket.gethostname() else f" on {host}"
    return f"process {holder.get('process')}{here}"
