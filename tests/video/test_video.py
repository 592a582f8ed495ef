"""Videos made larger: every frame, time, packet and colour is looked at in the written file.

The clip is made here, by PyAV, of windows that move over the repository's photographs.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgekeeper.cli.upscale_run import run_request
from edgekeeper.errors import EdgekeeperError, ImageError, InputError, UnavailableError
from edgekeeper.image import Image, read_image, write_image
from edgekeeper.inference import Request, Result, Step, upscale_image
from edgekeeper.models import SRModel
from edgekeeper.pretrained.zoo import load
from edgekeeper.video import upscale_video
from edgekeeper.video.codecs import check_options, layout_of, layout_to_write, usual_codec
from edgekeeper.video.colour import Coding, decode_planes, encode_planes
from edgekeeper.video.joining import decoding_times

av = pytest.importorskip("av", reason="videos need PyAV: pip install 'edgekeeper[video]'")

PHOTOGRAPHS = Path(__file__).resolve().parents[2] / "examples" / "test"
WIDTH, HEIGHT, RATE = 96, 64, 24
SUBTITLES = ((250, 750, "A wren."), (1500, 800, "It sings."))
Samples = NDArray[np.uint8]


class Nearest(SRModel):
    """Repeats pixels: what comes out is known without a network."""

    channels = "rgb"
    receptive_field = 0

    def __init__(self, scale: int = 2) -> None:
        super().__init__()
        self.scale = scale
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, lr: Tensor) -> Tensor:
        return self.weight * lr.repeat_interleave(self.scale, -1).repeat_interleave(self.scale, -2)


class Sharpening(Nearest):
    """A tiny network that mixes neighbours, so that frames differ from their repetition."""

    receptive_field = 1

    def forward(self, lr: Tensor) -> Tensor:
        return super().forward(
            1.6 * lr
            - 0.6
            * torch.nn.functional.avg_pool2d(
                torch.nn.functional.pad(lr, (1, 1, 1, 1), mode="replicate"), 3, 1
            )
        )


def asked(model: SRModel | None = None, **others: Any) -> Request:
    return Request(model=Sharpening() if model is None else model, **others)


def windows(count: int, *, size: tuple[int, int] = (HEIGHT, WIDTH)) -> list[Samples]:
    """Windows that move over two photographs, with a cut between them."""
    photographs = [read_image(path).pixels for path in sorted(PHOTOGRAPHS.glob("*.png"))]
    found = []
    for number in range(count):
        photograph = photographs[number * len(photographs) // count]
        top, left = 40 + number, 60 + 2 * number
        found.append(photograph[top : top + 2 * size[0] : 2, left : left + 2 * size[1] : 2, :3])
    return [np.ascontiguousarray(window) for window in found]


def make_clip(
    path: Path,
    *,
    frames: int = 72,
    size: tuple[int, int] = (HEIGHT, WIDTH),
    codec: str = "libx264",
    pixels: str = "yuv420p",
    tags: tuple[int, int, int, int] = (1, 1, 1, 1),
    options: dict[str, str] | None = None,
    times: Callable[[int], int] = lambda number: number * 512,
    set_stream: Callable[[Any], None] = lambda stream: None,
    extras: bool = True,
    container: dict[str, str] | None = None,
) -> None:
    """A clip with a tone, subtitles, chapters and a title; ``tags`` are the codes of H.273."""
    with av.open(path, "w", container_options=container or {}) as clip:
        video = clip.add_stream(codec, rate=RATE, options=options or {"crf": "12"})
        video.height, video.width = size
        video.pix_fmt = pixels
        video.codec_context.time_base = video.time_base = Fraction(1, 12288)
        context = video.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = tags
        set_stream(video)
        if extras:
            clip.metadata["title"] = "Moving windows"
            clip.set_chapters(
                [
                    {
                        "id": 1,
                        "start": 0,
                        "end": 1000,
                        "time_base": Fraction(1, 1000),
                        "metadata": {"title": "One"},
                    }
                ]
            )
            sound = clip.add_stream("aac", rate=48000, layout="mono")
            sound.metadata["language"] = "deu"
            text = clip.add_mux_stream("mov_text" if path.suffix == ".mp4" else "subrip")
            text.time_base = Fraction(1, 1000)
        clip.start_encoding()
        if extras:
            for packet in tone(sound, seconds=frames / RATE):
                clip.mux(packet)
            for start, duration, words in SUBTITLES:
                data = words.encode()
                if path.suffix == ".mp4":
                    data = len(data).to_bytes(2, "big") + data
                packet = av.Packet(data)
                packet.stream, packet.time_base = text, Fraction(1, 1000)
                packet.pts = packet.dts = start
                packet.duration = duration
                clip.mux(packet)
        colours = Coding(
            family="yuv" if "yuv" in pixels else "gbr",
            depth=10 if "10" in pixels else 8,
            matrix=tags[2] if tags[2] != 2 and tags[2] else 6,
            span="full" if tags[3] == 2 else "limited",
            across=2 if "420" in pixels else 1,
            down=2 if "420" in pixels else 1,
        )
        layout = layout_of(pixels)
        assert layout is not None
        for number, window in enumerate(windows(frames, size=size)):
            planes = encode_planes(window.astype(np.uint16) * 257, colours)
            frame = av.VideoFrame(size[1], size[0], pixels)
            for plane, values in zip(frame.planes, planes, strict=True):
                line = plane.line_size // values.itemsize
                view = np.frombuffer(plane, values.dtype)[: line * plane.height]
                view.reshape(plane.height, line)[:, : plane.width] = values
            frame.pts, frame.time_base = times(number), Fraction(1, 12288)
            clip.mux(video.encode(frame))
        clip.mux(video.encode())


def tone(stream: Any, *, seconds: float) -> list[Any]:
    count = round(48000 * seconds)
    wave = np.sin(np.arange(count) * 2 * np.pi * 440 / 48000).astype(np.float32)[None]
    packets = []
    for start in range(0, count, 1024):
        frame = av.AudioFrame.from_ndarray(wave[:, start : start + 1024].copy(), "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        packets += stream.encode(frame)
    return packets + stream.encode()


def packets(path: Path, kind: str) -> list[tuple[Fraction, bytes]]:
    with av.open(path) as file:
        stream = next(stream for stream in file.streams if stream.type == kind)
        return [
            (packet.pts * packet.time_base, bytes(packet))
            for packet in file.demux(stream)
            if packet.size
        ]


def frames(path: Path) -> list[Any]:
    with av.open(f"file:{path}") as file:
        return list(file.decode(video=0))


def times(path: Path) -> list[Fraction]:
    return [frame.pts * frame.time_base for frame in frames(path)]


def colours(frame: Any, *, matrix: int, span: str = "limited") -> NDArray[np.float64]:
    """RGB of 0 to 255 of a frame, by FFmpeg's own conversion, not ours."""
    shown = frame.reformat(
        format="gbrp16le" if "10" in frame.format.name else "rgb24",
        src_colorspace={1: "ITU709", 5: "ITU601", 6: "ITU601"}[matrix],
        src_color_range=2 if span == "full" else 1,
        dst_color_range=2,
        interpolation=av.video.reformatter.Interpolation.BICUBIC | 0x40000 | 0x2000,
    )
    return shown.to_ndarray().astype(np.float64)


def psnr(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    error = float(np.mean((ours.astype(np.float64) - theirs.astype(np.float64)) ** 2))
    return 99.0 if error == 0 else 10 * float(np.log10(255**2 / error))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    make_clip(path)
    return path


@pytest.fixture(scope="module")
def done(clip: Path) -> Result:
    return upscale_video(clip, clip.with_name("straight.mp4"), request=asked())


class TestWhole:
    def test_every_frame_at_its_time(self, clip: Path, done: Result) -> None:
        assert done.frames == 72 and done.found == 0
        assert done.notes == ()
        assert done.source_size == (64, 96) and done.size == (128, 192)
        assert times(done.target) == times(clip) == [Fraction(n, RATE) for n in range(72)]

    def test_frames_are_those_of_the_image_path(self, clip: Path, done: Result) -> None:
        values = []
        for before, after in zip(frames(clip)[::6], frames(done.target)[::6], strict=True):
            image = Image(pixels=colours(before, matrix=1).round().astype(np.uint8))
            expected = upscale_image(image, asked()).image
            assert expected is not None
            values.append(psnr(colours(after, matrix=1), expected.pixels))
        assert min(values) > 34, values

    def test_sound_and_subtitles_are_copied_bit_for_bit(self, clip: Path, done: Result) -> None:
        for kind in ("audio", "subtitle"):
            assert packets(done.target, kind) == packets(clip, kind)
        assert len(packets(clip, "audio")) > 100
        assert any(b"A wren." in data for _, data in packets(done.target, "subtitle"))

    def test_what_the_file_says_of_itself_stays(self, clip: Path, done: Result) -> None:
        with av.open(done.target) as file, av.open(clip) as source:
            assert file.metadata["title"] == "Moving windows"
            assert [one["metadata"]["title"] for one in file.chapters()] == ["One"]
            assert file.streams.audio[0].metadata["language"] == "deu"
            assert file.streams.video[0].average_rate == source.streams.video[0].average_rate
            assert file.streams.video[0].codec_context.name == "h264"

    def test_nothing_is_left_beside_the_target(self, clip: Path, done: Result) -> None:
        assert {path.name for path in clip.parent.iterdir()} == {"clip.mp4", "straight.mp4"}

    def test_progress_counts_frames(self, clip: Path, tmp_path: Path) -> None:
        steps: list[Step] = []
        upscale_video(clip, tmp_path / "a.mp4", request=asked(), on_step=steps.append)
        assert [step.done for step in steps] == list(range(73))
        assert {step.total for step in steps} == {72}


class TestResume:
    def test_a_stopped_run_goes_on_and_ends_with_the_same_file(
        self, clip: Path, done: Result, tmp_path: Path
    ) -> None:
        target = tmp_path / "resumed.mp4"

        def stop(step: Step) -> None:
            if step.done == 60:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            upscale_video(clip, target, request=asked(), on_step=stop)
        assert not target.exists()
        resumed = upscale_video(clip, target, request=asked())
        assert resumed.found == 48 and resumed.frames == 72
        assert packets(target, "video") == packets(done.target, "video")
        assert [path.name for path in tmp_path.iterdir()] == ["resumed.mp4"]

    @pytest.mark.parametrize("change", ["network", "quality", "damage"])
    def test_what_does_not_fit_is_not_used(self, clip: Path, tmp_path: Path, change: str) -> None:
        target = tmp_path / "resumed.mp4"

        def stop(step: Step) -> None:
            if step.done == 55:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            upscale_video(clip, target, request=asked(), on_step=stop)
        model, others = Sharpening(), {}
        if change == "network":
            with torch.no_grad():
                model.weight.mul_(0.9)
        elif change == "quality":
            others = {"crf": 30}
        else:
            part = next(tmp_path.glob(".*/000000.packets"))
            part.write_bytes(part.read_bytes()[:-1] + b"?")
        result = upscale_video(clip, target, request=asked(model, **others))
        assert result.found == 0 and result.frames == 72


class TestTimes:
    def test_a_variable_rate_stays(self, tmp_path: Path) -> None:
        steps = np.cumsum([0, *([512, 512, 256, 1280, 700] * 10)])
        clip, target = tmp_path / "clip.mp4", tmp_path / "large.mp4"
        make_clip(clip, frames=50, times=lambda n: int(steps[n]) + 1000, extras=False)
        upscale_video(clip, target, request=asked())
        assert times(target) == times(clip)
        assert len(set(np.diff(times(target)))) == 4

    def test_decoding_never_comes_after_showing(self) -> None:
        order = [0, 4, 2, 1, 3, 9, 6, 5, 8, 20]  # I P B b b P B b b P
        early = decoding_times(order)
        assert all(ours <= shown for ours, shown in zip(early, order, strict=True))
        assert early == sorted(set(early))
        assert decoding_times([3, 5, 9]) == [3, 5, 9]


class TestColours:
    @pytest.mark.parametrize(
        ("tags", "name"),
        [
            ((1, 1, 1, 1), "709"),
            ((6, 6, 6, 1), "601"),
            ((1, 13, 1, 2), "full"),
            ((5, 1, 5, 2), "601 full"),
        ],
    )
    def test_tags_stay_and_colours_too(
        self, tmp_path: Path, tags: tuple[int, int, int, int], name: str
    ) -> None:
        clip, target = tmp_path / "clip.mp4", tmp_path / "large.mp4"
        make_clip(clip, frames=3, tags=tags, extras=False, options={"qp": "1"})
        upscale_video(clip, target, request=asked(Nearest(), crf=1))
        span = "full" if tags[3] == 2 else "limited"
        for before, after in zip(frames(clip), frames(target), strict=True):
            found = (after.color_primaries, after.color_trc, after.colorspace, after.color_range)
            assert found == tags
            ours = colours(after, matrix=tags[2], span=span)
            theirs = colours(before, matrix=tags[2], span=span).repeat(2, 0).repeat(2, 1)
            smooth = np.abs(_means(ours) - _means(theirs))
            assert smooth.max() < 2, name

    def test_untagged_colours_are_guessed_and_said(self, tmp_path: Path) -> None:
        clip, target = tmp_path / "clip.mkv", tmp_path / "large.mkv"
        make_clip(clip, frames=3, tags=(2, 2, 2, 0), extras=False)
        result = upscale_video(clip, target, request=asked())
        assert any("BT.601" in note for note in result.notes)
        assert frames(target)[0].colorspace == 6

    def test_ffv1_in_rgb_loses_nothing(self, tmp_path: Path) -> None:
        clip, target = tmp_path / "clip.mkv", tmp_path / "large.mkv"
        make_clip(
            clip,
            frames=3,
            codec="ffv1",
            pixels="gbrp10le",
            options={"level": "3"},
            tags=(1, 1, 0, 2),
            extras=False,
        )
        upscale_video(clip, target, request=asked(Nearest(), codec="ffv1"))
        for before, after in zip(frames(clip), frames(target), strict=True):
            assert after.format.name == "gbrp10le"
            ours, theirs = (frame.to_ndarray() for frame in (after, before))
            assert np.array_equal(ours, theirs.repeat(2, 0).repeat(2, 1))

    def test_ten_bits_stay_ten_bits(self, tmp_path: Path) -> None:
        clip, target = tmp_path / "clip.mkv", tmp_path / "large.mkv"
        make_clip(clip, frames=3, pixels="yuv420p10le", extras=False)
        assert not upscale_video(clip, target, request=asked()).notes
        assert frames(target)[0].format.name == "yuv420p10le"


def _means(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of 8 x 8 pixels, over which the resolution of chroma does not matter."""
    height, width = (side // 8 for side in image.shape[:2])
    return image[: height * 8, : width * 8].reshape(height, 8, width, 8, 3).mean((1, 3))


class TestPlanes:
    @pytest.mark.parametrize("span", ["limited", "full"])
    @pytest.mark.parametrize("matrix", [1, 4, 5, 6, 7, 9])
    @pytest.mark.parametrize("depth", [8, 10, 12])
    def test_there_and_back(self, depth: int, matrix: int, span: Any) -> None:
        coding = Coding(family="yuv", depth=depth, matrix=matrix, span=span)
        rgb = np.random.default_rng(0).integers(0, 65536, (16, 16, 3)).astype(np.uint16)
        again = decode_planes(encode_planes(rgb, coding), coding)
        step = 65535 / (219 * 2 ** (depth - 8))
        assert np.abs(again.astype(float) - rgb).max() < 2.1 * step

    def test_primaries_of_bt_709(self) -> None:
        # 100 % red, green, blue, white, black in 8 bits: the colour bars of BT.709.
        rgb = np.array([[[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0]]], np.uint16)
        planes = encode_planes(rgb * np.uint16(65535), Coding(family="yuv", depth=8))
        assert [plane.tolist()[0] for plane in planes] == [
            [63, 173, 32, 235, 16],
            [102, 42, 240, 128, 128],
            [240, 26, 118, 128, 128],
        ]

    @pytest.mark.parametrize("sampling", [(2, 2), (2, 1), (1, 2), (4, 1)])
    @pytest.mark.parametrize("chroma", ["left", "centre"])
    def test_chroma_keeps_its_place(self, sampling: tuple[int, int], chroma: Any) -> None:
        across, down = sampling
        coding = Coding(
            family="yuv", depth=16, across=across, down=down, chroma=chroma, span="full"
        )
        y, x = np.mgrid[:32, :48]
        ramp = np.stack([20000 + 400 * x, 30000 - 200 * y, 25000 + 100 * (x + y)], -1)
        again = decode_planes(encode_planes(ramp.astype(np.uint16), coding), coding)
        inner = (slice(6, -6), slice(6, -6))
        assert np.abs(again.astype(float) - ramp)[inner].max() < 8

    def test_where_chroma_lies(self) -> None:
        # H.264 annex E: type 0 lies on the first of two columns, type 1 between them.
        y = np.full((4, 16), 128, np.uint8)
        cr = np.tile(np.arange(100, 156, 7, dtype=np.uint8), (2, 1))
        found = {}
        for chroma in ("left", "centre"):
            coding = Coding(family="yuv", depth=8, across=2, down=2, span="full", chroma=chroma)
            rgb = decode_planes([y, np.full_like(cr, 128), cr], coding)[1].astype(float)
            found[chroma] = (rgb[:, 0] / 257 - 128) / (2 * (1 - 0.2126)) + 128
        assert np.allclose(found["left"][::2], cr[0], atol=0.02)
        assert np.allclose(found["left"][1:-1:2], cr[0][:-1] + 3.5, atol=0.02)
        assert np.allclose(found["centre"][2:-1:2], cr[0][1:] - 1.75, atol=0.02)

    def test_odd_sides_are_read(self) -> None:
        coding = Coding(family="yuv", depth=8, across=2, down=2)
        planes = encode_planes(np.full((5, 7, 3), 30000, np.uint16), coding)
        assert [plane.shape for plane in planes] == [(5, 7), (3, 4), (3, 4)]
        assert np.abs(decode_planes(planes, coding).astype(int) - 30000).max() < 300


class TestShape:
    def test_rotation_and_shape_of_samples_stay(self, tmp_path: Path) -> None:
        def turn(stream: Any) -> None:
            stream.set_display_rotation(90)
            stream.codec_context.sample_aspect_ratio = Fraction(4, 3)

        for name in ("mp4", "mkv"):
            clip, target = tmp_path / f"clip.{name}", tmp_path / f"large.{name}"
            make_clip(clip, frames=3, set_stream=turn, extras=False)
            upscale_video(clip, target, request=asked())
            assert frames(target)[0].rotation == frames(clip)[0].rotation == 90
            with av.open(target) as file:
                assert file.streams.video[0].sample_aspect_ratio == Fraction(4, 3)

    def test_odd_results_lose_a_column(self, tmp_path: Path) -> None:
        clip, target = tmp_path / "clip.mp4", tmp_path / "large.mp4"
        make_clip(clip, frames=3, size=(50, 66), extras=False)
        result = upscale_video(clip, target, request=asked(scale=1.5))
        assert result.size == (74, 98)
        assert any("99 x 75" in note for note in result.notes)
        assert (frames(target)[0].height, frames(target)[0].width) == (74, 98)


class TestCodecs:
    @pytest.mark.parametrize("codec", ["libx265", "libsvtav1", "prores", "ffv1", "libvpx-vp9"])
    def test_each_codec_gives_all_frames(self, tmp_path: Path, codec: str) -> None:
        clip, target = tmp_path / "clip.mkv", tmp_path / "large.mkv"
        make_clip(clip, frames=30)
        try:
            result = upscale_video(clip, target, request=asked(codec=codec))
        except UnavailableError as error:
            pytest.skip(str(error))
        assert result.frames == 30
        assert times(target) == times(clip)
        for kind in ("audio", "subtitle"):
            assert packets(target, kind) == packets(clip, kind)

    @pytest.mark.parametrize(
        ("source", "codec", "expected"),
        [
            ("yuv420p", "libx264", "yuv420p"),
            ("yuvj422p", "libx264", "yuv422p"),
            ("yuv422p12le", "libx264", "yuv422p10le"),
            ("gray", "libx264", "yuv420p"),
            ("gbrp", "libx264", "yuv444p"),
            ("yuv420p10le", "ffv1", "yuv420p10le"),
            ("yuv420p", "prores", "yuv422p10le"),
            ("yuva420p", "ffv1", "yuv420p"),
        ],
    )
    def test_the_layout_keeps_most(self, source: str, codec: str, expected: str) -> None:
        layout = layout_of(source)
        assert layout is not None
        assert layout_to_write(layout, codec).name == expected


class TestCommand:
    def run(self, *sources: Path, output_style: Any = "lines", **others: Any) -> int:
        request = asked(sources=tuple(map(str, sources)), **others)
        return run_request(request, output_style=output_style, report=False, seams=False)

    def test_videos_and_images_in_one_command(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        make_clip(tmp_path / "clip.mkv", frames=5)
        image = tmp_path / "window.png"
        write_image(Image(pixels=windows(1)[0]), image)
        assert self.run(tmp_path / "clip.mkv", image, crf=30) == 0
        assert (tmp_path / "clip_x2.mkv").is_file() and (tmp_path / "window_x2.png").is_file()
        assert "clip_x2.mkv  192x128  5 frames" in capsys.readouterr().out
        assert self.run(tmp_path / "clip.mkv", image, output_style="json", existing="fail") == 1
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [one["status"] for one in lines] == ["failed", "failed"]
        assert all("exists already" in one["message"] for one in lines)
        again = {"output_style": "json", "crf": 30, "existing": "replace"}
        assert self.run(tmp_path / "clip.mkv", image, **again) == 0
        video, still = (json.loads(line) for line in capsys.readouterr().out.splitlines())
        assert (video["frames"], video["codec"], video["pixels"]) == (5, "libx264", "yuv420p")
        assert still["output_size"] == video["output_size"] == [192, 128]
        assert "frames" not in still

    def test_into_a_folder(self, tmp_path: Path) -> None:
        make_clip(tmp_path / "clip.avi", frames=5, extras=False)
        assert self.run(tmp_path / "clip.avi", output=f"{tmp_path}/large/") == 0
        assert [path.name for path in (tmp_path / "large").iterdir()] == ["clip.mkv"]
        assert len(frames(tmp_path / "large" / "clip.mkv")) == 5

    def test_a_video_that_fails_lets_the_rest_go_on(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        make_clip(tmp_path / "clip.mkv", frames=5, extras=False)
        (tmp_path / "bad.mp4").write_bytes(b"no video at all" * 100)
        assert self.run(tmp_path / "bad.mp4", tmp_path / "clip.mkv") == 1
        captured = capsys.readouterr()
        assert "1 done, 0 skipped, 1 failed" in captured.out
        assert "failed: '" in captured.err and "damaged or no video" in captured.err

    def test_options_and_videos(self, command: Any, clip: Path, tmp_path: Path) -> None:
        write_image(Image(pixels=windows(1)[0]), tmp_path / "window.png")
        for source, options, said in [
            (tmp_path / "window.png", ["--codec", "ffv1"], "--codec and --crf are for videos"),
            (clip, ["--report"], "--report and --verify-seams are for images"),
            (clip, ["-o", "-", "--format", "png"], "cannot go to standard output"),
        ]:
            ran = command("upscale", source, *options, "--model", "espcn_x2")
            assert ran.status == 2 and said in ran.err

    def test_a_killed_process_leaves_what_is_finished(self, clip: Path, tmp_path: Path) -> None:
        # Not an exception but the end: nothing of ours is run any more.
        target = tmp_path / "large.mp4"
        command = [sys.executable, "-c", KILLED_AT_FRAME_60, str(clip), str(target)]
        assert subprocess.run(command, check=False, timeout=300).returncode == 9
        assert not target.exists()
        assert upscale_video(clip, target, request=asked(load("espcn_x2"))).found == 48


KILLED_AT_FRAME_60 = """
import os, sys
from edgekeeper.pretrained.zoo import load
from edgekeeper.inference import Request
from edgekeeper.video import upscale_video

upscale_video(
    sys.argv[1], sys.argv[2],
    request=Request(model=load("espcn_x2")),
    on_step=lambda step: os._exit(9) if step.done == 60 else None,
)
"""


class TestWebm:
    def test_sound_becomes_opus_and_the_picture_vp9(self, tmp_path: Path) -> None:
        source, target = tmp_path / "a.mp4", tmp_path / "a.webm"
        make_clip(source, frames=24)
        done = upscale_video(source, target, request=asked(scale=2))
        assert done.codec == "libvpx-vp9"
        assert any("(aac) is encoded anew as Opus" in note for note in done.notes)
        assert any("subtitle (mov_text) is left out" in note for note in done.notes)
        with av.open(target) as made, av.open(source) as given:
            assert [stream.codec_context.name for stream in made.streams] == ["vp9", "opus"]
            assert made.streams.audio[0].metadata["language"] == "deu"
            ours, theirs = (
                np.concatenate([f.to_ndarray()[0] for f in one.decode(audio=0)])
                for one in (made, given)
            )
        assert abs(len(ours) - len(theirs)) < 2000
        peaks = [np.abs(np.fft.rfft(one[4000:24000])).argmax() for one in (ours, theirs)]
        assert peaks[0] == peaks[1]
        assert len(frames(target)) == 24

    def test_without_vp9_it_is_av1(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"libvpx-vp9"})
        assert usual_codec(tmp_path / "a.webm") in ("libsvtav1", "libaom-av1")
        assert usual_codec(tmp_path / "a.WEBM") != "libx264" == usual_codec(tmp_path / "a.mkv")


class TestRefusals:
    def refused(self, source: Path, target: Path, **options: Any) -> EdgekeeperError:
        before = set(target.parent.iterdir())
        with pytest.raises(EdgekeeperError) as caught:
            upscale_video(source, target, request=asked(), **options)
        assert set(target.parent.iterdir()) == before
        return caught.value

    def test_what_is_there_is_not_replaced(self, clip: Path, tmp_path: Path) -> None:
        target = tmp_path / "large.mp4"
        target.write_bytes(b"mine")
        assert "exists already" in str(self.refused(clip, target))
        assert target.read_bytes() == b"mine"

    def test_a_file_without_moving_images(self, clip: Path, tmp_path: Path) -> None:
        path = tmp_path / "sound.mp4"
        with av.open(path, "w") as file:
            sound = file.add_stream("aac", rate=48000, layout="mono")
            for packet in tone(sound, seconds=0.5):
                file.mux(packet)
        assert "no video stream" in str(self.refused(path, tmp_path / "large.mp4"))

    def test_damaged_files(self, clip: Path, tmp_path: Path) -> None:
        path, target = tmp_path / "bad.mp4", tmp_path / "large.mp4"
        path.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
        assert "damaged" in str(self.refused(path, target))
        path.write_bytes(b"no video at all" * 100)
        assert "damaged or no video" in str(self.refused(path, target))
        assert "There is no file" in str(self.refused(tmp_path / "none.mp4", target))

    def test_a_text_that_names_other_files_is_no_video(self, clip: Path, tmp_path: Path) -> None:
        shutil.copy(clip, tmp_path / "secret.mp4")
        list_of_segments = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n"
        texts = [
            "ffconcat version 1.0\nfile {}\n",
            list_of_segments,
            "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
            "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'><Period>"
            "<BaseURL>{}</BaseURL></Period></MPD>",
        ]
        for named, text in product(("secret.mp4", f"file://{tmp_path}/secret.mp4"), texts):
            path = tmp_path / "list.mp4"
            path.write_text(text.format(named), encoding="utf-8")
            assert "damaged or no video" in str(self.refused(path, tmp_path / "large.mp4"))

    def test_names_are_files_and_no_protocols(
        self, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        shutil.copy(clip, "a.mp4")
        for name in ("concat:a.mp4|a.mp4", "file:a.mp4", "http:/host/a.mp4", "data:a.mp4"):
            assert "There is no file" in str(self.refused(Path(name), Path("large.mkv")))
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(clip, name)
            target = Path(name).with_name(f"large:{Path(name).name}")
            assert upscale_video(Path(name), target, request=asked(Nearest())).frames == 72
            assert len(frames(target)) == 72

    def test_frames_that_cannot_be_decoded_are_counted_and_may_be_left_out(
        self, tmp_path: Path
    ) -> None:
        path, target = tmp_path / "clip.mkv", tmp_path / "large.mkv"
        make_clip(path, extras=False, options={"crf": "12", "bf": "0", "g": "12"})
        with av.open(path) as source, av.open(tmp_path / "bad.mkv", "w") as bad:
            copy = bad.add_stream_from_template(source.streams.video[0])
            for number, packet in enumerate(source.demux(video=0)):
                if packet.size and number in (30, 31, 32):
                    spoilt = av.Packet(b"\0\0\0\2\x41\0")
                    spoilt.pts, spoilt.dts = packet.pts, packet.dts
                    spoilt.time_base, packet = packet.time_base, spoilt
                if packet.size:
                    packet.stream = copy
                    bad.mux(packet)
        with pytest.raises(ImageError, match=r"69 of its 72 frames .* --tolerant` takes"):
            upscale_video(tmp_path / "bad.mkv", target, request=asked(Nearest()))
        assert not target.exists()
        request = asked(Nearest(), tolerant=True)
        assert upscale_video(tmp_path / "bad.mkv", target, request=request).frames == 69

    def test_a_film_whose_end_is_missing(self, tmp_path: Path) -> None:
        path, cut = tmp_path / "clip.mp4", tmp_path / "cut.mp4"
        make_clip(path, container={"movflags": "faststart"})
        cut.write_bytes(path.read_bytes()[: path.stat().st_size - 9000])
        assert "cut off" in str(self.refused(cut, tmp_path / "large.mp4"))

    def test_a_file_that_is_cut_off(self, tmp_path: Path) -> None:
        path, cut = tmp_path / "clip.mkv", tmp_path / "cut.mkv"
        make_clip(path)
        cut.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
        assert "seconds are missing" in str(self.refused(cut, tmp_path / "large.mkv"))

    def test_names_and_numbers(self, clip: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="Did you mean 'libx264'"):
            check_options("x264", None)
        with pytest.raises(InputError, match=r"0 \(best\) to 51"):
            check_options("libx264", 70)
        with pytest.raises(InputError, match="no quality"):
            check_options("ffv1", 3)
        assert "its own target" in str(self.refused(clip, clip))
        assert ".mkv" in str(self.refused(clip, tmp_path / "large.avi"))

    def test_a_kind_of_file_that_cannot_hold_a_stream(self, clip: Path, tmp_path: Path) -> None:
        request = asked(codec="libx264", scale=2)
        with pytest.raises(ImageError, match=r"A \.webm file cannot.*\.mkv"):
            upscale_video(clip, tmp_path / "large.webm", request=request)

    def test_without_the_extra(
        self, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(__import__("sys").modules, "av", None)
        assert "edgekeeper[video]" in str(self.refused(clip, tmp_path / "large.mp4"))
