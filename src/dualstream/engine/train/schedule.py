"""Learning rates over a run, as pure functions of the step."""

from __future__ import annotations

import math

from dualstream.engine.recipe import ScheduleSection


def learning_rate_factor(
    step: int, *, steps_per_epoch: int, epochs: int, schedule: ScheduleSection
) -> float:
    """Factor of the base learning rate at an optimiser step.

    A step schedule multiplies by `gamma` after each milestone; a cosine falls from 1 to 0, over the
    epochs after warm-up or over all of them; a constant stays. Warm-up rises linearly from
    `warmup_start` (not itself reached) to where the schedule is after it, over `warmup_epochs`.

    Args:
        step: 0-based optimiser step.
        steps_per_epoch: optimiser steps of one epoch, at least 1.
        epochs: epochs of the whole run.

    Example:
        10 steps an epoch, milestones (2,), gamma .1: steps 0..19 give 1, steps 20.. give .1.
    """
    warmup_steps = round(schedule.warmup_epochs * steps_per_epoch)
    at = max(step, warmup_steps)
    factor = 1.0
    if schedule.name == "step":
        factor = schedule.gamma ** sum(at / steps_per_epoch >= m for m in schedule.milestones)
    elif schedule.name == "cosine":
        first = 0 if schedule.cosine_over == "all" else warmup_steps
        total_steps = max(1, epochs * steps_per_epoch - first)
        factor = 0.5 * (1 + math.cos(math.pi * min(1.0, (at - first) / total_steps)))
    if step >= warmup_steps:
        return factor
    start = schedule.warmup_start
    return start + (factor - start) * (step + 1) / warmup_steps
