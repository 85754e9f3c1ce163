"""Level 3: annotations, manifests, sampling, transforms, data sets and loaders."""

from dualstream.clips.data.groups import source_group as source_group
from dualstream.clips.data.manifest import Manifest as Manifest
from dualstream.clips.data.manifest import VideoRecord as VideoRecord
