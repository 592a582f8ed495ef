"""What a run needs of the machine: options, a folder of its own, and a way to be stopped."""

import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from edgekeeper.errors import InputError
from edgekeeper.files import make_folder, remove_leftovers
from edgekeeper.training.progress import StopSignal
from edgekeeper.training.ranks import agreed, is_first, joined

if sys.platform != "win32":
    import fcntl

Stopped = Literal["time limit", "interrupted"]
HOLDER = ".process"  # the file that says which process holds the folder


@dataclass(frozen=True)
class RunOptions:
    """Where and how a recipe is run; nothing here changes the result.

    ``out`` is the run's folder; a run found there is resumed. ``resume_from`` continues from
    another run's checkpoint, allowed when both recipes agree up to that step. ``start_from`` is
    the network file that the recipe's ``start`` asks for. ``time_limit`` is in seconds.
    The state is saved every ``checkpoint_every`` updates, and every ``checkpoint_seconds`` too.
    ``gradient_check_every`` updates the log tells each loss's gradients anew (0: never).
    ``tensorboard`` and ``wandb``, a project there, draw curves besides the log.
    ``graph``: the update is recorded once and replayed (`edgekeeper.training.graph`); the result
    is the same up to rounding. ``accumulate``: the network takes a batch in so many parts, of which
    one lies in memory with what its gradient needs; the same up to rounding too.
    """

    out: Path
    device: str = "cpu"
    workers: int = 1  # threads that read ahead
    time_limit: float | None = None  # seconds
    checkpoint_every: int = 500
    checkpoint_seconds: float = 300.0
    log_every: int = 50
    gradient_check_every: int = 500
    resume_from: Path | None = None
    start_from: Path | None = None
    data_root: Path | None = None
    tensorboard: bool = False
    wandb: str | None = None
    graph: bool = False
    accumulate: int = 1


@contextmanager
def running(options: RunOptions) -> Iterator[Callable[[], Stopped | None]]:
    """Within the block the run's folder is ours; what is given tells whether, and why, to stop.

    Raises:
        InputError: the folder cannot be made, or another process runs in it.
    """
    folder, started = options.out, time.monotonic()
    limit = math.inf if options.time_limit is None else options.time_limit
    # torchrun passes on a Ctrl-C that its ranks have seen already
    signal = StopSignal(
        message="Stopping after this update; once more stops at once.",
        patient="WORLD_SIZE" in os.environ,
    )
    with joined(options.device), _locked(folder), signal:

        def stopped() -> Stopped | None:  # looked at between updates, by all ranks alike
            late = time.monotonic() - started > limit
            why = agreed(2 if signal.status is not None else int(late), device=options.device)
            return (None, "time limit", "interrupted")[why]  # the stronger reason wins

        if is_first():
            remove_leftovers(folder)  # of a process that was killed
        # Running means of what no longer changes, as the weights of a dead ReLU, decay to numbers
        # below 1.2e-38 and stay there; with them updates took 1.8 times as long (docs/diary.md).
        torch.set_flush_denormal(True)
        try:
            yield stopped
        finally:
            torch.set_flush_denormal(False)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a lock on ``folder``; it ends with the process, however that ends."""
    make_folder(folder)
    if sys.platform == "win32" or not is_first():  # Windows cannot lock a folder
        yield
        return
    # the folder itself is locked: a lock file could be left behind or removed
    handle = os.open(folder, os.O_RDONLY)
    holder = folder / HOLDER
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # another holder is an error at once
        except BlockingIOError as error:
            who = holder.read_text(encoding="utf-8") if holder.is_file() else "another process"
            raise InputError(
                f"The run in '{folder}' is under way in {who}; wait for it, or choose another "
                "folder."
            ) from error
        except OSError:
            pass  # a file system without locks
        holder.write_text(f"process {os.getpid()}", encoding="utf-8")
        try:
            yield
        finally:
            holder.unlink(missing_ok=True)
    finally:
        os.close(handle)
