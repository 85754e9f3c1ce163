"""Video files to frames: probe, decode by index or time, write; sources of frames."""

from dualstream.video.info import VideoInfo as VideoInfo
from dualstream.video.read import probe as probe
from dualstream.video.read import read_video as read_video
from dualstream.video.reader import VideoReader as VideoReader
from dualstream.video.source import FrameArray as FrameArray
from dualstream.video.source import FrameBuffer as FrameBuffer
from dualstream.video.source import FrameSource as FrameSource
from dualstream.video.times import frame_indices_at_rate as frame_indices_at_rate
from dualstream.video.write import write_timed_video as write_timed_video
from dualstream.video.write import write_video as write_video
