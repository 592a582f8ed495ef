"""Folders of images made larger by many machines: Ray Data hands out paths, actors do the work.

paths -> actor: read, network, write the file itself -> a small row -> the manifest

No pixel goes through Ray. A row in the manifest (one JSON object a line, in the folder of the
results) says what became of a file, and is the truth for going on. A file gets its name
atomically, and what is done twice because a worker died is written twice to the same name: once.
"""

import hashlib
import json
import math
import os
import queue
import secrets
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgekeeper.errors import InputError, UnavailableError
from edgekeeper.files import remove_leftovers
from edgekeeper.inference.choose import networks_for
from edgekeeper.inference.files import MANY, check_outputs, upscale_files
from edgekeeper.inference.network import tile_overlap
from edgekeeper.inference.request import Request, Result, refusal
from edgekeeper.ops.tiles import MOST_PIXEL_BYTES, tile_side

MANIFEST = "edgekeeper-manifest.jsonl"
STOP = ".edgekeeper-stop-"  # a file that stops the workers; beside it those of batches begun
TRIES = 3
"""How often a file is begun before it is listed as failed."""

_ROWS = 16
"""Paths that an actor takes at a time; it reads one, computes one and writes one at once."""

_STOPS_WITHIN = 60.0
"""Seconds that a stop waits for the rows of what the workers have just finished."""

_BASE_BYTES = 2**30
"""What an actor takes beside its tiles: PyTorch, the runtime, bands of rows, what waits."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """How the work is spread.

    Attributes:
        workers: actors; 0: as many as the cluster has processors for.
        threads: that an actor computes with.
        resume: whether a manifest that is there is gone on with.
    """

    workers: int = 0
    threads: int = 1
    resume: bool = False


def upscale_on_cluster(
    pairs: Sequence[tuple[Path, Path]],
    request: Request,
    *,
    manifest: Path,
    cluster: Cluster,
    check: Callable[[], None] = lambda: None,
) -> Generator[Result, None, None]:
    """Yield the results of images (source, target) as they are there, and note them in a file.

    ``request.model`` is a name or the path of a file, or None. Paths must be the same on all
    machines. An image that fails is tried ``TRIES`` times by its worker; one whose worker dies as
    often is tried alone. The rest goes on. With ``cluster.resume`` what the manifest says done is
    not done again, and what failed is. ``check`` is called often; when it raises
    KeyboardInterrupt the workers stop after their tile, and what they finished comes before it.
    Raises InputError: a manifest is there and is not to be gone on with, or none is; see
    ``check_outputs``. UnavailableError: Ray is not installed.
    """
    ray = _ray()
    pairs = [(Path(os.path.abspath(s)), Path(os.path.abspath(t))) for s, t in pairs]  # noqa: PTH100
    check_outputs(pairs)
    settled = _read(manifest, cluster)
    request = replace(request, threads=cluster.threads, many=len(pairs) >= MANY)
    stop = manifest.with_name(f"{STOP}{secrets.token_hex(4)}")
    with manifest.open("a", encoding="utf-8") as file:

        def note(result: Result) -> Result:
            file.write(json.dumps(result.as_json()) + "\n")
            file.flush()
            return result

        left: dict[str, Path] = {}
        for source, target in pairs:
            if str(source) in settled:
                why = f"'{target}' is done, says '{manifest.name}'."
                yield Result(source=source, target=target, status="skipped", reason=why)
                continue
            # Without a row, what an earlier run left there is its own: it is made once more.
            existing = "replace" if cluster.resume else request.on_existing
            refused = refusal(source, target, existing=existing)
            if refused is None:
                left[str(source)] = target
            else:
                yield note(refused)
        request = replace(request, existing="replace")
        try:
            _start(ray, needed=bool(left))
            for rows in (_ROWS, 1):  # files of batches that killed their worker, one by one
                made = _pass(ray, dict(left), request, cluster=cluster, rows=rows, stop=stop)
                for result in _checked(made, check=check, stop=stop):
                    if left.pop(str(result.source), None) is not None:  # once, though repeated
                        yield note(result)
            for name, target in left.items():  # whose worker died each time
                why = f"'{name}': its worker died each time; memory may be short."
                yield note(Result(source=Path(name), target=target, status="failed", reason=why))
        finally:
            os.fsync(file.fileno())
            _clear(manifest.parent, *{target.parent for _, target in pairs})


def _clear(*folders: Path) -> None:
    """Remove what workers and drivers that were killed have left in the folders."""
    for folder in folders:
        remove_leftovers(folder)
        for one in folder.glob(f"{STOP}*"):
            one.unlink(missing_ok=True)


def _ray() -> Any:
    """Return the module ``ray``, which reports nothing to its makers and prints no progress."""
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DATA_DISABLE_PROGRESS_BARS": "1"}
    # Ray Data hands its actors what lies in this process, and warns of that each time.
    quiet |= {"RAY_DATA_LOG_LEVEL": "ERROR", "RAY_BACKEND_LOG_LEVEL": "fatal"}
    os.environ.update({key: value for key, value in quiet.items() if key not in os.environ})
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UnavailableError("This needs Ray: pip install 'edgekeeper[ray]'.") from error
    return ray


def _read(manifest: Path, cluster: Cluster) -> set[str]:
    """Return the sources that an earlier run did or skipped; its last line may be cut."""
    if not manifest.exists():
        manifest.parent.mkdir(parents=True, exist_ok=True)
        return set()
    if not cluster.resume:
        raise InputError(
            f"'{manifest}' is of an earlier run: go on with --resume, or remove it to begin anew."
        )
    settled: set[str] = set()
    whole = 0
    with manifest.open("rb") as file:  # line by line: a million rows are half a gigabyte
        for line in file:
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            row = json.loads(line)
            (settled.discard if row["status"] == "failed" else settled.add)(row["input"])
    os.truncate(manifest, whole)
    return settled


def _start(ray: Any, *, needed: bool) -> None:
    """Join the cluster that RAY_ADDRESS names, or start one here."""
    if not needed or ray.is_initialized():
        return
    before = signal.getsignal(signal.SIGTERM)
    ray.init(log_to_driver=False, include_dashboard=False, logging_level="ERROR")
    if threading.current_thread() is threading.main_thread():
        # Ray's own handler aborts the driver three seconds later.
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _checked(
    made: Iterator[Result | None], *, check: Callable[[], None], stop: Path
) -> Iterator[Result]:
    """Yield the results, which a thread awaits; when ``check`` raises, after the last, raise too.

    What tells the workers to stop is the file ``stop``.
    """
    taken: queue.SimpleQueue[Result | None] = queue.SimpleQueue()
    ended: Future[None] = Future()

    def take() -> None:
        try:
            for result in made:
                taken.put(result)
            ended.set_result(None)
        except Exception as error:
            ended.set_exception(error)

    threading.Thread(target=take, name="edgekeeper-rows", daemon=True).start()
    stopped, until = None, math.inf
    while time.monotonic() < until and not (ended.done() and taken.empty()):
        with suppress(queue.Empty):
            if (result := taken.get(timeout=0.2)) is not None:
                yield result
        if stopped is None:
            try:
                check()
            except KeyboardInterrupt as interrupt:
                stopped, until = interrupt, time.monotonic() + _STOPS_WITHIN
                stop.touch()
    if stopped is not None:
        raise stopped
    ended.result()


def _pass(
    ray: Any, left: Mapping[str, Path], request: Request, *, cluster: Cluster, rows: int, stop: Path
) -> Iterator[Result | None]:
    """Yield what the workers make of the files, in any order; none of those that killed one."""
    if not left:
        return
    ray.data.DataContext.get_current().max_errored_blocks = -1  # what is lost is tried again
    batches = math.ceil(len(left) / rows)
    workers, takes = shares_of(ray.cluster_resources(), request, cluster=cluster, batches=batches)
    items = [{"source": source, "target": str(target)} for source, target in left.items()]
    made = ray.data.from_items(items, override_num_blocks=batches).map_batches(
        _Actor,  # Ray begins one that died anew, with its batch, without an end
        fn_constructor_args=(request, stop),
        batch_size=None,
        compute=ray.data.ActorPoolStrategy(size=workers),
        **takes,
    )
    for row in made.iter_rows():
        yield row["result"]


def shares_of(
    there: Mapping[str, float], request: Request, *, cluster: Cluster, batches: int
) -> tuple[int, dict[str, float]]:
    """Return how many workers there are on a cluster that has ``there``, and what each takes.

    GPUs are shared: one worker's reading and writing would leave most of a GPU idle.
    Raises InputError: a GPU is asked for where none is.
    """
    fits = max(1, int(there.get("CPU", 1) // cluster.threads))
    workers = min(cluster.workers or fits, batches)
    takes: dict[str, float] = {"num_cpus": cluster.threads}
    takes["memory"] = min(memory_of(request), int(0.9 * there.get("memory", 2**40) / workers))
    if request.device.startswith("cuda"):
        if not (gpus := there.get("GPU", 0)):
            raise InputError("The cluster has no GPU; leave --device cuda away.")
        takes["num_gpus"] = 1 / math.ceil(workers / gpus)
    return workers, takes


def memory_of(request: Request) -> int:
    """Return the bytes that an actor may take: of the largest tile that is planned, and beside."""
    networks = networks_for(replace(request, device="cpu"))  # this machine may have no GPU
    overlap = max(
        tile_overlap(networks.load(factor), consistent=request.consistent)
        for factor in networks.factors
    )
    largest, device = (2**20, 2**20), torch.device("cpu")
    side = tile_side(request.tile, overlap=overlap, size=largest, device=device)
    return _BASE_BYTES + side**2 * MOST_PIXEL_BYTES


class _Actor:
    """A worker: its networks are read once, and it writes the files itself."""

    def __init__(self, request: Request, stop: Path) -> None:
        torch.set_num_threads(request.threads or 1)
        self._unread, self._stop = request, stop

    @cached_property
    def _request(self) -> Request:
        return replace(self._unread, model=networks_for(self._unread))

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Return a result for each path; None for what a stop left, or of what workers died."""
        pairs = list(zip(map(Path, batch["source"]), map(Path, batch["target"]), strict=True))
        name = hashlib.sha256(str(pairs[0][0]).encode()).hexdigest()[:16]
        begun = self._stop.with_name(f"{self._stop.name}-{name}")  # a byte for each time
        with begun.open("ab") as file:
            file.write(b".")
        found = self._made(pairs) if begun.stat().st_size <= TRIES else {}
        begun.unlink(missing_ok=True)
        column = np.empty(len(pairs), dtype=object)
        column[:] = [found.get(source) for source, _ in pairs]
        return {"result": column}

    def _made(self, pairs: list[tuple[Path, Path]]) -> dict[Path, Result]:
        found: dict[Path, Result] = {}
        with suppress(KeyboardInterrupt):
            for _ in range(TRIES):
                self._check()
                done = {source for source, result in found.items() if result.status == "done"}
                left = [pair for pair in pairs if pair[0] not in done]
                for result in (
                    upscale_files(self._request, pairs=left, on_step=self._check) if left else ()
                ):
                    found[result.source] = result
            for source, target in pairs:  # not begun where the disk is full
                why = f"'{target}' was not begun: no space is left."
                no = Result(source=source, target=target, status="failed", reason=why)
                found.setdefault(source, no)
        return found

    def _check(self, _: object = None) -> None:
        if self._stop.exists():
            raise KeyboardInterrupt
