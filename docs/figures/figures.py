"""All figures of the network pages."""

from __future__ import annotations

from stream_figures import (
    compressed_video,
    conv_fusion,
    cross_attention,
    fusing_time,
    hidden_two_stream,
    over_frames,
    tsn,
    two_stream,
)
from three_d_figures import c3d_r3d, i3d_s3d, non_local, slowfast, t3d, x3d

FIGURES = (
    *(two_stream(), tsn(), fusing_time(), over_frames(), c3d_r3d(), t3d(), i3d_s3d(), slowfast()),
    *(x3d(), non_local(), conv_fusion(), hidden_two_stream(), cross_attention()),
    compressed_video(),
)
