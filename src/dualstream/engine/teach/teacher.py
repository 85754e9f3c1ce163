"""`Teacher`: a folder in which one's own actions are marked, taught and found."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace as dataclass_replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, Unpack

from dualstream.clips.data.intervals import Interval
from dualstream.engine.teach.export import write_manifest
from dualstream.engine.teach.imported import ImportFormat, ImportReport, import_file
from dualstream.engine.teach.marks import Mark, fitted, known_label, with_mark, without
from dualstream.engine.teach.project import (
    PROJECT_FILE,
    Project,
    ProjectVideo,
    changing,
    check_new_folder,
    facts_of,
    read_project,
    training,
    write_project,
)
from dualstream.engine.teach.settings import TeachSettings, checked_networks
from dualstream.errors import CheckpointError, DiskError, InputError, check_least
from dualstream.types import BACKGROUND

if TYPE_CHECKING:
    from dualstream.engine.teach.feature_files import Listener
    from dualstream.engine.teach.features import FeatureExtractor
    from dualstream.engine.teach.model import Suggestion, TaughtModel, VideoTimeline
    from dualstream.engine.teach.report import TeachReport
    from dualstream.scores.timeline import Thresholds

_Value = TypeVar("_Value")


class Teacher:
    """A project: videos, marks in them, and what was learnt from the marks.

        teacher = ds.Teacher("birds")
        teacher.add_video("feeder.mp4")
        teacher.mark("feeder.mp4", 12.5, 17, "eating")
        teacher.mark("feeder.mp4", 31, 33, "fighting")
        print(teacher.train().accuracy)
        for segment in teacher.timeline("feeder.mp4").segments:
            print(segment.start_seconds, segment.end_seconds, segment.label)

    Every call reads the folder anew, and changes are locked and written whole or not at all:
    several of these, in threads or processes, may work on one folder. Marks may be made while one
    of them trains.

    Args:
        folder: of the project; made where there is none.
        settings: None keeps those that a project has, or takes the defaults for a new one. Others
            than it has change it, and let features be computed anew where they depend on them.

    Raises:
        AnnotationError: files of a project that are broken or of another version.
        InputError: settings that do not fit together or the project; another process changes it.
        UnknownNameError: `rgb` or `motion` are neither weights nor a run folder.
        DiskError: the folder cannot be made or written.
    """

    def __init__(
        self, folder: str | os.PathLike[str], settings: TeachSettings | None = None
    ) -> None:
        self.folder = Path(folder)
        self._extractor: tuple[tuple[str, str], FeatureExtractor] | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DiskError(error.errno, error.strerror, str(self.folder)) from error
        is_new = not (self.folder / PROJECT_FILE).is_file()
        if settings is not None:
            settings = checked_networks(settings)
        if is_new:
            check_new_folder(self.folder)
            with changing(self.folder):
                if not (self.folder / PROJECT_FILE).is_file():
                    write_project(Project(self.folder, settings or TeachSettings()))
        project = self.project()
        if settings is not None and settings != project.settings:
            self._change(lambda project: (project.with_settings(settings), None))

    def project(self) -> Project:
        """Return the state of the project at this moment, read from its files."""
        return read_project(self.folder)

    @property
    def settings(self) -> TeachSettings:
        """Of the project."""
        return self.project().settings

    @property
    def videos(self) -> tuple[ProjectVideo, ...]:
        """Of the project, by name."""
        return self.project().videos

    @property
    def marks(self) -> tuple[Mark, ...]:
        """Of all videos, by video and start."""
        return self.project().marks

    @property
    def classes(self) -> tuple[str, ...]:
        """Labels of the marks, in alphabetical order; background last."""
        labels = {mark.label for mark in self.marks}
        return tuple(sorted(labels, key=lambda name: (name == BACKGROUND, name.casefold(), name)))

    def video(self, name: str) -> ProjectVideo:
        """Return a video by its name or the path of its file; UnknownNameError without one."""
        return self.project().video(name)

    def add_video(self, path: str | os.PathLike[str], *, name: str | None = None) -> ProjectVideo:
        """Add a video. One that is there already keeps its marks, and has the content it has now.

        Args:
            path: of the file, which stays where it is.
            name: in the project; None takes its file name, with folders before it where another
                video has that.

        Raises:
            VideoError: the file is missing or no video, or has one frame only.
            InputError: another video has the name, or marks reach beyond its new end.
        """
        file = Path(os.path.abspath(path))
        facts = facts_of(file)

        def add(project: Project) -> tuple[Project, ProjectVideo]:
            there = next((v for v in project.videos if project.file_of(v) == file), None)
            if there is None and name is not None and name in {v.name for v in project.videos}:
                raise InputError(f"Another video of {self.folder} is called {name!r}.")
            is_reviewed = there is not None and there.is_reviewed
            chosen = there.name if there else name or project.free_name(file)
            inside = file.is_relative_to(self.folder.absolute())
            shown = file.relative_to(self.folder.absolute()).as_posix() if inside else str(file)
            video = ProjectVideo(name=chosen, path=shown, is_reviewed=is_reviewed, **facts)
            for mark in project.marks_of(chosen):
                fitted(mark, duration_seconds=video.duration_seconds)
            return project.with_video(video), video

        return self._change(add)

    def remove_video(self, name: str) -> None:
        """Take a video and its marks out of the project; its file stays."""

        def remove(project: Project) -> tuple[Project, None]:
            gone = project.video(name).name
            videos = tuple(video for video in project.videos if video.name != gone)
            marks = tuple(mark for mark in project.marks if mark.video != gone)
            return dataclass_replace(project, videos=videos, marks=marks), None

        self._change(remove, removes_video=True)

    def mark(
        self,
        video: str,
        start_seconds: float,
        end_seconds: float,
        label: str,
        *,
        replace: bool = False,
    ) -> Mark:
        """Mark that an action is there, and return the mark.

        It is joined with marks of the same label that it overlaps or touches. A label that is used
        already in another spelling (`air_drumming`, `Air drumming`) takes that.

        Args:
            video: name or path.
            start_seconds: from the first frame.
            end_seconds: from the first frame.
            label: of the action; `none of these` says that it is none of the others.
            replace: erase other labels in that time.

        Raises:
            UnknownNameError: no such video.
            InputError: times that are no interval or leave the video; an overlap with another
                label where the project has one at a time.
        """

        def add(project: Project) -> tuple[Project, Mark]:
            of = project.video(video)
            spelled = known_label(label, project.marks, BACKGROUND)
            new = fitted(
                Mark(of.name, start_seconds, end_seconds, spelled),
                duration_seconds=of.duration_seconds,
            )
            may_overlap = project.settings.labels == "several"
            marks, new = with_mark(project.marks, new, may_overlap=may_overlap, replaces=replace)
            return dataclass_replace(project, marks=marks), new

        return self._change(add)

    def unmark(
        self, video: str, start_seconds: float, end_seconds: float, label: str | None = None
    ) -> int:
        """Erase marks in a stretch of a video; return how many were touched.

        Marks that reach beyond the stretch keep the rest.

        Args:
            video: as of `mark`, whose errors are raised too.
            start_seconds: from the first frame.
            end_seconds: from the first frame.
            label: the only one that is erased; None erases all.
        """
        stretch = Interval(start_seconds, end_seconds)

        def erase(project: Project) -> tuple[Project, int]:
            name = project.video(video).name
            spelled = None if label is None else known_label(label, project.marks)
            marks, touched = without(project.marks, name, stretch, label=spelled)
            return dataclass_replace(project, marks=marks), touched

        return self._change(erase)

    def relabel(self, mark: Mark, label: str) -> Mark:
        """Give a mark another label, and return what it has become; errors as of `mark`."""

        def change(project: Project) -> tuple[Project, Mark]:
            if mark not in project.marks:
                raise InputError(f"There is no mark {mark}.")
            others = tuple(other for other in project.marks if other != mark)
            new = dataclass_replace(mark, label=known_label(label, others, BACKGROUND))
            may_overlap = project.settings.labels == "several"
            marks, new = with_mark(others, new, may_overlap=may_overlap)
            return dataclass_replace(project, marks=marks), new

        return self._change(change)

    def set_reviewed(self, video: str, is_reviewed: bool = True) -> ProjectVideo:
        """Say whether all actions of a video are marked, so that its other time is none of them."""

        def change(project: Project) -> tuple[Project, ProjectVideo]:
            new = dataclass_replace(project.video(video), is_reviewed=is_reviewed)
            return project.with_video(new), new

        return self._change(change)

    def import_marks(
        self, path: str | os.PathLike[str], *, format: ImportFormat = "auto"
    ) -> ImportReport:
        """Add the marks of a file: a table of intervals, or an export of BORIS or ELAN.

        Rows of videos that the project does not have, and those that cannot be marks, are left out
        and told as problems. Intervals that end after their video are used up to its end.

        Args:
            path: the file, or a folder of such files.
            format: "intervals" (path,start_seconds,end_seconds,label), "boris" or "elan"; "auto"
                tells it.

        Raises:
            AnnotationError: nothing in the file can be read.
            InputError: another format.
        """
        return self._change(lambda project: import_file(project, Path(path), format=format))

    def train(self, *, device: str = "cpu", listener: Listener | None = None) -> TeachReport:
        """Learn from the marks, propose a timeline for every video, and return how good it is.

        Features are computed once for each video, which takes a share of its length, and kept.
        After a change of marks it is a matter of seconds.

        Args:
            device: where networks compute features.
            listener: called with the progress; an error that it raises stops the training. What is
                computed is kept.

        Raises:
            AnnotationError: too little is marked.
            VideoError: a video is missing, has changed or cannot be read.
            InputError: another process trains the project.
            UnknownNameError, WeightsError, CheckpointError: networks that cannot be had.
            DiskError: a file cannot be written.
        """
        from dualstream.engine.teach.training import train_project

        with training(self.folder):
            return train_project(self.project(), device=device, listener=listener)

    @property
    def is_trained(self) -> bool:
        """Whether there is a classifier."""
        return self._model_or_none() is not None

    @property
    def report(self) -> TeachReport | None:
        """Of the last training; None before the first."""
        model = self._model_or_none()
        return None if model is None else model.report

    @property
    def is_stale(self) -> bool:
        """Whether marks, videos or settings have changed since the last training."""
        from dualstream.engine.teach.model import taught_on

        model = self._model_or_none()
        return model is not None and model.taught_on != taught_on(self.project())

    def timeline(self, video: str, **thresholds: Unpack[Thresholds]) -> VideoTimeline:
        """Return the proposed timeline of a video of the project.

        Args:
            video: name or path.
            thresholds: when a class comes and goes, see `Thresholds`.

        Raises:
            CheckpointError: not trained yet, or not with this video or these settings.
            UnknownNameError: no such video.
            InputError: thresholds out of range.
        """
        from dualstream.engine.teach.model import read_model
        from dualstream.engine.teach.training import kept_timeline

        project = self.project()
        of = project.video(video)
        return kept_timeline(project, read_model(self.folder), of, **thresholds)

    def review(self, *, most: int = 20) -> tuple[Suggestion, ...]:
        """Return the windows that teach most if they are marked next, the least certain first.

        None overlaps another, a mark, or a video that is reviewed.

        Args:
            most: how many.

        Raises:
            CheckpointError: as of `timeline`.
        """
        from dualstream.engine.teach.model import read_model, suggestions
        from dualstream.engine.teach.training import kept_timeline

        check_least(1, most=most)
        project, model = self.project(), read_model(self.folder)
        timelines = [kept_timeline(project, model, video) for video in project.videos]
        return suggestions(timelines, project, most=most)

    def predict(
        self,
        path: str | os.PathLike[str],
        *,
        device: str = "cpu",
        listener: Listener | None = None,
        **thresholds: Unpack[Thresholds],
    ) -> VideoTimeline:
        """Return the timeline of any video file; its features are not kept, the networks are.

        Args:
            path: of the file.
            device: where the networks run.
            listener: called with the progress; an error that it raises stops the prediction.
            thresholds: as of `timeline`.

        Raises:
            CheckpointError: not trained yet, or with other settings.
            VideoError: the file cannot be read.
        """
        from dualstream.engine.teach.model import read_model, timeline_of
        from dualstream.engine.teach.training import extractor_of, features_of_file

        project, model = self.project(), read_model(self.folder)
        digest = project.settings.features_digest()
        if model.features_digest != digest:
            raise CheckpointError(
                f"{self.folder} was trained with other networks or steps. Run: dualstream teach "
                f"train {self.folder}"
            )
        if self._extractor is None or self._extractor[0] != (digest, device):
            self._extractor = (digest, device), extractor_of(project, device=device)
        windows = features_of_file(
            Path(path), self._extractor[1], steps_of_window=model.steps, listener=listener
        )
        return timeline_of(model, os.fspath(path), windows, **thresholds)

    def _change(
        self, change: Callable[[Project], tuple[Project, _Value]], *, removes_video: bool = False
    ) -> _Value:
        """Read the project, change it and write it, while nobody else does."""
        with changing(self.folder):
            project, value = change(self.project())
            write_project(project, removes_video=removes_video)
            write_manifest(project)
            return value

    def _model_or_none(self) -> TaughtModel | None:
        from dualstream.engine.teach.model import read_model

        try:
            return read_model(self.folder)
        except CheckpointError:
            return None
