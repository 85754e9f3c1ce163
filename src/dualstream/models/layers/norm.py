"""Batch norms: their statistics where blocks run twice, and the error of too few values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dualstream.errors import ShapeError


def batch_norms(module: nn.Module) -> list[nn.Module]:
    """All batch norms inside a module."""
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    return [part for part in module.modules() if isinstance(part, kinds)]


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


def checkpointed(block: nn.Module, x: Tensor) -> Tensor:
    """`block(x)` whose activations are computed again in the backward pass.

    Torch's own `checkpoint` would run each batch norm twice and so move its running statistics
    twice; here the second run leaves them alone. Random numbers (dropout) are the same in both.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_untouched(block)

    y: Tensor = checkpoint(block, x, use_reentrant=False, context_fn=contexts)
    return y


@contextmanager
def _statistics_untouched(block: nn.Module) -> Iterator[None]:
    kept = {norm: set_statistics_aside(norm) for norm in batch_norms(block) if norm.training}
    try:
        yield
    finally:
        for norm, statistics in kept.items():
            put_statistics_back(norm, statistics)


def set_statistics_aside(norm: nn.Module) -> dict[str, Tensor]:
    """Return the running statistics of a batch norm, which from now on moves copies of them."""
    statistics = dict(norm.named_buffers(recurse=False))
    put_statistics_back(norm, {name: value.clone() for name, value in statistics.items()})
    return statistics


def put_statistics_back(norm: nn.Module, statistics: Mapping[str, Tensor]) -> None:
    """Give a batch norm the statistics that were set aside."""
    for name, value in statistics.items():
        setattr(norm, name, value)
