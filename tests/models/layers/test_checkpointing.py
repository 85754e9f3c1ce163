"""Checkpointed blocks: the same gradients, statistics and random numbers."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from dualstream.models.layers.norm import checkpointed


def block():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(3, 4, 3, padding=1),
        nn.BatchNorm3d(4),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Conv3d(4, 3, 1),
        nn.BatchNorm3d(3),
    )


def step(run, module, x):
    """Output, gradient of x, gradients and buffers of the module after one backward pass."""
    x = x.clone().requires_grad_()
    torch.manual_seed(7)
    y = run(module, x)
    y.square().sum().backward()
    return (
        y.detach(),
        x.grad,
        [p.grad for p in module.parameters()],
        [b.clone() for b in module.buffers()],
    )


def plainly(module, x):
    return module(x)


def test_everything_is_as_without():
    module = block()
    x = torch.randn(2, 3, 2, 4, 4)
    expected = step(plainly, copy.deepcopy(module), x)
    found = step(checkpointed, module, x)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert module[1].num_batches_tracked == 1
    assert not torch.equal(module[1].running_mean, torch.zeros(4))


def test_torch_s_own_would_move_statistics_twice():
    module = block()
    x = torch.randn(2, 3, 2, 4, 4)
    step(lambda module, x: checkpoint(module, x, use_reentrant=False), module, x)
    assert module[1].num_batches_tracked == 2


def test_frozen_norms_use_their_statistics_in_both_runs():
    module = block()
    nn.init.normal_(module[1].running_mean)
    module[1].eval()
    x = torch.randn(2, 3, 2, 4, 4)
    expected = step(plainly, copy.deepcopy(module), x)
    found = step(checkpointed, module, x)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert module[1].num_batches_tracked == 0
    assert module[5].num_batches_tracked == 1


def test_norms_go_on_keeping_statistics_afterwards():
    module = block()
    x = torch.randn(2, 3, 2, 4, 4)
    for count in (1, 2, 3):
        step(checkpointed, module, x)
        assert [module[i].num_batches_tracked.item() for i in (1, 5)] == [count, count]


class Failing(nn.Module):
    """Fails when it is run a second time."""

    def __init__(self):
        super().__init__()
        self.runs = 0
        self.norm = nn.BatchNorm3d(3)

    def forward(self, x):
        self.runs += 1
        y = self.norm(x)
        if self.runs == 2:
            raise MemoryError("second run")
        return y.square()


def test_an_error_in_the_second_run_leaves_norms_as_they_were():
    module = Failing()
    buffers = dict(module.norm.named_buffers())
    y = checkpointed(module, torch.randn(2, 3, 2, 4, 4).requires_grad_())
    with pytest.raises(MemoryError, match="second run"):
        y.sum().backward()
    assert module.norm.num_batches_tracked == 1
    assert all(value is buffers[name] for name, value in module.norm.named_buffers())


def test_activations_are_not_kept():
    kept = []

    def pack(tensor):
        kept.append(tuple(tensor.shape))
        return tensor

    module, x = block(), torch.randn(2, 3, 2, 4, 4, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module(x)
        without = len(kept)
        kept.clear()
        checkpointed(module, x)
    assert without > 5
    assert kept in ([], [(2, 3, 2, 4, 4)])
