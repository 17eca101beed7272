"""What the tables of a study are: metrics, cutoffs and files; light enough to be read by the Snakefile."""

from __future__ import annotations

from pathlib import Path

from mmrepro.config.study import StudyConfig, Variant
from mmrepro.study.plan import Plan

ACCURACY_METRICS = ("recall", "ndcg", "precision", "map", "hit_rate")
BEYOND_ACCURACY_METRICS = ("coverage", "novelty")
METRICS = ACCURACY_METRICS + BEYOND_ACCURACY_METRICS
HEADLINE_METRICS = ("recall", "ndcg")
WITHOUT_LATEX = ("cost", "alignment")
"""Tables that no paper prints."""
ENCODER = "alignrec encoder"
"""What stands in a model's place where a pre-training is meant."""
SUMMARY = Path("summary.json")
DEGREE_FIGURE = Path("figures/degrees.svg")
SEARCH_FIGURE = Path("figures/search.svg")
SENSITIVITY_FIGURE = Path("figures/sensitivity.svg")


def headline_cutoffs(study: StudyConfig) -> tuple[int, ...]:
    """Return the cutoffs of the readable tables: 10 and 20, or the two largest where the study ranks neither."""
    return tuple(k for k in (10, 20) if k in study.cutoffs) or tuple(sorted(study.cutoffs)[-2:])


def headline_columns(study: StudyConfig) -> tuple[tuple[str, int], ...]:
    """Return metric and cutoff of the columns of the readable tables."""
    return tuple((metric, k) for metric in HEADLINE_METRICS for k in headline_cutoffs(study))


def figure_file(study: StudyConfig) -> Path:
    """Return the figure's path below the study's folder, `figures/recall_at_20.svg` for most studies."""
    return Path("figures") / f"recall_at_{headline_cutoffs(study)[-1]}.svg"


def sensitivities(plan: Plan) -> dict[str, str]:
    """Return the comparisons whose variants set one number each, or nothing: name -> the parameter that they vary."""
    found = {}
    for name in plan.comparisons:
        changed = [variant for variant in plan.study.comparisons[name].variants.values() if variant != Variant()]
        parameters = {key for variant in changed for key in variant.parameters}
        numbers = [type(value) in (int, float) for variant in changed for value in variant.parameters.values()]
        features = [variant.features for variant in changed if variant.features]
        if len(parameters) == 1 and len(changed) == len(numbers) > 1 and all(numbers) and not features:
            found[name] = parameters.pop()
    return found


def table_files(plan: Plan) -> tuple[Path, ...]:
    """Return all files that `build_tables` writes below the study's folder."""
    tables = ["main", "datasets", "long_tail", "short_history", "cost", *plan.comparisons]
    tables += ["feature_quality"] if plan.probes else []
    tables += ["alignment"] if plan.alignments else []
    names = [f"{table}.{ending}" for table in tables for ending in ("csv", "md")]
    names += [f"{table}.tex" for table in tables if table not in WITHOUT_LATEX]
    names += ["significance.csv", *(["search.csv"] if plan.selections else [])]
    figures = [figure_file(plan.study), DEGREE_FIGURE, *([SEARCH_FIGURE] if plan.selections else [])]
    figures += [SENSITIVITY_FIGURE] if sensitivities(plan) else []
    return (*(Path("tables") / name for name in names), *figures, SUMMARY)
