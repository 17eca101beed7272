"""What the switches of a protocol move, on values worked out by hand."""

from pathlib import Path

import pandas as pd
import pytest
from hand_made import build_hand_made, make_root, write_run

PROTOCOLS = {"fair": {}, "mask": {"mask_at_test": "train"}, "draw": {"ranking_draw": "last_batch"}, "released": {}}
RECALL = {
    ("lightgcn", "fair"): [0.25, 0.5], ("cm3", "fair"): [0.5, 0.5],
    ("lightgcn", "mask"): [0.5, 0.75], ("cm3", "mask"): [0.25, 0.75],
    ("lightgcn", "draw"): [0.25, 0.5], ("cm3", "draw"): [0.5, 0.5],
    ("lightgcn", "released"): [0.25, 0.5],
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Each user twenty times, so that a test can tell; CM3 has no run under `released`."""
    changes = {"datasets": ["toy-a"], "models": ["lightgcn", "cm3"], "seeds": [0], "protocols": PROTOCOLS}
    for run in make_root(tmp_path, **changes).runs:
        if found := RECALL.get((run.spec.model, run.protocol_name)):
            write_run(tmp_path, run, found * 20)
    return build_hand_made(tmp_path)


def test_each_switch_is_compared_with_the_first_protocol(folder: Path) -> None:
    frame = pd.read_csv(folder / "tables/switches.csv", keep_default_na=False, dtype="str")
    found = frame[(frame["metric"] == "recall") & (frame["k"] == "20")].set_index(["switches", "model"])
    mask = found.loc["mask_at_test", "lightgcn"]
    assert (mask["mean"], mask["base_mean"], mask["difference"]) == ("0.625", "0.375", "0.25")
    assert float(mask["difference_percent"]) == pytest.approx(100 * 2 / 3, abs=1e-4) and float(mask["p_holm"]) < 0.001
    assert mask["order"] == "lightgcn > cm3" and float(mask["tau"]) == -1  # under fair CM3 is ahead, 1/2 against 3/8
    assert found.loc["mask_at_test", "cm3"]["difference"] == "0"  # half of the users gain what the others lose
    assert found.loc["ranking_draw", "cm3"]["p"] == "1"
    everything = [key for key in found.index if key[0].count(", ") == 12]
    assert {model: found.loc[key]["mean"] for key in everything for model in key[1:]} == {
        "lightgcn": "0.375",
        "cm3": "",
    }


def test_readers_see_what_moves_and_whether_the_order_changes(folder: Path) -> None:
    text = (folder / "tables/switches.md").read_text()
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert ["mask_at_test", *["+66.7 %\\*\\*\\*"] * 4] in lines and ["ranking_draw", *["the same"] * 4] in lines
    assert ["mask_at_test", *["lightgcn, cm3"] * 4] in lines and ["all 13", *["not run"] * 4] in lines


def test_a_study_that_turns_no_single_switch_has_no_such_table(tmp_path: Path) -> None:
    make_root(tmp_path, protocols={"fair": {}, "released": {}})
    assert not (build_hand_made(tmp_path) / "tables/switches.csv").exists()
