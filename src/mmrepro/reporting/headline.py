"""Which metrics stand in readable tables and figures, and what they are called there."""

from __future__ import annotations

from mmrepro.config.study import StudyConfig
from mmrepro.evaluation.metrics import METRICS

HEADLINE = tuple(metric for metric in METRICS if metric.headline)
ACCURACY = tuple(metric.name for metric in METRICS if metric.accuracy)
SHORT = {metric.name: metric.short for metric in METRICS}
LEGEND = ", ".join(f"{metric.short} {metric.label}" for metric in HEADLINE)
"""What the headings of columns stand for."""


def headline_cutoffs(study: StudyConfig) -> tuple[int, ...]:
    """Return the cutoffs of the readable tables: 10 and 20, or the two largest where the study ranks neither."""
    return tuple(k for k in (10, 20) if k in study.cutoffs) or tuple(sorted(study.cutoffs)[-2:])


def headline_columns(study: StudyConfig) -> tuple[tuple[str, int], ...]:
    """Return metric and cutoff of the columns of the readable tables."""
    return tuple((metric.name, k) for metric in HEADLINE for k in headline_cutoffs(study))


def drawn_metric(study: StudyConfig) -> tuple[str, int]:
    """Return metric and cutoff of the figures: the first of the headline at its larger cutoff."""
    return HEADLINE[0].name, headline_cutoffs(study)[-1]
