"""Videos made larger: frames as images, all else as it was.

A video is read once to know what is in it, its frames are decoded ahead, enlarged and encoded in
segments, which a stopped run finds again, and these are joined with the source's other streams.
Needs the extra ``video`` (PyAV, which brings FFmpeg).
"""

from edgekeeper.video.codecs import CODECS
from edgekeeper.video.upscale import check_video_target, upscale_video, upscale_videos

__all__ = ["CODECS", "check_video_target", "upscale_video", "upscale_videos"]
