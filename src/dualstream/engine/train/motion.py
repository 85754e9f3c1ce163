"""Training of networks that estimate motion, by the losses that need no labels.

Stage 1 trains without labels (`train.losses={motion: 1}`), stage 3 end to end
(`train.losses={answer: 1, motion: 0.1}`); stage 2, the temporal network on frozen flow, is ordinary
training (Zhu et al. 2017). Without labels, top-1 in log.csv and metrics.json is the mean structural
similarity of frames to the next ones warped back, at the finest level.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualstream.engine.recipe import Recipe
from dualstream.engine.run.checkpoint import learns_classes
from dualstream.engine.train.module import TrainingModule
from dualstream.models.motion_losses import motion_losses
from dualstream.models.network import Network, fold_segments
from dualstream.models.zoo.motionnet import MotionNetwork
from dualstream.types import Clip


class MotionModule(TrainingModule):
    """Trains a network that has the loss `motion`, by itself or beside the classes.

    Without labels, what is not needed for the flow is left as it started.

    Args:
        recipe: the resolved recipe; `train.losses` names motion.
        model: of the recipe.
    """

    def __init__(self, recipe: Recipe, model: Network) -> None:
        assert isinstance(model, MotionNetwork)
        self.learns_classes = learns_classes(recipe)
        if not self.learns_classes:
            self.measure = "similarity of warped frames"
            model.requires_grad_(False)
            model.motion.requires_grad_(True)
        super().__init__(recipe, model)

    def training_step(self, batch: Clip, batch_idx: int) -> Tensor:
        loss, reached = self._judged(self.model, batch, self.recipe.train.label_smoothing)
        if not torch.isfinite(loss):
            raise self._diverged(f"The loss is {loss.item()}")
        self._log_reached("train", loss, reached, len(batch))
        return loss

    def validation_step(self, batch: Clip, batch_idx: int) -> None:
        self._log_reached("held_out", *self._judged(self.tested_model.eval(), batch), len(batch))

    def _judged(
        self, network: nn.Module, batch: Clip, label_smoothing: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Loss of a batch, and top-1 or what stands for it."""
        assert isinstance(network, MotionNetwork)
        ((name, clips),) = self._normalizer(batch.data).items()  # (N, S, C, T, H, W)
        weights = self.recipe.train.losses
        # The losses are for parts of the full range of bytes, whatever numbers the network is fed.
        std = clips.new_tensor(self.spec.streams[name].std).view(-1, 1, 1, 1)
        frames = fold_segments(clips)
        if not self.learns_classes:
            found = motion_losses(frames * std, network.motion(frames))
            return weights["motion"] * found.total, found.similarity
        logits, levels = network.logits_and_levels(clips)
        found = motion_losses(frames * std, levels)
        answer = F.cross_entropy(logits, batch.label, label_smoothing=label_smoothing)
        loss = weights["answer"] * answer + weights["motion"] * found.total
        return loss, (logits.argmax(dim=1) == batch.label).float().mean()

    def _log_reached(self, part: str, loss: Tensor, reached: Tensor, count: int) -> None:
        self.log_dict(
            {f"{part}_loss": loss, f"{part}_top1": reached},
            on_epoch=True,
            on_step=False,
            batch_size=count,
            sync_dist=True,
        )
