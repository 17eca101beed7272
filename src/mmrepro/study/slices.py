"""What a slice of a study is called."""

from __future__ import annotations

import re

from mmrepro.config.base import content_hash
from mmrepro.config.study import StudyConfig

SLICE_LENGTH = 40


def slice_of(study: StudyConfig, whole: StudyConfig) -> str:
    """Return in a few letters what tells a study from the whole one; empty where nothing does.

    Parameters
    ----------
    study
        With what --config has changed.
    whole
        As its file says.
    """
    found, written = study.model_dump(mode="json"), whole.model_dump(mode="json")
    changed = {key: found[key] for key in sorted(found) if key != "study" and found[key] != written[key]}
    if "models" in changed and study.focus == study.models[0]:
        changed.pop("focus", None)  # which follows from the models where nobody names it
    if not changed:
        return ""
    words = [f"{key} {value}" for key, value in changed.items()]
    readable = "-".join(re.findall("[a-z0-9]+", " ".join(words).lower()))[:SLICE_LENGTH].strip("-")
    return f"{readable}-{content_hash(changed)[:4]}"
