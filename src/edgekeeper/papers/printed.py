"""What the tables of SPSR and DGGGAN print, each number with the definition it was measured by.

SPSR: Ma et al., "Structure-Preserving Super Resolution with Gradient Guidance", CVPR 2020,
https://arxiv.org/abs/2003.13081, tables 1 and 2. DGGGAN: "Image Super-Resolution Using Gradient
Guidance and Generative Adversarial Networks", https://doi.org/10.54097/jceim.v10i1.5074, tables
1 to 4. All at x4. Both measure PSNR on MATLAB's uint8 luma without a border of 4 pixels; SSIM is
of two kinds, which differ by up to 0.25 on the same image:

- "spsr_toolbox": large images are shrunk first, as Wang's ssim.m does by itself;
- "y_matlab": they are not.

SPSR's tables have the first kind throughout; its row "Bicubic" was made from LR images that were
never rounded. DGGGAN's table 3 mixes both.
"""

from dataclasses import dataclass
from typing import Literal

from edgekeeper import models
from edgekeeper.models import SRModel
from edgekeeper.spec import Spec, spec

Definition = Literal["spsr_toolbox", "y_matlab", "not stated"]
Numbers = dict[str, tuple[float, ...]]
"""What a row prints: for psnr, ssim, lpips or pi a number for each set of the table."""

SPSR_PAPER = "SPSR (Ma et al., CVPR 2020)"
DGGGAN_PAPER = "DGGGAN (doi 10.54097/jceim.v10i1.5074)"


@dataclass(frozen=True)
class PrintedTable:
    """A table of a paper: numbers by row, as printed.

    sets: as the catalogue names them, in the order of the numbers. rows: by method, in the
    paper's order. ssim: the kind of SSIM of each set, by method; methods that are not named have
    that of ``usual_ssim``. notes: what is odd about the numbers.
    """

    number: int
    paper: str
    title: str
    sets: tuple[str, ...]
    rows: dict[str, Numbers]
    usual_ssim: Definition = "spsr_toolbox"
    ssim: tuple[tuple[str, tuple[Definition, ...]], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def measures(self) -> tuple[str, ...]:
        """What the table prints."""
        return tuple(dict.fromkeys(measure for row in self.rows.values() for measure in row))

    def value(self, method: str, *, set_name: str, measure: str) -> float | None:
        """Return the number in a cell, None for what the table does not print."""
        numbers = self.rows[method].get(measure)
        return None if numbers is None else numbers[self.sets.index(set_name)]

    def decimals(self, measure: str) -> int:
        """Return how many decimals the table prints of a measure, 0 when it prints none."""
        printed = [value for row in self.rows.values() for value in row.get(measure, ())]
        return max((len(str(value).partition(".")[2]) for value in printed), default=0)

    def definition(self, method: str, *, set_name: str) -> Definition:
        """Return the kind of SSIM that a row has on a set."""
        kinds = dict(self.ssim).get(method)
        return self.usual_ssim if kinds is None else kinds[self.sets.index(set_name)]


_SPSR1: dict[str, Numbers] = {
    "Bicubic": {
        "pi": (7.3699, 7.0268, 7.0026, 7.9365, 6.9435),
        "lpips": (0.3407, 0.4393, 0.5249, 0.3528, 0.4726),
        "psnr": (28.420, 26.100, 25.961, 28.018, 23.145),
        "ssim": (0.8245, 0.7850, 0.6675, 0.8282, 0.9011),
    },
    "SFTGAN": {
        "pi": (3.7587, 2.9063, 2.3774, 4.2878, 3.6136),
        "lpips": (0.0890, 0.1481, 0.1769, 0.1030, 0.1433),
        "psnr": (29.932, 26.223, 25.505, 29.026, 24.013),
        "ssim": (0.8665, 0.7854, 0.6549, 0.8508, 0.9364),
    },
    "SRGAN": {
        "pi": (3.9820, 3.0851, 2.5459, 4.3757, 3.6980),
        "lpips": (0.0882, 0.1663, 0.1980, 0.1055, 0.1551),
        "psnr": (29.168, 26.171, 25.459, 28.575, 24.397),
        "ssim": (0.8613, 0.7841, 0.6485, 0.8541, 0.9381),
    },
    "ESRGAN": {
        "pi": (3.7522, 2.9261, 2.4793, 4.3234, 3.7704),
        "lpips": (0.0748, 0.1329, 0.1614, 0.0879, 0.1229),
        "psnr": (30.454, 26.276, 25.317, 29.412, 24.360),
        "ssim": (0.8677, 0.7783, 0.6506, 0.8546, 0.9453),
    },
    "NatSR": {
        "pi": (4.1648, 3.1094, 2.7801, 4.6262, 3.6523),
        "lpips": (0.0939, 0.1758, 0.2114, 0.1117, 0.1500),
        "psnr": (30.991, 27.514, 26.445, 30.346, 25.464),
        "ssim": (0.8800, 0.8140, 0.6831, 0.8721, 0.9505),
    },
    "SPSR": {
        "pi": (3.2743, 2.9036, 2.3510, 4.0991, 3.5511),
        "lpips": (0.0644, 0.1318, 0.1611, 0.0863, 0.1184),
        "psnr": (30.400, 26.640, 25.505, 29.414, 24.799),
        "ssim": (0.8627, 0.7930, 0.6576, 0.8537, 0.9481),
    },
}

_SPSR2: dict[str, Numbers] = {
    "ESRGAN": {
        "pi": (2.926, 2.479, 3.770),
        "psnr": (26.276, 25.317, 24.360),
        "ssim": (0.778, 0.651, 0.945),
    },
    "SPSR w/o GB": {
        "pi": (2.864, 2.370, 3.604),
        "psnr": (26.027, 25.376, 23.939),
        "ssim": (0.785, 0.659, 0.940),
    },
    "SPSR w/o GL": {
        "pi": (3.028, 2.456, 3.605),
        "psnr": (26.547, 25.214, 24.309),
        "ssim": (0.794, 0.647, 0.942),
    },
    "SPSR": {
        "pi": (2.904, 2.351, 3.551),
        "psnr": (26.640, 25.505, 24.799),
        "ssim": (0.793, 0.658, 0.948),
    },
}

_DGGGAN3: dict[str, Numbers] = {
    "EDSR": {"psnr": (32.46, 28.79, 27.70, 26.64), "ssim": (0.8966, 0.7874, 0.7417, 0.8031)},
    "RCAN": {"psnr": (32.63, 28.87, 27.77, 26.81), "ssim": (0.9002, 0.7889, 0.7435, 0.8088)},
    "RDN": {"psnr": (32.46, 28.81, 27.72, 26.61), "ssim": (0.8990, 0.7871, 0.7419, 0.8028)},
    "DBPN": {"psnr": (32.47, 28.82, 27.73, 26.37), "ssim": (0.8980, 0.7859, 0.7401, 0.7944)},
    "ESRGAN": {"psnr": (30.45, 26.28, 25.31, 24.36), "ssim": (0.8677, 0.7783, 0.6506, 0.7017)},
    "SRGAN": {"psnr": (29.16, 26.17, 25.46, 24.40), "ssim": (0.8613, 0.7841, 0.6485, 0.6988)},
    "NatSR": {"psnr": (30.99, 27.51, 26.45, 25.46), "ssim": (0.8800, 0.8140, 0.6831, 0.7432)},
    "SPSR": {"psnr": (30.40, 26.64, 25.51, 24.80), "ssim": (0.8627, 0.7930, 0.6576, 0.7237)},
    "DGGGAN": {"psnr": (30.48, 26.69, 25.49, 24.72), "ssim": (0.8601, 0.7884, 0.6573, 0.7093)},
}

_DGGGAN4: dict[str, Numbers] = {
    "EDSR": {"pi": (5.9819, 5.2594, 5.2625, 4.9844), "lpips": (0.2088, 0.2963, 0.3249, 0.2923)},
    "RCAN": {"pi": (6.3749, 5.7127, 5.7588, 5.4181), "lpips": (0.2158, 0.3106, 0.3317, 0.2944)},
    "RDN": {"pi": (6.0092, 5.4633, 5.5412, 5.2502), "lpips": (0.2134, 0.3039, 0.3299, 0.3162)},
    "DBPN": {"pi": (6.1324, 5.4596, 5.4915, 5.1360), "lpips": (0.2108, 0.2985, 0.3250, 0.2748)},
    "ESRGAN": {"pi": (3.7522, 2.9261, 2.4793, 3.7704), "lpips": (0.0748, 0.1329, 0.1614, 0.1229)},
    "SRGAN": {"pi": (3.9820, 3.0851, 2.5459, 3.6980), "lpips": (0.0882, 0.1663, 0.1980, 0.1551)},
    "NatSR": {"pi": (4.1648, 3.1094, 2.7801, 3.6523), "lpips": (0.0939, 0.1758, 0.2114, 0.1500)},
    "SPSR": {"pi": (3.2743, 2.9036, 2.3510, 3.5511), "lpips": (0.0644, 0.1318, 0.1611, 0.1184)},
    "DGGGAN": {"pi": (3.2559, 2.7565, 2.3508, 3.5486), "lpips": (0.0641, 0.1355, 0.1645, 0.1107)},
}

_FOUR = ("set5", "set14", "bsd100", "urban100")
_COPIED = ("ESRGAN", "SRGAN", "NatSR", "SPSR")
_COPIED_SSIM: tuple[Definition, ...] = (*("spsr_toolbox",) * 3, "y_matlab")
_UNSTATED: tuple[Definition, ...] = ("not stated",) * 4

PRINTED: dict[str, PrintedTable] = {
    "spsr-table1": PrintedTable(
        1,
        SPSR_PAPER,
        "comparison",
        ("set5", "set14", "bsd100", "general100", "urban100"),
        _SPSR1,
        notes=(
            "The paper says that SPSR leads ESRGAN in everything; on Set5 (PSNR, SSIM) and "
            "General100 (SSIM) its table has ESRGAN ahead.",
        ),
    ),
    "spsr-table2": PrintedTable(
        2,
        SPSR_PAPER,
        "without the gradient branch (GB), without the gradient loss (GL)",
        ("set14", "bsd100", "urban100"),
        _SPSR2,
    ),
    "dgggan-table1": PrintedTable(
        1,
        DGGGAN_PAPER,
        "without and with the gradient branch",
        _FOUR,
        {
            "DGGGAN without gradient branch": {"pi": (3.5716, 3.0795, 2.7136, 3.9815)},
            "DGGGAN with gradient branch": {"pi": (3.2559, 2.7565, 2.3508, 3.5486)},
        },
    ),
    "dgggan-table2": PrintedTable(
        2,
        DGGGAN_PAPER,
        "without and with squeeze and excitation",
        ("set5",),
        {"DGGGAN without SE": {"pi": (3.3427,)}, "DGGGAN with SE": {"pi": (3.2559,)}},
        notes=("Its FLOPs, 23.6 G and 23.7 G, stand in dgggan-table5.",),
    ),
    "dgggan-table3": PrintedTable(
        3,
        DGGGAN_PAPER,
        "PSNR and SSIM",
        _FOUR,
        _DGGGAN3,
        usual_ssim="y_matlab",  # EDSR to DBPN: within 0.01 dB and 0.0004 of their own papers
        ssim=(*((name, _COPIED_SSIM) for name in _COPIED), ("DGGGAN", _UNSTATED)),
        notes=(
            "Rows ESRGAN to SPSR are those of SPSR's Table 1, cut or rounded to two decimals, but "
            "for SSIM on Urban100, which is of the other kind: no column of the printed table can "
            "be compared from top to bottom. What kind DGGGAN's own SSIM is, nothing says.",
        ),
    ),
    "dgggan-table4": PrintedTable(
        4,
        DGGGAN_PAPER,
        "PI and LPIPS",
        _FOUR,
        _DGGGAN4,
        notes=(
            "Rows ESRGAN to SPSR are those of SPSR's Table 1.",
            "Rows EDSR to DBPN have LPIPS of another, unstated kind: RCAN's own images of Set5 "
            "give 0.1692, not 0.2158.",
        ),
    ),
}
"""The tables by the name that the command line has for them."""


# ---- The papers' networks as points for comparison ----------------------------------------------

PRINTED_NETWORKS: dict[str, Spec[SRModel]] = {
    "EDSR": spec(models.EDSR, width=256, blocks=32, residual_scale=0.1, scale=4),
    "RCAN": spec(models.RCAN),
    "RDN": spec(models.RDN),
    "DBPN": spec(models.DBPN),
    "SFTGAN": spec(models.SFTGAN),
    "SRGAN": spec(models.SRResNet),
    "ESRGAN": spec(models.RRDB),
    "NatSR": spec(models.NatSR),
    "SPSR": spec(models.SPSR),
    "DGGGAN": spec(models.DGGGAN),
}
"""The network of each printed row; DGGGAN is design A, the one that meets its printed cost."""

WITHOUT_LPIPS = ("EDSR", "RCAN", "RDN", "DBPN")
"""Rows whose printed LPIPS is of an unstated kind: RCAN's own images do not measure it."""


@dataclass(frozen=True)
class Quoted:
    """A method, its network, and what the papers print for it on a set."""

    method: str
    model: Spec[SRModel]
    psnr: float | None
    lpips: float | None


def quoted_networks(set_name: str) -> list[Quoted]:
    """The printed PSNR (luma, border 4) and LPIPS on a set at x4; SPSR's table where both print.

    LPIPS is None for ``WITHOUT_LPIPS``. Methods without a number on the set are left out.
    """
    found = []
    for method, model in PRINTED_NETWORKS.items():
        psnr, lpips = (_first(method, set_name, measure) for measure in ("psnr", "lpips"))
        if method in WITHOUT_LPIPS:
            lpips = None
        if psnr is not None or lpips is not None:
            found.append(Quoted(method, model, psnr, lpips))
    return found


def _first(method: str, set_name: str, measure: str) -> float | None:
    for name in ("spsr-table1", "dgggan-table3", "dgggan-table4"):
        table = PRINTED[name]
        if method in table.rows and set_name in table.sets:
            value = table.value(method, set_name=set_name, measure=measure)
            if value is not None:
                return value
    return None
