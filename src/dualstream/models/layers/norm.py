"""Batch norms of a network, and the error of those that have too few values to train with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from dualstream.errors import ShapeError

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def batch_norms(module: nn.Module) -> list[nn.Module]:
    """All batch norms inside a module."""
    return [part for part in module.modules() if isinstance(part, BATCH_NORMS)]


@contextmanager
def explained_statistics(name: str) -> Iterator[None]:
    """Raise ShapeError where torch's batch norms complain of too few values to train with."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ShapeError(
            f"In training a batch norm of {name} is left with one value a channel, which has no "
            "variance: give it a larger batch, or larger or longer clips."
        ) from error
