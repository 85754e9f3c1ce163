"""Gradient checkpointing that leaves batch norms' running statistics right."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from dualstream.models.layers.norm import batch_norms


def checkpointed(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """`block(x)` whose activations are computed again in the backward pass.

    Torch's own `checkpoint` would run each batch norm twice and so move its running statistics
    twice; here the second run leaves them alone. Random numbers (dropout) are the same in both.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_untouched(block)

    y: torch.Tensor = checkpoint(block, x, use_reentrant=False, context_fn=contexts)
    return y


@contextmanager
def _statistics_untouched(block: nn.Module) -> Iterator[None]:
    """Batch norms in training mode move copies of their running statistics."""
    norms = [norm for norm in batch_norms(block) if norm.training]
    kept = [dict(norm.named_buffers()) for norm in norms]
    for norm, buffers in zip(norms, kept, strict=True):
        for name, value in buffers.items():
            setattr(norm, name, value.clone())
    try:
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            for name, value in buffers.items():
                setattr(norm, name, value)
