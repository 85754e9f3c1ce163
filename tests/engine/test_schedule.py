"""Learning-rate factors as a table of literal cases."""

from __future__ import annotations

import pytest

from dualstream.engine.recipe_sections import ScheduleSection
from dualstream.engine.train.module import learning_rate_factor

STEP = ScheduleSection(name="step", milestones=(2, 4), gamma=0.1)
WARM_STEP = ScheduleSection(name="step", milestones=(2,), gamma=0.5, warmup_epochs=1)
COSINE = ScheduleSection(name="cosine")
WARM_COSINE = ScheduleSection(name="cosine", warmup_epochs=0.5)
CONSTANT = ScheduleSection(name="constant")
FROM_TENTH = ScheduleSection(name="constant", warmup_epochs=1, warmup_start=0.1)
# PySlowFast: the cosine also falls below warm-up, which ends where it is after one epoch of six.
COSINE_OVER_ALL = ScheduleSection(
    name="cosine", warmup_epochs=1, warmup_start=0.1, cosine_over="all"
)


# 10 steps an epoch, 6 epochs.
@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [
        (STEP, 0, 1.0),
        (STEP, 19, 1.0),
        (STEP, 20, 0.1),
        (STEP, 39, 0.1),
        (STEP, 40, 0.01),
        (STEP, 59, 0.01),
        (WARM_STEP, 0, 0.1),
        (WARM_STEP, 4, 0.5),
        (WARM_STEP, 9, 1.0),
        (WARM_STEP, 10, 1.0),
        (WARM_STEP, 20, 0.5),
        (COSINE, 0, 1.0),
        (COSINE, 15, 0.853553),  # (1 + cos(pi / 4)) / 2
        (COSINE, 30, 0.5),
        (COSINE, 60, 0.0),
        (COSINE, 70, 0.0),
        (WARM_COSINE, 0, 0.2),
        (WARM_COSINE, 4, 1.0),
        (WARM_COSINE, 5, 1.0),
        (WARM_COSINE, 60, 0.0),
        (CONSTANT, 0, 1.0),
        (CONSTANT, 59, 1.0),
        (FROM_TENTH, 0, 0.19),  # .1 + .9 / 10
        (FROM_TENTH, 4, 0.55),
        (FROM_TENTH, 9, 1.0),
        (FROM_TENTH, 10, 1.0),
        (COSINE_OVER_ALL, 4, 0.516506),  # .1 + (.933013 - .1) / 2
        (COSINE_OVER_ALL, 9, 0.933013),  # (1 + cos(pi / 6)) / 2
        (COSINE_OVER_ALL, 10, 0.933013),
        (COSINE_OVER_ALL, 30, 0.5),
        (COSINE_OVER_ALL, 60, 0.0),
    ],
)
def test_factor(schedule: ScheduleSection, step: int, expected: float) -> None:
    factor = learning_rate_factor(step, steps_per_epoch=10, epochs=6, schedule=schedule)
    assert factor == pytest.approx(expected, abs=1e-6)
