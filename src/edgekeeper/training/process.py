"""What a run needs of the machine: options, a folder of its own, and a way to be stopped."""

import json
import math
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import psutil
import torch

from edgekeeper.data.remote import RemoteFolder
from edgekeeper.data.store import Store
from edgekeeper.errors import CheckpointError, EdgekeeperError, InputError
from edgekeeper.files import locked, make_folder, remove_leftovers, sha256_of, write_bytes
from edgekeeper.training.distributed import all_reduce_max, is_rank_zero, process_group
from edgekeeper.training.progress import StopSignal

Stopped = Literal["time limit", "interrupted"]
BEAT = 10.0  # seconds between two signs of life of who holds a folder
MARKER, LAST, LOG = "checkpoint.json", "last.safetensors", "log.jsonl"
HOLDER, HELD = ".process", "process.json"  # what says who holds the folder, here and remote


@dataclass(frozen=True)
class RunOptions:
    """Where and how a recipe runs; only ``start_from`` and ``until`` change more than rounding."""

    out: Path  # the run's folder; a run found there is resumed
    device: str = "cpu"
    workers: int = 1  # threads that read ahead
    time_limit: float | None = None  # seconds
    checkpoint_every: int = 500  # updates, and the state is saved
    checkpoint_seconds: float = 300.0  # so often too
    log_every: int = 50
    gradient_check_every: int = 500  # updates, and the log tells each loss's gradients; 0: never
    resume_from: Path | None = None  # a checkpoint whose recipe agrees up to that step
    start_from: Path | None = None  # the network file that the recipe's ``start`` asks for
    data_root: Path | None = None
    tensorboard: bool = False  # curves besides the log
    wandb: str | None = None  # a project there
    graph: bool = False  # the update is recorded once and replayed (`edgekeeper.training.graph`)
    accumulate: int = 1  # parts of a batch, of which one lies in memory at a time
    remote: str | None = None  # the address of the run, of which ``out`` is the local copy
    until: float | None = None  # dB of the validation at which the run ends
    # Where an accelerator finds the images: read from memory by threads, or on itself; "auto": on
    # itself where they take no more than half of what is free. "remote": see ``data.remote``.
    store_on: Literal["auto", "host", "device", "remote"] = "auto"
    deterministic: bool = False  # kernels alone that give the same bits again
    compile: bool = False  # by torch.compile


def is_resident(store: Store, *, options: RunOptions) -> bool:
    """Return whether the images of ``store`` are to lie on the device, if that is none of ours."""
    device = torch.device(options.device)
    if device.type == "cpu" or options.store_on != "auto":
        return device.type != "cpu" and options.store_on == "device"
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return store.index.pixels_bytes <= free / 2


@contextmanager
def running(options: RunOptions) -> Iterator[Callable[[], Stopped | None]]:
    """Within the block the run's folder is ours; what is given tells whether, and why, to stop.

    Raises InputError: the folder cannot be made, or another process runs in it.
    """
    folder, started = options.out, time.monotonic()
    limit = math.inf if options.time_limit is None else options.time_limit
    # torchrun passes on a Ctrl-C that its ranks have seen already
    signal = StopSignal(
        message="Stopping after this update; once more stops at once.",
        patient="WORLD_SIZE" in os.environ,
    )
    with process_group(options.device), _held(options) as check, signal:

        def stopped() -> Stopped | None:  # looked at between updates, by all ranks alike
            check()
            why = 2 if signal.status is not None else int(time.monotonic() - started > limit)
            why = all_reduce_max(why, device=options.device)  # the stronger reason wins
            return (None, "time limit", "interrupted")[why]

        if is_rank_zero():
            remove_leftovers(folder)  # of a process that was killed
        if options.remote is not None:
            all_reduce_max(0, device=options.device)  # it is ours
            if os.environ.get("LOCAL_RANK", "0") == "0":  # once on each machine
                Mirror(options.remote, folder=folder).pull()
            all_reduce_max(0, device=options.device)
        # Running means of what no longer changes, as the weights of a dead ReLU, decay to numbers
        # below 1.2e-38 and stay there; with them updates took 1.8 times as long (docs/diary.md).
        torch.set_flush_denormal(True)
        before = torch.get_deterministic_debug_mode()
        if options.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # which CUDA asks for
            torch.set_deterministic_debug_mode("error")  # an operation without such a kernel raises
        try:
            yield stopped
        finally:
            torch.set_deterministic_debug_mode(before)
            torch.set_flush_denormal(False)


@contextmanager
def _held(options: RunOptions) -> Iterator[Callable[[], None]]:
    """Hold the run's folder, here and at its address; what is given raises if it is lost."""
    folder = make_folder(options.out)
    if not is_rank_zero():
        yield lambda: None
        return
    holder = folder / HOLDER

    def read() -> bytes | None:
        return holder.read_bytes() if holder.is_file() else None

    with ExitStack() as stack:
        try:  # on this machine; on others by signs of life
            stack.enter_context(locked(folder, wait=False))
        except BlockingIOError as error:
            raise under_way(str(folder), sign_of_life(holder.read_bytes)) from error
        except OSError:
            pass  # a file system without locks
        local = held(str(folder), read=read, write=partial(write_bytes, holder))
        checks = [stack.enter_context(local)]
        stack.callback(holder.unlink, missing_ok=True)
        if options.remote is not None:
            there = RemoteFolder(options.remote)
            read_there, write_there = partial(there.read, HELD), partial(there.write, HELD)
            far = held(options.remote, read=read_there, write=write_there)
            checks.append(stack.enter_context(far))
            stack.callback(there.remove, HELD)

        def check() -> None:
            for each in checks:
                each()

        yield check


# ---- Who holds a run's folder: a file that says so, with signs of life ---------------------------


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
        thread.join(60)  # a remote folder that stands still must not hold the end of a run


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


# ---- A run at an address: each checkpoint is copied there and back again -------------------------
#
# There a state is named after its content. ``checkpoint.json``, written last, says which one counts
# and its SHA-256; what a cut connection leaves beside it is never read.


class Mirror:
    """The copy of the run's ``folder`` at ``address``."""

    def __init__(self, address: str, *, folder: Path) -> None:
        self.remote, self.folder = RemoteFolder(address), folder

    def pull(self) -> None:
        """Make the local state that of the last complete checkpoint; none where there is none."""
        marker = self._marker()
        if marker is None:
            for name in (LAST, LOG):
                (self.folder / name).unlink(missing_ok=True)
            return
        target, digest = self.folder / LAST, marker["sha256"]
        self.remote.fetch(marker["file"], target, digest=digest, error=CheckpointError)
        log = self.remote.read(LOG, error=CheckpointError)  # its later lines are dropped
        write_bytes(self.folder / LOG, log or b"", error=CheckpointError)

    def push(self, name: str, *, step: int) -> None:
        """Copy the file ``name``; the whole state with the log, and the marker as the last act."""
        if name != LAST:
            self.remote.write(name, self.folder / name, error=CheckpointError)
            return
        before = self._marker()
        digest = sha256_of(self.folder / LAST)
        state = f"state-{digest[:16]}.safetensors"
        self.remote.write(LOG, self.folder / LOG, error=CheckpointError)
        self.remote.write(state, self.folder / LAST, error=CheckpointError)
        marker = {"file": state, "step": step, "sha256": digest}
        self.remote.write(MARKER, json.dumps(marker).encode(), error=CheckpointError)
        if before is not None and before["file"] != state:
            self.remote.remove(before["file"])

    def _marker(self) -> dict[str, str] | None:
        content = self.remote.read(MARKER, error=CheckpointError)
        if content is None:
            return None
        try:
            found = json.loads(content)
            return {key: str(found[key]) for key in ("file", "sha256")}
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"'{self.remote.address}/{MARKER}' is damaged.") from error
