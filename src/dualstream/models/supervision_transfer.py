"""Supervision transfer (Diba et al. 2017): a 2D network teaches a 3D one without labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from dualstream.errors import ShapeError
from dualstream.models.network import Accepts, Network, fold_segments

JOINED_FEATURES = 1024
"""Width that the features of either network are brought to before they are joined."""


class SupervisionTransfer(nn.Module):
    """Student on clips and frozen teacher on frames, joined by layers that tell whether they match.

    To know whether frames are those of a clip, the student has to see what the teacher sees. The
    teacher's features are averaged over the frames; both sides go through a fully connected layer
    of 1024, are joined, and go through fully connected layers of 512 and 128 to two logits.
    Student and fully connected layers learn; the teacher, its batch norms included, stays bit for
    bit what it was, and so does the student's classifier, which has no part in this.

    Args:
        student: network over clips; afterwards it is the start of ordinary training, once
            `set_trainable` has been called for it: its classifier is frozen meanwhile.
        teacher: network over single RGB frames, for instance a `tsn`.

    Source:
        Diba et al. 2017, section 3.2 and figure 2.
    """

    def __init__(self, student: Network, teacher: Network) -> None:
        super().__init__()
        self.student = student
        self.teacher = teacher
        self.of_student = _fully_connected(student.num_features, JOINED_FEATURES)
        self.of_teacher = _fully_connected(teacher.num_features, JOINED_FEATURES)
        self.joined = nn.Sequential(
            _fully_connected(2 * JOINED_FEATURES, 512), _fully_connected(512, 128)
        )
        self.answer = nn.Linear(128, 2)
        self.teacher.requires_grad_(False)
        self.student.classifier.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module.train`, but the teacher stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, clips: Tensor, frames: Tensor, partners: Sequence[int]) -> Tensor:
        """Judge each clip twice: with its own frames, and with those of its partner.

        Args:
            clips: (N, C, T, H, W) as the student sees them, or (N, S, C, T, H, W) with S segments,
                which count as N*S clips.
            frames: the frames of the same clips, (N, 3, T, H, W) or (N, S, 3, T, H, W), as the
                teacher sees them.
            partners: for each of the N*S clips, the index of one of another video
                (see `mismatched_partners`); () where there is none.

        Returns:
            (2*N*S, 2) logits of 'do not match' (0) and 'match' (1): first each clip with its own
            frames, then each clip with its partner's. Without partners (N*S, 2).

        Raises:
            ShapeError: clips of another C, or too short or small for the student; frames that are
                not those of the clips; another number of partners, or none of the clips.
        """
        self.student.check(clips.shape)
        Accepts(channels=3).check(frames.shape, name="the teacher")
        frames, count = fold_segments(frames), len(fold_segments(clips))
        if any(not 0 <= partner < count for partner in partners):
            raise ShapeError(
                f"Partners are indices of the {count} clips, from 0, got {tuple(partners)}."
            )
        if len({count, len(frames), len(partners) or count}) != 1:
            raise ShapeError(
                f"Each clip needs its frames and a partner, got {count} clips, frames of "
                f"{len(frames)} and {len(partners)} partners."
            )
        of_clips = self.of_student(self.student.embed(clips))  # (N*S, 1024)
        of_frames = self.of_teacher(self._teacher_features(frames))  # (N*S, 1024)
        matching = torch.cat([of_clips, of_frames], dim=1)  # (N*S, 2048)
        mismatched = torch.cat([of_clips[: len(partners)], of_frames[list(partners)]], dim=1)
        logits: Tensor = self.answer(self.joined(torch.cat([matching, mismatched])))
        return logits

    @torch.no_grad()
    def _teacher_features(self, frames: Tensor) -> Tensor:
        """Teacher's features, averaged over the frames: (N, 3, T, H, W) -> (N, D)."""
        # One clip at a time: 16 clips of 32 frames at once would be 512 images.
        images = frames.transpose(1, 2).unsqueeze(3)  # (N, T, 3, 1, H, W)
        return torch.stack([self.teacher.embed(clip).mean(dim=0) for clip in images])


def mismatched_partners(videos: Sequence[str]) -> tuple[int, ...]:
    """For each clip of a batch, the next one (going round) that is of another video.

    Example:
        a b c -> 1 2 0; a a b -> 2 2 0; a a -> nothing, as there is no other video.

    Args:
        videos: name of the video of each clip.

    Returns:
        One index a clip, or () where all clips are of one video.
    """
    if len(set(videos)) < 2:
        return ()
    count = len(videos)
    return tuple(
        next(i % count for i in range(index + 1, index + count) if videos[i % count] != video)
        for index, video in enumerate(videos)
    )


def matching_labels(clips: int, *, device: torch.device | None = None) -> Tensor:
    """(2 * clips,) int64, classes of the rows that `SupervisionTransfer` gives: 3 -> 111000."""
    return (torch.arange(2 * clips, device=device) < clips).long()


def _fully_connected(in_features: int, out_features: int) -> nn.Sequential:
    layer = nn.Linear(in_features, out_features)
    # Torch's own start shrinks the features layer by layer, and SGD then stands still for epochs.
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return nn.Sequential(layer, nn.ReLU(inplace=True))
