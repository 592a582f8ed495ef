"""The image sets of the field: where they come from, under what licence, what they may be for.

Sizes and SHA-256 of single files lie in ``digests.txt`` (lines of: set, path, bytes, SHA-256),
which ``fetch`` reads. Where an address is given without a digest, none is published and none is
checked.
"""

from dataclasses import dataclass
from typing import Literal

from edgekeeper.errors import unknown_name

SELFEXSR = "https://github.com/jbhuang0604/SelfExSR"
SELFEXSR_DATA = f"{SELFEXSR}/raw/18e00f2d1bd3941e9b8d4895d3541543ad86d5b2/data"
BSDS500 = "https://github.com/BIDS/BSDS500"
BSDS500_IMAGES = f"{BSDS500}/raw/master/BSDS500/data/images"


@dataclass(frozen=True)
class Remote:
    """One file of a set: its path in the set's folder, its address, and what it must be.

    ``size`` (bytes) and ``sha256`` are None when unknown. ``unpack``: a zip whose images go
    into the set's folder.
    """

    path: str
    address: str
    size: int | None = None
    sha256: str | None = None
    unpack: Literal["no", "zip"] = "no"


RESEARCH = "none stated; research use only"


@dataclass(frozen=True)
class ImageSet:
    """A set of images and the facts about it.

    ``folder`` is where it lies below the data root. ``licence`` is what its source states.
    ``may_ship``: whether networks trained on it may be published with the project.
    ``bases``: (beginning of the path, address before the rest) for the files of ``digests.txt``.
    ``how``: what to do when it cannot be fetched. ``names``: the images' usual names, in order.
    ``hr_scale``: the scale whose HR images serve for all scales (None: each scale its own).
    ``caution``: what to know before using it.
    """

    name: str
    title: str
    kind: Literal["test", "train"]
    count: int
    origin: str
    folder: str
    licence: str = RESEARCH
    may_ship: bool = False
    bases: tuple[tuple[str, str], ...] = ()
    archives: tuple[Remote, ...] = ()
    how: str = ""
    names: tuple[str, ...] = ()
    hr_scale: int | None = None
    caution: str = ""


SETS: tuple[ImageSet, ...] = (
    ImageSet(
        "set5",
        "Set5 (Bevilacqua et al., BMVC 2012)",
        "test",
        5,
        SELFEXSR,
        "benchmarks/Set5",
        bases=(("", f"{SELFEXSR_DATA}/Set5/"),),
        names=("baby", "bird", "butterfly", "head", "woman"),
    ),
    ImageSet(
        "set14",
        "Set14 (Zeyde et al., Curves and Surfaces 2010)",
        "test",
        14,
        SELFEXSR,
        "benchmarks/Set14",
        bases=(("", f"{SELFEXSR_DATA}/Set14/"),),
        names=(
            *("baboon", "barbara", "bridge", "coastguard", "comic", "face", "flowers"),
            *("foreman", "lenna", "man", "monarch", "pepper", "ppt3", "zebra"),
        ),
    ),
    ImageSet(
        "bsd100",
        "BSD100: the val images of BSDS500 (Martin et al., ICCV 2001), LR of SelfExSR",
        "test",
        100,
        BSDS500,
        "benchmarks/BSD100",
        licence="research and education only",
        bases=(("HR/", f"{BSDS500_IMAGES}/val/"), ("", f"{SELFEXSR_DATA}/BSD100/")),
        caution="These are the val images of BSDS500: never train on that part.",
    ),
    ImageSet(
        "urban100",
        "Urban100 (Huang et al., CVPR 2015)",
        "test",
        100,
        SELFEXSR,
        "benchmarks/Urban100",
        archives=tuple(
            Remote(
                f"image_SRF_4/img_{n:03d}_SRF_4_HR.png",
                f"{SELFEXSR_DATA}/Urban100/image_SRF_4/img_{n:03d}_SRF_4_HR.png",
            )
            for n in range(1, 101)
        ),
        hr_scale=4,
        caution="The HR images of image_SRF_2 at the same address have half the size; no digests "
        "are published: `edgekeeper data check urban100` compares bicubic with SPSR's Table 1.",
    ),
    ImageSet(
        "general100",
        "General100 (Dong et al., FSRCNN, ECCV 2016)",
        "test",
        100,
        "http://mmlab.ie.cuhk.edu.hk/projects/FSRCNN.html",
        "benchmarks/General100",
        how="Get the images from the FSRCNN project page and put the HR images in the folder; "
        "`edgekeeper data check general100` compares bicubic with SPSR's Table 1.",
    ),
    ImageSet(
        "manga109",
        "Manga109 (Matsui et al., Multimedia Tools and Applications 2017)",
        "test",
        109,
        "http://www.manga109.org",
        "benchmarks/Manga109",
        licence="academic use only, no redistribution",
        how="Apply at http://www.manga109.org and put the HR images in the folder.",
        caution="None of the three papers prints it, so there is no value to check it by.",
    ),
    ImageSet(
        "kodak",
        "Kodak lossless true colour image suite",
        "test",
        24,
        "https://r0k.us/graphics/kodak/",
        "benchmarks/Kodak",
        licence="released by Kodak for unrestricted use, as the page states",
        archives=tuple(
            Remote(f"kodim{n:02d}.png", f"https://r0k.us/graphics/kodak/kodak/kodim{n:02d}.png")
            for n in range(1, 25)
        ),
    ),
    ImageSet(
        "div2k",
        "DIV2K training images 0001-0800 (Agustsson and Timofte, CVPRW 2017)",
        "train",
        800,
        "https://data.vision.ee.ethz.ch/cvl/DIV2K/",
        "train/DIV2K_train_HR",
        licence="academic research only",
        archives=(
            Remote(
                "DIV2K_train_HR.zip",
                "https://data.vision.ee.ethz.ch/cvl/DIV2K/DIV2K_train_HR.zip",
                3530603713,
                "9d0b9c463f6e35b6c62cc6a930ee2224f670b34c1df841a57670f9acf0f6c335",
                unpack="zip",
            ),
        ),
    ),
    ImageSet(
        "div2k_valid",
        "DIV2K validation images 0801-0900 (Agustsson and Timofte, CVPRW 2017)",
        "test",
        100,
        "https://data.vision.ee.ethz.ch/cvl/DIV2K/",
        "benchmarks/DIV2K_valid_HR",
        licence="academic research only",
        archives=(
            Remote(
                "DIV2K_valid_HR.zip",
                "https://data.vision.ee.ethz.ch/cvl/DIV2K/DIV2K_valid_HR.zip",
                448993893,
                "20dd31fd84d777bc1cf5d6b7654a3f569c0aec74458ae094122ad1d0489900fc",
                unpack="zip",
            ),
        ),
    ),
    ImageSet(
        "div2k_test_lr",
        "DIV2K test images 0901-1000, downsampled by 4, used as small HR images",
        "train",
        100,
        "https://data.vision.ee.ethz.ch/cvl/DIV2K/",
        "train/DIV2K_test_LR_x4",
        licence="academic research only",
        how="Get the x4 bicubic LR of the test images from the DIV2K page.",
        caution="The HR test images are not public; these small ones serve as HR themselves.",
    ),
    ImageSet(
        "flickr2k",
        "Flickr2K (Lim et al., EDSR, CVPRW 2017)",
        "train",
        2650,
        "https://cv.snu.ac.kr/research/EDSR/Flickr2K.tar",
        "train/Flickr2K",
        licence="Flickr photographs under their authors' terms; research use only",
        how="Fetch the archive (11 GB, no digest published); unpack Flickr2K_HR into the folder.",
    ),
    ImageSet(
        "t91",
        "T91: 91 training images (Yang et al., TIP 2010)",
        "train",
        91,
        "http://www.ifp.illinois.edu/~jyang29/ScSR.htm",
        "train/T91",
        how="Take Data/Training from ScSR.rar on the page of the paper.",
    ),
    ImageSet(
        "bsds500_train",
        "The train images of BSDS500 (Arbelaez et al., PAMI 2011); with T91 the '291' set",
        "train",
        200,
        BSDS500,
        "train/BSDS500_train",
        licence="research and education only",
        bases=(("", f"{BSDS500_IMAGES}/train/"),),
        caution="302003.jpg is the image 'woman' of Set5: leave it out to test on Set5.",
    ),
    ImageSet(
        "photos_cc0",
        "Photographs of the Budgie desktop backgrounds",
        "train",
        19,
        "https://github.com/BuddiesOfBudgie/budgie-backgrounds",
        "train/photos_CC0",
        licence="CC0-1.0",
        may_ship=True,
        bases=(
            ("", "https://github.com/BuddiesOfBudgie/budgie-backgrounds/raw/main/backgrounds/"),
        ),
    ),
    ImageSet(
        "photos_public_domain",
        "Unsplash photographs of the Pop!_OS wallpapers",
        "train",
        11,
        "https://github.com/pop-os/wallpapers",
        "train/photos_public_domain",
        licence="public domain, as the source states",
        may_ship=True,
        bases=(("", "https://github.com/pop-os/wallpapers/raw/master/original/"),),
    ),
    ImageSet(
        "photos_more",
        "Photographs from the air, of nature and of things, shrunk to 1,800 pixels",
        "train",
        66,
        "https://github.com/OpenDroneMap, https://github.com/pierotofy, "
        "https://github.com/merkato/odm_boruszyn_kap, https://github.com/PDDatabase/PDImages, "
        "Debian's package lomiri-wallpapers",
        "train/photos_more",
        licence="per file, in its ORIGIN.csv: CC0, BSD-2-Clause, MIT, CC BY 3.0 and 4.0",
        may_ship=True,
        how="Take the files that ORIGIN.csv names from the sources that it names.",
        caution="Two thirds are views from the air, alike within a series.",
    ),
)


def names() -> tuple[str, ...]:
    """Return the names of all sets."""
    return tuple(entry.name for entry in SETS)


def find_set(name: str) -> ImageSet:
    """The set called ``name`` (upper or lower case); InputError with the nearest known name."""
    for entry in SETS:
        if entry.name == name.lower():
            return entry
    raise unknown_name("image set", name, known=names())
