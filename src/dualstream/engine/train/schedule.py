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
    after_warmup = _factor(
        max(step, warmup_steps),
        steps_per_epoch=steps_per_epoch,
        epochs=epochs,
        schedule=schedule,
        warmup_steps=warmup_steps,
    )
    if step >= warmup_steps:
        return after_warmup
    start = schedule.warmup_start
    return start + (after_warmup - start) * (step + 1) / warmup_steps


def _factor(
    step: int, *, steps_per_epoch: int, epochs: int, schedule: ScheduleSection, warmup_steps: int
) -> float:
    """The schedule without its warm-up."""
    if schedule.name == "step":
        passed = sum(step / steps_per_epoch >= milestone for milestone in schedule.milestones)
        return float(schedule.gamma**passed)
    if schedule.name == "cosine":
        first = 0 if schedule.cosine_over == "all" else warmup_steps
        total_steps = max(1, epochs * steps_per_epoch - first)
        part = min(1.0, (step - first) / total_steps)
        return 0.5 * (1 + math.cos(math.pi * part))
    return 1.0
