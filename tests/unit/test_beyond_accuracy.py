from pathlib import Path

import pandas as pd
import pytest
from hand_made import build_hand_made

from mmrepro.evaluation.metrics import METRICS


def test_every_metric_that_ranks_no_model_is_shown_at_the_larger_cutoff(whole: Path) -> None:
    folder = build_hand_made(whole) / "tables"
    frame = pd.read_csv(folder / "beyond_accuracy.csv")
    shown = [metric for metric in METRICS if not metric.accuracy]
    assert set(frame["metric"]) == {metric.name for metric in shown} and set(frame["k"]) == {20}
    assert len(frame) == 2 * 3 * len(shown) and set(frame["split"]) == {"test"}
    assert frame["mean"].tolist() == pytest.approx([1 / 3] * len(frame), rel=1e-5)
    text = (folder / "beyond_accuracy.md").read_text()
    assert all(f"{metric.short}@20" in text for metric in shown)
    assert "Gini index of exposure (share, smaller is better)" in text and "0.3333 ± 0.0000" in text


def test_a_model_that_was_not_run_says_so(tmp_path: Path) -> None:
    from hand_made import make_root

    make_root(tmp_path)
    assert "not run" in (build_hand_made(tmp_path) / "tables/beyond_accuracy.md").read_text()
