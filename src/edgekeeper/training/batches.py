"""The batches of a recipe's updates: drawn from the store, chosen, degraded, made float."""

import zlib
from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from edgekeeper.data.degradations import degrade
from edgekeeper.data.store import Batch, Store
from edgekeeper.models import SRModel
from edgekeeper.ops.color import rgb_to_y
from edgekeeper.training.distributed import all_gather, all_reduce_max, get_rank, world_size
from edgekeeper.training.recipe import Recipe


def stage_batches(
    recipe: Recipe,
    store: Store,
    *,
    steps: range,
    scale: int,
    workers: int,
    device: str | torch.device | None = None,
) -> Iterator[Batch]:
    """Yield what the updates ``steps`` of the run, all of one stage, learn from.

    They come out on ``device``, by default the store's; read in pinned memory on the way to CUDA.
    """
    if not steps:
        return
    stage, _ = recipe.stage_at(steps.start)
    there = store.device.type
    # a streamed batch is read in shards, if all ranks stream
    sharded = not all_reduce_max(int(not store.streamed), device=str(device or there))
    # more than one update needs: parts for further discriminator updates, candidates to choose from
    size = recipe.data.batch * stage.batches * stage.candidates
    drawn = store.batches(
        seed=recipe.seed,
        start=steps.start,
        size=size,
        patch=recipe.data.patch,
        scale=scale,
        augment=recipe.data.augment,
        crop=recipe.data.crop,
        memory="pinned" if torch.device(device or "cpu").type == "cuda" != there else "pageable",
        rank=get_rank() if sharded else 0,
        ranks=world_size() if sharded else 1,
        workers=workers if store.device.type == "cpu" else 0,  # on a device reading is a gather
    )
    for step, batch in zip(steps, drawn, strict=False):
        batch = batch if device is None else batch.to(device)  # bytes, a quarter of floats
        if sharded:  # from all ranks, as bytes
            of = torch.empty(size, 0)
            batch = Batch(all_gather(batch.lr, like=of), all_gather(batch.hr, like=of))
        # chosen before the degradation, which costs more than a copy
        chosen = keep_edge_patches(batch, keep=recipe.data.batch, groups=stage.batches)
        yield degraded(chosen, recipe=recipe, scale=scale, step=step)  # bytes, still


def keep_edge_patches(batch: Batch, *, keep: int, groups: int = 1) -> Batch:
    """Return the patches of ``batch`` with the largest mean squared difference of neighbours.

    Of each of ``groups`` equal parts of the batch ``keep`` are taken.
    """
    if len(batch.hr) == keep * groups:
        return batch
    green = batch.hr[:, 1].float()  # (B, P, P); stands for luma, at a third of the cost
    across = (green[:, :, 1:] - green[:, :, :-1]).square().mean((1, 2))  # (B,)
    down = (green[:, 1:] - green[:, :-1]).square().mean((1, 2))  # (B,)
    strength = (across + down).view(groups, -1)  # (groups, B / groups)
    first = torch.arange(groups, device=strength.device)[:, None] * strength.shape[1]
    chosen = (strength.topk(keep).indices + first).flatten()  # (groups * keep,)
    return Batch(batch.lr[chosen], batch.hr[chosen])


def degraded(batch: Batch, *, recipe: Recipe, scale: int, step: int) -> Batch:
    """Return ``batch`` with LR made of HR as the recipe says, for update ``step`` of the run."""
    settings = recipe.data.degradations
    if settings is None:  # LR as stored
        return batch
    key = {"seed": recipe.seed, "step": step, "first_index": 0}  # one draw for each patch
    lr = degrade(batch.as_float().hr, scale=scale, settings=settings, **key)  # (B, 3, h, w)
    return Batch((lr * 255).round().to(torch.uint8), batch.hr)  # on the grid of 1/255, exact


def image_pairs(batch: Batch, *, recipe: Recipe, model: SRModel) -> list[tuple[Tensor, Tensor]]:
    """Return LR (B, C, H, W) and HR (B, C, rH, rW) in [0, 1], in parts of the recipe's batch.

    Stored bytes (B, 3, H, W) become what the network takes, RGB or luma.
    """
    lr, hr = (pixels.float().div_(255) for pixels in (batch.lr, batch.hr))
    if model.channels == "y":
        lr, hr = rgb_to_y(lr), rgb_to_y(hr)  # (B, 1, H, W)
    if recipe.layout == "channels_last":
        lr = lr.contiguous(memory_format=torch.channels_last)
    # the first part is for the generator, further ones for its discriminators alone
    size = recipe.data.batch
    return list(zip(torch.split(lr, size), torch.split(hr, size), strict=True))


def step_generator(*, seed: int, step: int, turn: int, into: Generator | None = None) -> Generator:
    """Return ``into``, or a generator of the CPU, seeded by the other arguments alone."""
    # A generator of the CPU takes no more than 32 bits of its seed.
    key = zlib.crc32(f"{seed} {step} {turn}".encode())
    return (Generator() if into is None else into).manual_seed(key)
