"""The codecs that videos are written with, and the pixel layouts that they take."""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgekeeper.errors import InputError, UnavailableError, check_choice
from edgekeeper.inference.choose import cpu_capabilities

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext


@dataclass(frozen=True, kw_only=True)
class Codec:
    """A way to encode."""

    encoder: str  # FFmpeg's name
    crf: int | None  # the default; None where there is no such number
    most: int = 0  # the end of crf
    options: tuple[tuple[str, str], ...] = ()


CODECS = {
    "libx264": Codec(encoder="libx264", crf=16, most=51),
    "libx265": Codec(
        encoder="libx265", crf=18, most=51, options=(("x265-params", "log-level=error"),)
    ),
    "libsvtav1": Codec(
        encoder="libsvtav1", crf=22, most=63, options=(("preset", "6"), ("svtav1-params", "lp=2"))
    ),
    "libaom-av1": Codec(
        encoder="libaom-av1", crf=20, most=63, options=(("cpu-used", "4"), ("row-mt", "1"))
    ),
    "libvpx-vp9": Codec(
        encoder="libvpx-vp9", crf=20, most=63, options=(("b", "0"), ("row-mt", "1"))
    ),
    "prores": Codec(encoder="prores_ks", crf=None, options=(("vendor", "apl0"),)),
    "ffv1": Codec(encoder="ffv1", crf=None, options=(("level", "3"), ("slicecrc", "1"))),
}


def usual_codec(target: Path) -> str:
    """Return the codec for a file that is named so: VP9, or AV1 where there is none, in WebM."""
    if target.suffix.lower() != ".webm":
        return "libx264"
    import av

    known = ("libvpx-vp9", "libsvtav1", "libaom-av1")
    return next((name for name in known if name in av.codecs_available), known[0])


def check_options(codec: str, crf: int | None) -> None:
    """Raise InputError for a codec that is not known or not there, or a quality that it has not."""
    check_choice("video codec", codec, known=CODECS)
    known = CODECS[codec]
    if crf is not None and known.crf is None:
        raise InputError(f"{codec} has no quality to choose; leave crf out.")
    if crf is not None and not 0 <= crf <= known.most:
        raise InputError(
            f"A crf of {crf} was given; {codec} takes 0 (best) to {known.most}, "
            f"usually about {known.crf}."
        )


def encoder_options(codec: str, crf: int | None) -> dict[str, str]:
    """Return what is told to the encoder; without ``crf`` its codec's default is taken."""
    crf = CODECS[codec].crf if crf is None else crf
    return dict(CODECS[codec].options) | ({} if crf is None else {"crf": str(crf)})


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A pixel format that is read or written plane by plane: ``name`` is FFmpeg's."""

    name: str
    family: Literal["yuv", "gbr", "grey"]
    depth: int
    across: int
    down: int
    alpha: bool = False


# Chroma samples: one for so many pixels across and down.
_CHROMA = {"444": (1, 1), "422": (2, 1), "420": (2, 2), "440": (1, 2), "411": (4, 1), "410": (4, 4)}
_PLANAR = re.compile(r"(yuv|yuva|yuvj)(4\d\d)p(\d+le)?|(gbra?)p(\d+le)?|(gray)(\d+le)?")

# Formats whose samples are only ordered in another way -> the layout with the same samples.
_REORDERED = {
    name: layout
    for layout, names in {
        "yuv420p": "nv12 nv21",
        "yuv422p": "nv16 yuyv422 uyvy422",
        "yuv444p": "nv24",
        "yuv420p10le": "p010le",
        "yuv422p10le": "p210le y210le",
        "yuv444p10le": "p410le",
        "gbrp": "rgb24 bgr24 0rgb rgb0 bgr0",
        "gbrap": "rgba bgra argb abgr pal8",
        "gbrp16le": "rgb48le rgb48be",
        "gbrap16le": "rgba64le",
    }.items()
    for name in names.split()
}


def layout_of(name: str) -> Layout | None:
    """Return the layout of a pixel format; None if it is not one of 8 to 16 bits in planes."""
    found = _PLANAR.fullmatch(name)
    if found is None:
        return None
    kind, sampling, depth, rgb, rgb_depth, _, grey_depth = found.groups()
    bits = int((depth or rgb_depth or grey_depth or "8le")[:-2])
    across, down = _CHROMA.get(sampling, (0, 0)) if kind else (1, 1)
    family: Literal["yuv", "gbr", "grey"] = "yuv" if kind else "gbr" if rgb else "grey"
    alpha = kind == "yuva" or rgb == "gbra"
    layout = Layout(name=name, family=family, depth=bits, across=across, down=down, alpha=alpha)
    return layout if across else None


def layout_to_read(name: str) -> Layout | None:
    """Return the layout that holds the samples of a pixel format; None if there is none here."""
    plain = _REORDERED.get(name, name.removesuffix("be") + "le" if name.endswith("be") else name)
    return layout_of(plain)


def layout_to_write(source: Layout, codec: str) -> Layout:
    """Return the layout of ``codec`` that keeps most of ``source``, and of those the smallest.

    Grey is written as 4:2:0, since many players show nothing else. Alpha is left out.
    """
    if source.family == "grey":
        source = replace(source, family="yuv", across=2, down=2)
    options = [
        layout
        for name in _formats(codec)
        if (layout := layout_of(name)) is not None
        and layout.family != "grey"
        and not layout.alpha
        and "yuvj" not in name
    ]

    def loss(option: Layout) -> tuple[int, ...]:
        chroma = max(0, option.across - source.across) + max(0, option.down - source.down)
        return (
            max(0, min(source.depth, 10) - option.depth),
            chroma,
            max(0, source.depth - option.depth),
            option.family != source.family,
            max(0, option.depth - source.depth),
            max(0, source.across - option.across) + max(0, source.down - option.down),
        )

    return min(options, key=loss)


def _formats(codec: str) -> list[str]:
    import av

    try:
        found = av.codec.Codec(CODECS[codec].encoder, "w").video_formats
    except av.codec.codec.UnknownCodecError as error:
        here = [name for name in CODECS if name in av.codecs_available or name == "prores"]
        raise UnavailableError(
            f"The FFmpeg that comes with your PyAV cannot write {codec}; it can: {', '.join(here)}."
        ) from error
    return [one.name for one in found or ()]


def configure(context: "VideoCodecContext", *, layout: Layout, codec: str, crf: int | None) -> None:
    """Set what holds for every segment: layout, quality, headers apart from the frames."""
    from av.codec.context import Flags, ThreadType

    context.pix_fmt = layout.name
    context.options = encoder_options(codec, crf)
    # Threads by frame compress better than by slice, which is PyAV's choice.
    context.thread_type = ThreadType.FRAME
    if codec == "libx264" and cpu_capabilities().get("avx512_f"):
        # Seen with AVX-512 and mbtree: the same frames give other packets, depending on what the
        # memory held before, so that a run that goes on would differ from a straight one.
        context.options = context.options | {"x264-params": "asm=avx2"}
    if codec == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")  # else it tells of itself on stderr, every segment
    if CODECS[codec].encoder == "prores_ks":
        context.options = context.options | {"profile": "4" if layout.across == 1 else "3"}
    context.flags |= Flags.global_header
