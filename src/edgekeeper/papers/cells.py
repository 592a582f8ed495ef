"""The cells of a table: trainings in folders of their own, shared by several processes."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from edgekeeper.data.store import Store
from edgekeeper.errors import CheckpointError
from edgekeeper.pretrained.checkpoint import agrees, read_network
from edgekeeper.training.loop import RunOptions, train
from edgekeeper.training.process import HeldError
from edgekeeper.training.recipe import Recipe

POLL = 5.0
"""Seconds between looks at a cell that another process trains."""

Ending = Literal["finished", "time limit", "interrupted"]
What = Literal[
    "training", "already trained", "scoring", "already scored", "by another process", "stopped"
]
Tell = Callable[[What], None]


@dataclass(frozen=True)
class Event:
    """Something happened to a cell, the ``number``-th (from 1) of ``cells``."""

    cell: str
    what: What
    number: int
    cells: int


def _tell(
    on_event: Callable[[Event], None] | None, cell: str, number: int, cells: int, what: What
) -> None:
    if on_event is not None:
        on_event(Event(cell, what, number, cells))


def trained_cells(
    cells: Sequence[Recipe],
    train_one: Callable[[Recipe, Tell], Ending],
    *,
    on_event: Callable[[Event], None] | None,
) -> Iterator[tuple[Recipe, Tell, Ending]]:
    """Yield each cell once it is trained; one that another process holds when that is done."""
    waiting, elsewhere = deque(enumerate(cells, start=1)), set[str]()
    while waiting:
        place, recipe = waiting.popleft()
        tell = partial(_tell, on_event, recipe.name, place, len(cells))
        again = recipe.name in elsewhere  # all others are done, or elsewhere too
        time.sleep(POLL if again else 0)
        told: Tell = (lambda _: None) if again else tell
        try:
            ended = train_one(recipe, told)
        except HeldError:
            told("by another process")
            elsewhere.add(recipe.name)
            waiting.append((place, recipe))
        else:
            yield recipe, tell, ended


def train_cell(
    recipe: Recipe,
    store: Store,
    *,
    folder: Path,
    device: str,
    until: float,
    tell: Tell,
    start: Path | None = None,
) -> Ending:
    """Train a cell, from the network ``start``, to the end or to ``until``; return how it ended."""
    if _is_trained(folder / "model.safetensors", recipe, store=store):
        tell("already trained")
        return "finished"
    left = until - time.monotonic()
    if left <= 0:
        return "time limit"
    tell("training")
    for stale in folder.glob("scores-*.jsonl"):
        stale.unlink()
    limit = left if math.isfinite(left) else None
    options = RunOptions(out=folder, device=device, time_limit=limit, start_from=start)
    return train(recipe, store, options=options).status


def _is_trained(path: Path, recipe: Recipe, *, store: Store) -> bool:
    """Return whether ``path`` is the finished network of this recipe; CheckpointError if not."""
    if not path.is_file():
        return False
    card = read_network(path).card
    if card.get("store") != store.fingerprint or not agrees(recipe, card.get("recipe")):
        raise CheckpointError(
            f"'{path}' was trained with other settings or on another store than "
            f"'{recipe.name}' is now. Choose another --out folder, or remove that cell's folder."
        )
    return True
