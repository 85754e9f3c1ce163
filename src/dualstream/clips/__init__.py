"""Level 3: annotations, manifests, sampling, transforms, data sets and loaders."""

from dualstream.clips.groups import source_group
from dualstream.clips.manifest import Manifest, VideoRecord

__all__ = ["Manifest", "VideoRecord", "source_group"]
