"""The tables of the gradient variance paper: networks without and with the loss.

Abrahamyan, Truong, Philips, Deligiannis, "Gradient Variance Loss for Structure-Enhanced Image
Super-Resolution", ICASSP 2022, https://arxiv.org/abs/2202.00997

Table 1: VDSR, EDSR and ESPCN at x2, x3 and x4. Table 2: VDSR x2 with the base losses L2, L1 and
SSIM; nothing added, total variation (weight 1e-8 on sums, published code) or gradient variance.
It names neither set nor scale; its L2 rows equal DIV2K x2 of Table 1.

``cell`` makes the training of one cell, ``TABLE1`` and ``TABLE2`` hold the printed numbers. Those
are RGB numbers on LR images made by Pillow's bilinear filter (the published code, and the values,
say so; the text says bicubic): evaluate under ``gv_repo``. All networks here take and give RGB,
ESPCN too (the paper does not say): the numbers are RGB, and a luma network would owe a part of
them to the interpolation of the colours.

Both cells of a pair start from the same weights and see the same batches; nothing but the term
differs. The paper leaves open whether its runs with the loss went on from trained networks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from edgekeeper.errors import unknown_name
from edgekeeper.files import read_facts
from edgekeeper.losses import L1, L2, SSIM, TV, GradientVariance
from edgekeeper.models import EDSR, ESPCN, VDSR, SRModel
from edgekeeper.recipes.shipped import GV_PATCH, GV_WEIGHT
from edgekeeper.spec import Spec, spec
from edgekeeper.training.recipe import Data, Loss, Optim, Recipe, Stage, Term

TableName = Literal["gv_table1", "gv_table2"]
GVNetwork = Literal["vdsr", "edsr", "espcn"]
Scale = Literal[2, 3, 4]
Base = Literal["l2", "l1", "ssim"]
Addition = Literal["tv", "gv"]
Budget = Literal["quick", "standard", "paper"]
Degradation = Literal["bilinear", "bicubic"]

GV_NETWORKS: tuple[GVNetwork, ...] = get_args(GVNetwork)
GV_SCALES: tuple[Scale, ...] = get_args(Scale)
BASES: tuple[Base, ...] = get_args(Base)
ADDITIONS: tuple[Addition, ...] = get_args(Addition)

TV_WEIGHT = 1e-8
LOSSES: dict[Base, Spec[Loss]] = {"l2": spec(L2), "l1": spec(L1), "ssim": spec(SSIM)}
OWN_LOSS: dict[GVNetwork, Base] = {"vdsr": "l2", "edsr": "l1", "espcn": "l2"}  # in Table 1


@dataclass(frozen=True)
class Schedule:
    """What a budget buys for one network. ``patch`` is in the pixels in which the network works."""

    steps: int
    patch: int
    batch: int
    optim: Optim
    augment: Literal["none", "flips", "eight"] = "eight"
    crop: Literal["random", "centre"] = "random"


def _cosine(learning_rate: float, *, clip: float) -> Optim:
    return Optim(
        learning_rate=learning_rate, schedule="cosine", warmup=100, clip="norm", clip_limit=clip
    )


def _steps(learning_rate: float, *milestones: int, gamma: float) -> Optim:
    return Optim(learning_rate=learning_rate, schedule="steps", milestones=milestones, gamma=gamma)


_VDSR = Optim(
    learning_rate=0.1,
    kind="sgd",
    momentum=0.9,
    weight_decay=1e-4,
    schedule="steps",
    milestones=(130, 260),
    gamma=0.1,
    clip="norm",
    clip_limit=0.4,
)
_ESPCN = _steps(1e-2, 30_000, 80_000, gamma=0.1)
# "paper" holds what the papers or their code state:
# - VDSR as in the code published with the loss: 128 HR pixels, batch 64, 30 epochs of 13 updates,
#   SGD 0.1 divided by 10 after 10 and 20 epochs, gradient norm 0.4, the centre of each image.
# - EDSR section 4.2: 48 LR pixels, batch 16, Adam 1e-4 halved after 2e5 of 3e5 updates. All from
#   scratch, where EDSR begins x3 and x4 from x2.
# - ESPCN: 17 LR pixels, batch 16, rate from 1e-2 to 1e-4. Adam, the two drops and the number of
#   updates are ours: the paper stops by a criterion.
# "quick" and "standard" are ours: Adam, cosine, all eight symmetries.
SCHEDULES: dict[tuple[GVNetwork, Budget], Schedule] = {
    ("vdsr", "quick"): Schedule(400, 48, 8, _cosine(5e-4, clip=0.4)),
    ("edsr", "quick"): Schedule(600, 24, 8, _cosine(5e-4, clip=1.0)),
    ("espcn", "quick"): Schedule(6_000, 24, 16, _cosine(2e-3, clip=0.1)),
    ("vdsr", "standard"): Schedule(15_000, 96, 32, _cosine(5e-4, clip=0.4)),
    ("edsr", "standard"): Schedule(30_000, 48, 16, _cosine(2e-4, clip=1.0)),
    ("espcn", "standard"): Schedule(60_000, 32, 32, _cosine(2e-3, clip=0.1)),
    ("vdsr", "paper"): Schedule(390, 128, 64, _VDSR, augment="none", crop="centre"),
    ("edsr", "paper"): Schedule(300_000, 48, 16, _steps(1e-4, 200_000, gamma=0.5)),
    ("espcn", "paper"): Schedule(100_000, 17, 16, _ESPCN, augment="none"),
}


def cell(
    *,
    network: GVNetwork = "vdsr",
    scale: Scale = 2,
    base: Base | None = None,
    addition: Addition | None = None,
    budget: Budget = "standard",
    seed: int = 0,
    degradation: Degradation = "bilinear",
) -> Recipe:
    """Return the training of one cell: of Table 1, or with a ``base`` loss of Table 2.

    ``budget``: "quick" is minutes on two CPU cores, "standard" minutes on a GPU, "paper" the
    settings of the papers. ``degradation`` is the kernel that made the LR images of the store;
    VDSR enlarges its input with the same one.
    """
    schedule = SCHEDULES[network, budget]
    name = f"gv_table1_{network}_x{scale}" if base is None else f"gv_table2_{base}"
    name += f"_{addition}" if addition else ""
    name += "" if budget == "standard" else f"_{budget}"
    name += "" if degradation == "bilinear" else f"_{degradation}"
    name += f"_seed{seed}" if seed else ""
    first = Term("pixel" if base is None else "base", LOSSES[base or OWN_LOSS[network]])
    terms = (first, _added(addition, scale=scale)) if addition else (first,)
    # VDSR works at HR size, the others at LR; the patch is a multiple of the scale.
    patch = schedule.patch - schedule.patch % scale
    return Recipe(
        name=name,
        model=_model(network, scale=scale, degradation=degradation),
        data=Data(
            patch=patch if network == "vdsr" else schedule.patch * scale,
            batch=schedule.batch,
            augment=schedule.augment,
            crop=schedule.crop,
        ),
        stages=(Stage("train", steps=schedule.steps, optim=schedule.optim, terms=terms),),
        seed=seed,
    )


def _added(addition: Addition, *, scale: Scale) -> Term:
    if addition == "tv":
        return Term("tv", spec(TV), weight=TV_WEIGHT)
    return Term("gv", spec(GradientVariance, patch=GV_PATCH[scale]), weight=GV_WEIGHT)


def _model(network: GVNetwork, *, scale: int, degradation: Degradation) -> Spec[SRModel]:
    """Return the network of a column: VDSR of the loss's code, the EDSR baseline, ESPCN on RGB."""
    if network == "vdsr":
        return spec(VDSR, scale=scale, variant="gv", interpolation=degradation)
    if network == "edsr":
        return spec(EDSR, scale=scale)
    return spec(ESPCN, scale=scale, channels="rgb")


@dataclass(frozen=True)
class Printed:
    """What a paper prints without and with a part, None for what it does not print.

    ``note`` says what is odd about the numbers.
    """

    psnr: tuple[float, float] | None = None
    ssim: tuple[float, float] | None = None
    note: str = ""
    pi: tuple[float, float] | None = None


@dataclass(frozen=True)
class Comparison:
    """Two cells of a table that differ in one term: a recipe for each seed, without and with it.

    ``base`` and ``term`` name the losses; ``printed`` holds the paper's numbers, by set.
    """

    network: str
    scale: int
    base: str
    term: str
    without: tuple[Recipe, ...]
    added: tuple[Recipe, ...]
    printed: Mapping[str, Printed]


def comparisons(
    table: TableName,
    *,
    budget: Budget = "standard",
    networks: Sequence[str] | None = None,
    scales: Sequence[Scale] | None = None,
    seeds: Sequence[int] = (0,),
    degradation: Degradation = "bilinear",
) -> list[Comparison]:
    """Return the pairs of cells of the table, or of the chosen networks and scales.

    Raises InputError for a network or scale that the table does not have.
    """
    first = table == "gv_table1"
    columns, rows = (GV_NETWORKS, GV_SCALES) if first else (GV_NETWORKS[:1], GV_SCALES[:1])
    chosen, factors = networks or columns, scales or rows
    for kind, asked, known in (("network", chosen, columns), ("scale", factors, rows)):
        for value in asked:
            if value not in known:
                raise unknown_name(f"{kind} in this table", str(value), known=map(str, known))
    bases: tuple[Base | None, ...] = (None,) if first else BASES
    pairs = [
        (network, scale, base, addition)
        for network in columns
        if network in chosen
        for scale in factors
        for base in bases
        for addition in (ADDITIONS[1:] if first else ADDITIONS)
    ]

    def trained(
        network: GVNetwork, scale: Scale, base: Base | None, addition: Addition | None
    ) -> tuple[Recipe, ...]:
        return tuple(
            cell(
                network=network,
                scale=scale,
                base=base,
                addition=addition,
                budget=budget,
                seed=seed,
                degradation=degradation,
            )
            for seed in seeds
        )

    return [
        Comparison(
            network=network.upper(),
            scale=scale,
            base=LOSSES[base or OWN_LOSS[network]].name,
            term=addition.upper(),
            without=trained(network, scale, base, None),
            added=trained(network, scale, base, addition),
            printed=_printed(network, scale) if base is None else _printed(base, addition),
        )
        for network, scale, base, addition in pairs
    ]


def _printed(*key: object) -> dict[str, Printed]:
    return {of[0]: found for of, found in {**TABLE1, **TABLE2}.items() if of[1:] == key}


def _read(table: str) -> dict[tuple[str, str, str | int], Printed]:
    return {
        (of, row, int(column) if column.isdecimal() else column): Printed(
            tuple(found["psnr"]), tuple(found["ssim"]), found.get("note", "")
        )
        for of, rows in read_facts("edgekeeper.recipes", "gv_printed.toml")[table].items()
        for row, columns in rows.items()
        for column, found in columns.items()
    }


TABLE1 = _read("table1")  # by set, network and scale; protocol gv_repo
TABLE2 = _read("table2")  # by set, base loss and addition
GV_TABLES: dict[str, Recipe] = {
    recipe.name: recipe
    for table in get_args(TableName)
    for pair in comparisons(table)
    for recipe in (*pair.without, *pair.added)
}
"""The cells with the budget "standard", by name."""
