"""From the views of windows to probabilities: of each network, and of all together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dualstream.clips.data.groups import mirrored_labels
from dualstream.clips.plan import Cropping
from dualstream.engine.infer.recognizer import (
    Model,
    Recognizes,
    SeesVideo,
    Views,
    as_recognizers,
    open_stream,
)
from dualstream.engine.infer.window_clips import WindowClips
from dualstream.engine.run.streams import named_streams
from dualstream.errors import CheckpointError, InputError
from dualstream.scores import Fusion, average_views, probabilities, weighted_fusion
from dualstream.scores.views import Average
from dualstream.types import Clip, Labels, Scores


class Scoring:
    """Streams of the same classes, and how their probabilities are joined.

    Args:
        models: a recognizer or what one is made of, or several with the same classes; or the
            folder of a recipe of several streams.
        cropping: views of a snippet.
        fusion: fitted on held-out training data; None is the mean, or that of the folder.
        weights: of a weighted mean of the streams, instead of `fusion`.
        optimize: run the networks in the form that is fastest here.

    Raises:
        InputError: no network, or both of `fusion` and `weights`.
        ScoresError: a fusion that does not join several labels, where networks tell those.
        CheckpointError: streams of different classes.
    """

    def __init__(
        self,
        models: Model | Sequence[Model],
        *,
        cropping: Cropping,
        fusion: Fusion | None = None,
        weights: Sequence[float] | None = None,
        optimize: bool = False,
    ) -> None:
        if fusion is not None and weights is not None:
            raise InputError("Give either fusion or weights.")
        named, fitted = named_streams(models)
        if fitted is not None and fusion is None and weights is None:
            fusion = Fusion.load(fitted)
        given = [open_stream(one) for one in named]
        self.video_streams = {i: one for i, one in enumerate(given) if isinstance(one, SeesVideo)}
        """Place among the streams -> one that looks at whole windows instead of clips."""
        networks = [one for one in given if not isinstance(one, SeesVideo)]
        self.recognizers = as_recognizers(networks) if networks or not given else ()
        """The networks."""
        self.names = _names([one.name for one in self.recognizers], self.video_streams)
        """Of all streams, in the order given."""
        streams: list[Recognizes | SeesVideo] = [*self.recognizers, *self.video_streams.values()]
        self.classes = streams[0].classes
        for other in self.video_streams.values():
            if other.classes != self.classes:
                raise CheckpointError(
                    f"{other.name} and {self.names[0]} have different classes; they must come from "
                    "the same data set."
                )
        self.labels: Labels = self.recognizers[0].labels if self.recognizers else "one"
        if self.labels == "several" and self.video_streams:
            raise InputError("Trajectories tell one class of a video, the networks several.")
        self.cropping = cropping
        self._label_when_mirrored = list(mirrored_labels(self.classes))
        self._running = [one.running(optimize=optimize) for one in self.recognizers]
        if weights is not None:
            fusion = weighted_fusion(weights, num_streams=len(self.names))
        self.fusion = fusion or Fusion("mean", len(self.names))
        if self.labels == "several":
            self.fusion.check_several()

    def scores(self, clips: Sequence[Clip | Views]) -> NDArray[np.float32]:
        """Return the probabilities (networks, K) of one video's clips, means over their views.

        Args:
            clips: one for each network, of segments x crops views.
        """
        return np.stack(
            [
                self._averaged(self.logits(place, clip.data if isinstance(clip, Clip) else clip))
                for place, clip in enumerate(clips)
            ]
        )

    def logits(self, place: int, views: Views) -> NDArray[np.float32]:
        """Return the logits of a network, (segments x crops, K), or (crops, K) where it joins them.

        Args:
            place: of the network.
            views: of one video, segments x crops.
        """
        segments = len(next(iter(views.values()))) // self.cropping.num_views
        return self._running[place](views, segments)

    def _averaged(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """(V, K) logits of views -> (K,) probabilities."""
        # Left and right change places in a mirrored view.
        mirrored = np.resize(self.cropping.mirrored_views, len(logits))
        logits[mirrored] = logits[mirrored][:, self._label_when_mirrored]
        average: Average = "independent" if self.labels == "several" else "probabilities"
        return average_views(logits, average=average)

    def fuse(self, tables: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return fused probabilities (M, K) of those of the streams (streams, M, K)."""
        scores = [
            Scores(
                names=tuple(str(i) for i in range(len(table))),
                labels=np.full(len(table), -1, np.int64),
                scores=table.astype(np.float32),
                classes=self.classes,
                kind="probabilities",
            )
            for table in tables
        ]
        fused = self.fusion.apply(scores, labels=self.labels)
        return probabilities(fused).astype(np.float32)

    def check_networks_only(self, what: str) -> None:
        """Raise InputError where a stream is of trajectories, for what only networks do."""
        for stream in self.video_streams.values():
            raise InputError(
                f"{stream.name} is a stream of trajectories, which cannot {what}: leave it out."
            )

    def of_windows(self) -> WindowScores:
        """Return what scores the windows of one video."""
        return WindowScores(self)


def _names(networks: list[str], others: Mapping[int, SeesVideo]) -> list[str]:
    """Names of all streams in their order; of equal ones a later one is numbered."""
    names = list(networks)
    for place, stream in sorted(others.items()):
        same = sum(name == stream.name or name.startswith(f"{stream.name} (") for name in names)
        names.insert(place, f"{stream.name} ({same + 1})" if same else stream.name)
    return names


class WindowScores:
    """Probabilities of the windows of one video, in their order.

    Snippets that windows share go through a network once, each by itself: what is found for it
    does not depend on the windows that were seen before.
    """

    def __init__(self, scoring: Scoring) -> None:
        self._scoring = scoring
        self.known: list[dict[int, NDArray[np.float32]]] = [{} for _ in scoring.recognizers]
        """For each network: first frame of a snippet -> logits (crops, K) of its views."""

    def of(self, window: WindowClips) -> NDArray[np.float32]:
        """Return the probabilities (networks, K) of the next window.

        Args:
            window: read with `known`.
        """
        return np.stack([self._of(place, window) for place in range(len(self.known))])

    def _of(self, place: int, window: WindowClips) -> NDArray[np.float32]:
        scoring, known, views = self._scoring, self.known[place], window.views[place]
        snippets = window.snippets[place]
        if snippets is None:
            return scoring._averaged(scoring.logits(place, views))
        for first in [first for first in known if first < window.first]:
            del known[first]
        crops = scoring.cropping.num_views
        new = [first for first in dict.fromkeys(snippets) if first not in known]
        for number, first in enumerate(new):
            part = {name: v[number * crops : (number + 1) * crops] for name, v in views.items()}
            known[first] = scoring.logits(place, part)
        return scoring._averaged(np.concatenate([known[first] for first in snippets]))
