"""Learning rates over a run, as pure functions of the step."""

from __future__ import annotations

import math

from dualstream.engine.recipe import ScheduleSection


def learning_rate_factor(
    step: int, *, steps_per_epoch: int, epochs: int, schedule: ScheduleSection
) -> float:
    """What the base learning rate is multiplied by at an optimiser step.

    Warm-up rises linearly from one step's share to 1 over `warmup_epochs`; then a step schedule
    multiplies by `gamma` after each milestone, a cosine falls from 1 to 0 over the epochs that
    are left, a constant stays.

    Args:
        step: 0-based optimiser step.
        steps_per_epoch: optimiser steps of one epoch, at least 1.
        epochs: epochs of the whole run.

    Example:
        10 steps an epoch, milestones (2,), gamma .1: steps 0..19 give 1, steps 20.. give .1.
    """
    epoch = step / steps_per_epoch
    warmup_steps = round(schedule.warmup_epochs * steps_per_epoch)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if schedule.name == "step":
        passed = sum(epoch >= milestone for milestone in schedule.milestones)
        return float(schedule.gamma**passed)
    if schedule.name == "cosine":
        total_steps = max(1, epochs * steps_per_epoch - warmup_steps)
        part = min(1.0, (step - warmup_steps) / total_steps)
        return 0.5 * (1 + math.cos(math.pi * part))
    return 1.0
