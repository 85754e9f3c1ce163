"""Level 3: annotations, manifests, sampling, transforms, data sets and loaders."""

from dualstream.clips.data.groups import source_group
from dualstream.clips.data.manifest import Manifest, VideoRecord

__all__ = ["Manifest", "VideoRecord", "source_group"]
