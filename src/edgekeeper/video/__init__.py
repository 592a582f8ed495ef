"""Videos made larger: frames as images, all else as it was.

A video is read once to know what is in it, its frames are decoded ahead, enlarged and encoded in
segments, which a stopped run finds again, and these are joined with the source's other streams.
Needs the extra ``video`` (PyAV, which brings FFmpeg).
"""

from edgekeeper.video.codecs import CODECS, READ_SUFFIXES, SUFFIXES, VideoOptions
from edgekeeper.video.running import VideoProgress, VideoStep
from edgekeeper.video.upscale import VideoResult, check_video_target, upscale_video

__all__ = [
    "CODECS",
    "READ_SUFFIXES",
    "SUFFIXES",
    "VideoOptions",
    "VideoProgress",
    "VideoResult",
    "VideoStep",
    "check_video_target",
    "upscale_video",
]
