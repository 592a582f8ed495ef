"""Whether tiles show: the result made in tiles against the same made at once."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from edgekeeper.image import Image, open_image, to_tensor
from edgekeeper.inference.categories import CategoryMap, find_maps
from edgekeeper.inference.choose import networks_for, plan_passes, probe_runtime
from edgekeeper.inference.flow import runner_of
from edgekeeper.inference.network import Finish, tile_overlap
from edgekeeper.inference.request import Request, Result
from edgekeeper.models import SRModel
from edgekeeper.ops.tiles import RowWindow, Seams, Tile, plan_tiles, tile_side, tiled_bands, to_host


def verify_seams(
    model: SRModel, lr: Tensor, *, request: Request | None = None, maps: Tensor | None = None
) -> Seams:
    """Return what tiles change on a part of an image ``lr``, grey or RGB (1, C, h, w) in [0, 1].

    The part must be larger than a tile, or there is nothing to compare; where memory is short
    ask for a smaller tile, since the part is also run whole. ``maps`` (1, 8, scale·h, scale·w)
    are for networks that take maps of categories.
    Raises InputError: the tile is too small for the network's context, or maps for a network that
    takes none.
    """
    request = request or Request()
    scale = model.scale
    back = networks_for(request).faithful
    finish = Finish(scale=scale, sharpness=request.used_sharpness, back=back)
    runner = runner_of(model, request, finish=finish)
    size = (lr.shape[-2], lr.shape[-1])
    side = tile_side(request.tile, overlap=runner.overlap, size=size, device=runner.device)
    probe_runtime(runner, size, maps=maps)
    whole = to_host(runner(lr, maps=maps, border=(model.border,) * 4))  # (1, C, sh, sw)
    grid = plan_tiles(
        size, tile=side, overlap=runner.overlap, multiple=model.multiple, border=model.border
    )

    def enlarged(part: Tensor, tile: Tile) -> Tensor:
        beside = None
        if maps is not None:
            rows, columns = (
                slice(s.start * scale, s.stop * scale) for s in (tile.rows, tile.columns)
            )
            beside = maps[..., rows, columns]
        return runner(part, maps=beside, border=tile.border)

    bands = tiled_bands(enlarged, RowWindow(iter([lr])), grid=grid, scale=scale)
    levels = float((torch.cat(list(bands), dim=-2) - whole).abs().max()) * 255
    return Seams(levels=levels, tile=side, overlap=runner.overlap)


def measure_seams(
    path: Path, request: Request, *, categories: CategoryMap | None = None
) -> Seams | None:
    """Return what tiles change in the middle of an image; None if no network or no cut is needed.

    Unless a tile was chosen it is small, since then there are more cuts: what they change depends
    on the context that tiles are given, not on their size.
    """
    networks = networks_for(request)
    with open_image(path, tolerant=request.tolerant) as reader:
        header = reader.header
        size = (header.height, header.width)
        plan = plan_passes(size, request, factors=networks.factors)
        if not plan.passes:
            return None
        model = networks.load(plan.passes[0])
        overlap = tile_overlap(model, consistent=request.consistent)
        tile = max(4 * overlap, 64) if request.tile == "auto" else request.tile
        if tile >= max(size):
            tile = 2 * overlap + 8
        if tile >= max(size):
            return None
        (top, below), (left, right) = (_middle(length, 2 * tile) for length in size)
        samples = reader.rows(top, below)[:, left:right, : header.colours]
    part, maps = to_tensor(Image(pixels=samples)), None
    if categories is not None:
        box = slice(top, below), slice(left, right)
        maps = categories.cut(*box, size=size, scale=model.scale)
    return verify_seams(model, part, request=replace(request, tile=tile), maps=maps)


def add_seams(result: Result, request: Request) -> Result:
    """Return the result of an image file with what tiles change in it, or a note that none do."""
    categories = None
    if request.categories is not None:
        of = find_maps(request.categories, images=[result.source], sources=request.sources)
        categories = of(result.source)
    seams = measure_seams(result.source, request, categories=categories)
    if seams is None:
        note = "It is made in one piece: there are no seams to measure."
        return replace(result, notes=(*result.notes, note))
    return replace(result, seams=seams)


def _middle(length: int, wanted: int) -> tuple[int, int]:
    start = max((length - wanted) // 2, 0)
    return start, min(start + wanted, length)
