"""``edgekeeper train``."""

import dataclasses
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekeeper.cli.options import (
    PATH,
    chosen_device,
    data_option,
    device_option,
    find_recipe,
    own_folder,
    settings_option,
)
from edgekeeper.errors import CheckpointError, EdgekeeperError

if TYPE_CHECKING:
    from edgekeeper.training.recipe import Recipe


@click.command(
    "train",
    epilog="Example: edgekeeper train espcn_x3 --store photos.store --out runs/espcn_x3 "
    "--no-validation --time-limit 10",
)
@click.argument("recipe")
@click.option(
    "--store",
    required=True,
    help="A store of `edgekeeper data prepare`: a folder or an address (s3://bucket/photos.store).",
)
@click.option("--out", required=True, help="Folder or address of the run; one found there goes on.")
@data_option("Folder with the benchmark sets, for validation.")
@device_option()
@settings_option
@click.option("--seed", type=int, help="Another seed than the recipe's.")
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=1,
    help="Threads that read batches ahead; any number gives the same result.",
)
@click.option(
    "--time-limit",
    type=click.FloatRange(0, min_open=True),
    metavar="MINUTES",
    help="Save and stop after so long; the same command goes on.",
)
@click.option(
    "--checkpoint-every",
    type=click.IntRange(1),
    default=500,
    metavar="STEPS",
    help="How often the whole state is saved.",
)
@click.option(
    "--start",
    help="Network to begin from: a file, of edgekeeper or another program, or the name of a "
    "shipped network.  [default: the shipped network that the recipe names]",
)
@click.option(
    "--resume-from", type=PATH, help="Checkpoint of a run whose recipe agrees up to that step."
)
@click.option("--no-validation", is_flag=True, help="Do not score a benchmark set during the run.")
@click.option("--graph", is_flag=True, help="Replay the update as a CUDA graph; Adam and SOAP.")
@click.option(
    "--accumulate",
    type=click.IntRange(1),
    default=1,
    metavar="PARTS",
    help="Give the network each batch in so many parts: less memory, the same result up to "
    "rounding, a third more time.",
)
@click.option(
    "--store-on",
    type=click.Choice(["auto", "host", "device", "remote"]),
    default="auto",
    help="Where the images lie. auto: on an accelerator, if half of its free memory suffices; a "
    "store at an address is copied, or left there and streamed if there is no room.",
)
@click.option("--deterministic", is_flag=True, help="Accelerators: kernels that repeat their bits.")
@click.option("--compile", is_flag=True, help="Compile the network with torch.compile.")
@click.option("--tensorboard", is_flag=True, help="Write curves for TensorBoard too.")
@click.option("--wandb", metavar="PROJECT", help="Send curves to Weights & Biases too.")
def train_command(
    recipe: str,
    store: str,
    out: str,
    data: Path | None,
    device: str,
    settings: tuple[str, ...],
    seed: int | None,
    time_limit: float | None,
    start: str | None,
    no_validation: bool,
    **others: Any,
) -> None:
    """Train a network from RECIPE: a name, a TOML file, or a Python file that defines `recipe`.

    Ctrl-C saves and ends the run; the same command goes on where it stopped, in the same bits as
    if it had never been interrupted. `torchrun --nproc-per-node 2 -m edgekeeper train ...` runs it
    on two processes, with the result of one up to rounding.
    """
    chosen = find_recipe(recipe)
    if seed is not None:
        chosen = dataclasses.replace(chosen, seed=seed)
    if no_validation:
        chosen = dataclasses.replace(chosen, validation=None)
    from edgekeeper.data.remote import cached, is_address, open_store
    from edgekeeper.pretrained.zoo import WEIGHTS, find
    from edgekeeper.training.loop import RunOptions, train
    from edgekeeper.training.settings import with_settings

    chosen = with_settings(chosen, settings)

    if start is None and chosen.start is not None:
        shipped = WEIGHTS / f"{chosen.start.recipe}.safetensors"
        start = chosen.start.recipe if shipped.is_file() else None
    images = open_store(store, on=others["store_on"])
    if chosen.name.endswith("_distilled") and not images.index.teacher:
        click.echo(
            f"{chosen.name} is for a store with a teacher's results, and '{store}' has none: this "
            "trains on the images themselves. `edgekeeper data prepare --teacher` makes one.",
            err=True,
        )
    start_from = find(start) if start is not None else None
    folder = cached(out, what="runs") if is_address(out) else Path(out)
    is_new = not folder.exists()
    own_folder(folder)
    on, local = chosen_device(device), os.environ.get("LOCAL_RANK")  # as torchrun numbers them
    options = RunOptions(
        out=folder,
        remote=out if is_address(out) else None,
        device=f"cuda:{local}" if on == "cuda" and local is not None else on,
        time_limit=time_limit * 60 if time_limit else None,
        start_from=start_from,
        data_root=data,
        **others,  # which RunOptions calls as the command does
    )
    try:
        outcome = train(chosen, images, options=options)
    except EdgekeeperError as error:
        if is_new:
            with suppress(OSError):  # there is something in it
                folder.rmdir()
        if isinstance(error, CheckpointError) and start and (names := _that_start(chosen)):
            raise CheckpointError(f"{error} Recipes of that network that do: {names}.") from error
        raise
    if os.environ.get("RANK", "0") != "0":  # of the processes that torchrun started one speaks
        return
    if outcome.model_path is not None:
        place = f"{out}/{outcome.model_path.name}" if options.remote else outcome.model_path
        click.echo(f"Finished after {outcome.step} steps: {place}")
    else:
        reason = "time limit" if outcome.status == "time limit" else "on request"
        click.echo(
            f"Stopped ({reason}) after {outcome.step} of {chosen.steps} steps; "
            "the same command goes on from here."
        )


def _that_start(recipe: "Recipe") -> str:
    """Return the names of the recipes that train the same class and begin from another network."""
    from edgekeeper.recipes import RECIPES

    same = (r for r in RECIPES.values() if r.model.target is recipe.model.target and r.start)
    return "" if recipe.start else ", ".join(sorted(r.name for r in same))
