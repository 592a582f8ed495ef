"""Where a run begins: a trained network put into the recipe's, into the whole or into a part."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor

from edgekeeper.errors import CheckpointError, InputError
from edgekeeper.models import SRModel
from edgekeeper.pretrained.checkpoint import read_network
from edgekeeper.pretrained.zoo import is_own, load
from edgekeeper.training.recipe import Recipe, Start


def start(recipe: Recipe, model: SRModel, *, file: Path | None) -> dict[str, object]:
    """Load the network of ``file`` into ``model``; return where its parameters came from.

    What may be new is ``recipe.start``'s to say. Without one nothing may be, but that the network
    may fit one part of the recipe's as a whole (``"backbone."``), around which all is new.
    Raises CheckpointError: it does not fit; InputError: no file.
    """
    if file is None:
        if recipe.start is None:
            return {}
        raise InputError(
            f"Recipe '{recipe.name}' starts from the network of recipe '{recipe.start.recipe}', "
            "or from another one like it: give a file with --start."
        )
    tensors, origin = _read(file)
    own = model.state_dict()
    tried = [recipe.start or Start()]  # as a whole, or as the recipe says
    if recipe.start is None:
        tried += [Start(into=f"{part}.") for part, _ in model.named_children()]
    misfits = [_misfit(own, tensors, start=each) for each in tried]  # "" where it fits
    if all(misfits):
        raise CheckpointError(
            f"'{file}' does not fit {type(model).__name__}"
            + (f" in '{tried[0].into}'" if tried[0].into else "")
            + f": {misfits[0]}. What may be new, a recipe says: Start(fresh=(...))."
        )
    into, fresh = next(
        (each.into, each.fresh) for each, misfit in zip(tried, misfits, strict=True) if not misfit
    )
    kept = {into + name: tensor for name, tensor in tensors.items() if not name.startswith(fresh)}
    model.load_state_dict({**own, **kept})  # what is new keeps its random beginning
    new = sorted(own.keys() - kept.keys())
    left = sorted(name for name in tensors if name.startswith(fresh))
    return origin | {
        "taken": f"{len(kept)} tensors into '{into}'" if into else f"{len(kept)} tensors",
        "new": parts(new, others=kept),
        "not used": parts(left, others=(name.removeprefix(into) for name in kept)),
    }


def describe_start(origin: Mapping[str, object]) -> str:
    """Return in one line what ``start`` returned."""
    text = f"Starts from {origin.get('file', 'a trained network')}: {origin.get('taken')}"
    for key in ("new", "not used"):
        names = origin.get(key)
        if isinstance(names, list) and names:
            text += f"; {key}: {', '.join(names)}"
    return f"{text}."


def parts(names: Iterable[str], *, others: Iterable[str]) -> list[str]:
    """Return the shortest beginnings that cover ``names`` and none of ``others``."""
    avoid, found = list(others), dict[str, None]()
    for name in names:
        pieces = name.split(".")
        for count in range(1, len(pieces) + 1):
            beginning = ".".join(pieces[:count]) + ("." if count < len(pieces) else "")
            if not any(other.startswith(beginning) for other in avoid):
                break
        found[beginning] = None
    return list(found)


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Return the tensors of any network file that is known, under our names, and its origin."""
    if not is_own(file):
        model = load(file)  # the names of other programs become ours
        return dict(model.state_dict()), {"file": file.name, "network": type(model).__name__}
    found = read_network(file)
    trained = found.card.get("recipe")
    name = trained.get("name") if isinstance(trained, dict) else "unknown"
    tensors = {key: tensor.float() for key, tensor in found.tensors.items()}
    return tensors, {"file": file.name, "recipe": name, "card": found.card}


def _misfit(own: Mapping[str, Tensor], given: Mapping[str, Tensor], *, start: Start) -> str:
    """Return what does not fit where ``start`` puts it, or nothing."""
    into, fresh = start.into, start.fresh
    wanted = {k.removeprefix(into): tensor for k, tensor in own.items() if k.startswith(into)}
    wanted, given = (
        {name: tensor for name, tensor in found.items() if not name.startswith(fresh)}
        for found in (wanted, given)
    )
    shapes = [
        f"{name} is {tuple(given[name].shape)} and should be {tuple(wanted[name].shape)}"
        for name in wanted
        if name in given and given[name].shape != wanted[name].shape
    ]
    missing = parts(sorted(wanted.keys() - given.keys()), others=given)
    unknown = parts(sorted(given.keys() - wanted.keys()), others=wanted)
    said = [f"it has no {', '.join(missing[:4])}"] if missing else []
    said += [f"nothing takes its {', '.join(unknown[:4])}"] if unknown else []
    said += shapes[:2]  # a few examples are enough
    return "; ".join(said) or ("" if wanted else "it has no parameters to begin from")
