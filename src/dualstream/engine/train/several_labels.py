"""Training on videos that may have several classes, each with a probability of its own."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualstream.clips.data.manifest import Manifest
from dualstream.engine.datasets import Part
from dualstream.engine.recipe import Recipe
from dualstream.engine.train.module import TrainingModule
from dualstream.errors import RecipeError
from dualstream.models.network import Network
from dualstream.types import Clip


class SeveralLabelsModule(TrainingModule):
    """Trains a network whose logits are judged one by one: is this class there, or not?"""

    measure = "hit@1"

    def outputs_and_labels(
        self, network: nn.Module, batch: Clip, *, absent: Mapping[str, Tensor] | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return the logits (N, K) of each head, and which classes each sample has, (N, K)."""
        assert batch.targets is not None
        outputs, _ = super().outputs_and_labels(network, batch, absent=absent)
        return outputs, batch.targets

    def cross_entropy(self, logits: Tensor, labels: Tensor, part: Part) -> Tensor:
        """Mean binary cross entropy of logits (N, K) and what is there, (N, K).

        Source:
            As PySlowFast and MMAction2 train on Charades and AVA (`bce_logit`, mean over classes).
        """
        return F.binary_cross_entropy_with_logits(logits, labels)

    def top1(self, logits: Tensor, labels: Tensor, part: Part) -> Tensor:
        """Share of the samples that have the class whose logit is the largest of (N, K)."""
        best = logits.argmax(dim=1, keepdim=True)
        return torch.gather(labels, 1, best).mean()


def check_labels(model: Network, recipe: Recipe, manifests: Mapping[str, Manifest]) -> None:
    """Check that a recipe suits the number of classes that the videos have.

    Args:
        model: of the recipe.
        recipe: of the run.
        manifests: data set -> its manifest.

    Raises:
        RecipeError: videos have several classes and the recipe knows one, or it does with several
            what works with one only.
    """
    if recipe.train.labels == "one":
        for name, manifest in manifests.items():
            if manifest.has_several_labels:
                record = next(r for r in manifest.records if r.more_labels)
                raise RecipeError(
                    f"{name}: {record.name} has {len(record.labels)} classes. Set "
                    "train.labels=several, or give each video one class."
                )
        return
    for what, applies in {
        "--also": len(manifests) > 1,
        "data.frozen_views": recipe.data.frozen_views > 0,
        "train.label_smoothing": recipe.train.label_smoothing > 0,
        "the loss motion": "motion" in recipe.train.losses,
        f"model.name={model.name}": model.exchanges_maps,
    }.items():
        if applies:
            raise RecipeError(
                f"train.labels=several does not go with {what}: leave one of the two out."
            )
