"""The page of the results: the committed tables of every reference study as they are, and what their records say."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from generator.text import code, details, join, read_json, read_yaml, table
from mmrepro.reporting.escape import markdown

CUTOFF = 20
"""Cutoff of the table of every metric."""
FIGURES = {
    "accuracy": "Accuracy of every model",
    "search": "Search: the best so far against trials",
    "sensitivity": "Sensitivity",
    "degrees": "How interactions spread over users and items",
}


def reference_studies(root: Path) -> list[str]:
    """Return the names of the studies whose results are committed."""
    return sorted(path.parent.name for path in (root / "results/reference").glob("*/summary.json"))


def table_text(path: Path) -> tuple[str, str]:
    """Return title (as HTML) and body of a table's file; headings inside become bold lines, so that it may stand
    anywhere.
    """
    title, _, body = path.read_text().partition("\n")
    return re.sub(r"\\(?=[^\w\s])", "", title.lstrip("# ")), re.sub(r"^#+ (.*)$", r"**\1**", body, flags=re.MULTILINE)


def _records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "runs.jsonl").read_text().splitlines()]


def facts(root: Path, study: str) -> str:
    """Return what configuration, summary and run records say about a study."""
    folder = root / "results/reference" / study
    summary, records = read_json(folder / "summary.json"), _records(folder)
    purposes = Counter(record["purpose"] for record in records)
    commits = sorted({record["git"]["commit"][:12] for record in records if record.get("git", {}).get("commit")})
    devices = sorted({record["device"] for record in records})
    torch = sorted({record["versions"]["torch"] for record in records})
    hours = sum(record["wall_seconds"] or 0 for record in records) / 3600
    seeds = sorted({record["seed"] for record in records if record["purpose"] == "final"})
    lines = [
        f"configuration `config/studies/{study}.yaml`; printed by `mmrepro show results/reference/{study}`",
        "data sets and protocols: "
        + "; ".join(f"`{name}` ({', '.join(protocols)})" for name, protocols in summary["test"].items()),
        f"runs: {', '.join(f'{count} {purpose}' for purpose, count in sorted(purposes.items()))}; seeds of final runs "
        f"{', '.join(map(str, seeds))}; holes: {summary['holes']}",
        f"{hours:.2f} hours of runs on {', '.join(devices)}; torch {', '.join(torch)}",
        f"commits: {', '.join(map(code, commits))}",
    ]
    return "\n".join(f"- {line}" for line in lines)


def every_metric(summary: dict[str, Any]) -> str:
    """Return the means of every metric at one cutoff, as the summary has them."""
    parts = []
    for dataset, protocols in summary["test"].items():
        for protocol, models in protocols.items():
            ending = f"_at_{CUTOFF}"
            metrics = [name for name in next(iter(models.values())) if name.endswith(ending)]
            rows = [
                (model, *(f"{found[m]:.4f}" if m in found else "" for m in metrics)) for model, found in models.items()
            ]
            labels = [name.removesuffix(ending).replace("_", " ") for name in metrics]
            parts += [f"**{dataset}, protocol {protocol}, test, at {CUTOFF}**", table(("model", *labels), rows)]
    return join(parts)


def section(root: Path, study: str) -> str:
    """Return the section of one study: its facts, its main table, and the others to be unfolded."""
    folder = root / "results/reference" / study
    title = markdown(read_yaml(root / f"config/studies/{study}.yaml")["title"])
    summary = read_json(folder / "summary.json")
    parts = [f"(result-{study})=\n## {title}", facts(root, study)]
    for path in sorted((folder / "tables").glob("*.md"), key=lambda path: (path.stem != "main", path.stem)):
        name, body = table_text(path)
        if path.stem == "main":
            parts.append(body)
        else:
            parts.append(details(f"{path.stem}: {name}", body))
    parts.append(details("every metric", every_metric(summary)))
    code_rows = [(f"`{model}`", f"`{value}`") for model, value in summary["code"].items()]
    parts.append(details("fingerprints of the code that made the runs", table(("model", "code"), code_rows)))
    for path in sorted((folder / "figures").glob("*.svg")):
        label = FIGURES.get(path.stem, path.stem.replace("_", " "))
        parts.append(details(f"figure: {label}", f"![{label}](../results/reference/{study}/figures/{path.name})"))
    return join(parts)


def fragment(root: Path) -> str:
    """Return one section a reference study."""
    return join(section(root, study) for study in reference_studies(root))
