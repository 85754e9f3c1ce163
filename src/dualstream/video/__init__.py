"""Video files to frames: probe, decode by index or time, write; sources of frames."""

from dualstream.video.info import VideoInfo
from dualstream.video.reader import VideoReader, probe, read_video
from dualstream.video.source import FrameArray, FrameBuffer, FrameSource
from dualstream.video.times import frame_indices_at_rate
from dualstream.video.write import write_video

__all__ = [
    "FrameArray",
    "FrameBuffer",
    "FrameSource",
    "VideoInfo",
    "VideoReader",
    "frame_indices_at_rate",
    "probe",
    "read_video",
    "write_video",
]
