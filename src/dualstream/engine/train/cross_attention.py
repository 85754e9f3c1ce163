"""Training of streams that see each other's attention maps (Park 2019).

Maps are made anew for each batch, from the very clips that are in it, so that crops and mirroring
stay random, none of another clip can come in, and a run that was stopped ends as an unbroken one.
"""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualstream.clips.data.manifest import Manifest
from dualstream.engine.recipe import Recipe
from dualstream.engine.train.module import TrainingModule
from dualstream.errors import RecipeError
from dualstream.models.grad_cam import correlations
from dualstream.models.joined.cross_attention import CrossAttention
from dualstream.models.network import Network
from dualstream.types import Clip

Phase = Literal["constant", "maps", "networks"]
"""Towers with the constant map, towers with maps by Grad-CAM, the attention networks."""


def check_attention(model: Network, recipe: Recipe) -> None:
    """Raise RecipeError unless a recipe says how to make maps just where the network wants them."""
    if model.exchanges_maps and recipe.train.attention is None:
        raise RecipeError(
            f"The streams of {model.name} see each other's attention maps: say in train.attention "
            "how they are learnt, for instance {schedule: two_phase, constant_epochs: 20, "
            "network_epochs: 10}."
        )
    if recipe.train.attention is not None and not model.exchanges_maps:
        raise RecipeError(
            f"train.attention is for networks that exchange attention maps; {model.name} does not. "
            "Leave it out, or set model.name=cross_attention."
        )


class CrossAttentionModule(TrainingModule):
    """Trains the towers of a `CrossAttention`, then its attention networks.

    Towers learn by the recipe's optimiser, losses and schedule. End to end, the rounds of Algorithm
    1 are batches, each of new clips whose maps start at the constant one: the temporal tower's map
    of it, then the spatial tower's map with that one, then a step of both towers. In two phases,
    the maps are those that the towers gave with the constant map at the end of the first. Grad-CAM
    sees networks in evaluation mode.

    Attention networks learn by Adam from what a test gives them: features of the towers that see
    the maps predicted so far, against Grad-CAM of the same towers and clips. A part of the videos
    is only measured: `attention_held_out_loss` and `attention_held_out_correlation` of each stream
    are logged (tensorboard).

    Args:
        recipe: with `train.attention`.
        model: of the recipe.
        videos: that are trained on.

    Source:
        Park 2019, sections 3.1, 3.2 and 4.1.
    """

    model: CrossAttention

    def __init__(self, recipe: Recipe, model: Network, *, videos: Manifest) -> None:
        super().__init__(recipe, model)
        assert isinstance(model, CrossAttention)
        assert recipe.train.attention is not None
        self.settings = recipe.train.attention
        self.scheduled_epochs = recipe.train.epochs - self.settings.network_epochs
        _, held_out = videos.hold_out(self.settings.hold_out, seed=recipe.train.seed)
        self.held_out = frozenset(record.name for record in held_out.records)
        self.extractor: CrossAttention | None = None
        """The network as it was when its maps were extracted."""
        if self.settings.schedule == "two_phase":
            self.extractor = copy.deepcopy(model).requires_grad_(False)
        self._epoch_of_state = 0

    @property
    def optimized(self) -> nn.Module:
        """The towers and the filters of the maps."""
        return nn.ModuleList((self.model.tower, self.model.map_filters))

    def phase(self, epoch: int) -> Phase:
        """What an epoch, counted from 0, trains."""
        if epoch >= self.scheduled_epochs:
            return "networks"
        return "constant" if epoch < self.settings.constant_epochs else "maps"

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._epoch_of_state = checkpoint["epoch"]

    def configure_optimizers(self) -> Any:
        if self.phase(max(self.current_epoch, self._epoch_of_state)) != "networks":
            return super().configure_optimizers()
        return torch.optim.Adam(self.model.attention.parameters(), lr=self.settings.network_lr)

    def on_train_epoch_start(self) -> None:
        """Change phases."""
        if self.extractor is not None and self.current_epoch == self.settings.constant_epochs:
            self.extractor.load_state_dict(self.model.state_dict())
        if self.current_epoch == self.scheduled_epochs:
            self.trainer.strategy.setup_optimizers(self.trainer)

    def training_outputs(self, batch: Clip, absent: Any) -> tuple[dict[str, Tensor], Tensor]:
        clips = self._normalizer(batch.data)
        maps = self.maps(clips, batch.label)
        return self.model.outputs(clips, absent=absent, maps=maps), batch.label

    def maps(self, clips: dict[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Stream -> attention maps (N, S, H, W) that the other stream sees in this epoch.

        Args:
            clips: stream -> (N, S, C, T, H, W).
            labels: (N,).
        """
        model, source = self.model, self.extractor or self.model
        maps = model.constant_maps(clips)
        if self.phase(self.current_epoch) == "constant":
            return maps
        seen = {stream: maps[model.other(stream)] for stream in clips}
        with torch.autocast(self.device.type, enabled=False):
            temporal = source.grad_cam(clips, seen, labels=labels, stream=model.temporal)
            if self.extractor is None:
                seen[model.spatial] = temporal
            spatial = source.grad_cam(clips, seen, labels=labels, stream=model.spatial)
        return {model.spatial: spatial, model.temporal: temporal}

    def training_step(self, batch: Clip, batch_idx: int) -> Tensor:
        if self.phase(self.current_epoch) == "networks":
            loss = self._network_step(batch)
        else:
            loss = super().training_step(batch, batch_idx)
        if self.trainer.world_size > 1:  # processes wait for a gradient of every parameter
            loss = loss + 0 * sum(p.sum() for p in self.model.parameters() if p.requires_grad)
        return loss

    def _network_step(self, batch: Clip) -> Tensor:
        """Loss of the attention networks: binary cross entropy, summed over the streams."""
        model = self.model.eval()
        clips = self._normalizer(batch.data)
        is_held = torch.tensor([name in self.held_out for name in batch.name], device=self.device)
        losses = []
        with torch.autocast(self.device.type, enabled=False):
            with torch.no_grad():
                found = model.attend(clips)
            outputs = model.answers(found)
            for stream in clips:
                wanted = model.grad_cam(clips, found.seen, labels=batch.label, stream=stream)
                features = found.features[stream]
                self._measure(stream, [f[is_held] for f in features], wanted[is_held])
                if not is_held.all():
                    learnt = [f[~is_held] for f in features]
                    predicted = self._predicted(stream, learnt, wanted, training=True)
                    losses.append(F.binary_cross_entropy(predicted, wanted[~is_held].flatten(0, 1)))
        nothing = 0 * sum(p.sum() for p in model.attention.parameters())
        loss = torch.stack(losses).sum() if losses else torch.as_tensor(nothing)
        if not torch.isfinite(loss):
            raise self._diverged(f"The loss of the attention networks is {loss.item()}")
        self._log_means("train", loss, outputs, batch.label)
        return loss

    def _predicted(
        self, stream: str, features: list[Tensor], wanted: Tensor, *, training: bool
    ) -> Tensor:
        """Maps (N*S, H, W) of the attention network for features (N, S, C, H', W')."""
        network = self.model.attention[stream].train(training)
        height, width = wanted.shape[-2:]
        predicted: Tensor = network([f.flatten(0, 1) for f in features], (height, width))
        return predicted

    @torch.no_grad()
    def _measure(self, stream: str, features: list[Tensor], wanted: Tensor) -> None:
        """Log how near the predicted maps of held-out videos come to Grad-CAM."""
        if not len(wanted):
            return
        maps = wanted.flatten(0, 1)
        predicted = self._predicted(stream, features, wanted, training=False)
        values = {
            "loss": F.binary_cross_entropy(predicted, maps),
            "correlation": correlations(predicted, maps).mean(),
        }
        names = {f"attention_held_out_{name}/{stream}": value for name, value in values.items()}
        self.log_dict(names, on_epoch=True, on_step=False, batch_size=len(maps))
