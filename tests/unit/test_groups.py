import json
import re
from pathlib import Path

import numpy as np
import pytest
from hand_made import CODE, make_root, write_interactions, write_lists, write_run
from hypothesis import given
from hypothesis import strategies as st

from mmrepro.errors import MmreproError
from mmrepro.evaluation.groups import count_by_group, group_sizes, popularity_deciles
from mmrepro.evaluation.measure import measure
from mmrepro.reporting.collect import collect
from mmrepro.reporting.render import to_markdown
from mmrepro.reporting.tables.long_tail import LONG_TAIL_COLUMNS, long_tail_frame, long_tail_table
from mmrepro.reporting.tables.short_history import SHORT_HISTORY_COLUMNS, short_history_frame, short_history_table
from mmrepro.study.layout import Layout
from mmrepro.study.plan import Plan

# item i is in training of the users before i: it has i interactions, user u has 9 - u items
PAIRS = {
    "train": [(user, item) for item in range(10) for user in range(item)],
    "test": [(5, 0), (5, 5), (6, 0), (6, 6), (6, 6), (7, 7)],
}
LISTS = {
    0: {5: [0, 5], 6: [6], 7: [1]},
    1: {5: [1], 6: [0, 6], 7: [1] * 20 + [7]},  # the last one stands at rank 21
}


def test_deciles_by_hand() -> None:
    popularity = np.array([5, 0, 2, 2, 9, 1, 0, 7, 2, 3, 4, 8])
    # sorted: 1 6 | 5 2 | 3 | 8 | 9 | 10 | 0 | 7 | 11 | 4; of equal ones the lower index first; cold ones are negative
    assert popularity_deciles(popularity).tolist() == [7, -1, 2, 3, 10, 2, -1, 8, 4, 5, 6, 9]


@given(st.lists(st.integers(0, 6), min_size=1, max_size=47), st.randoms(use_true_random=False))
def test_deciles_are_even_ordered_and_add_up_to_recall(popularity: list[int], random: object) -> None:
    values = np.array(popularity)
    deciles = popularity_deciles(values)
    counts = np.bincount(np.abs(deciles), minlength=11)[1:]
    assert counts.max() - counts.min() <= 1 and (np.diff(counts) <= 0).all()
    assert (np.diff(values[np.lexsort((np.arange(len(values)), values, np.abs(deciles)))]) >= 0).all()
    assert ((deciles < 0) == (values == 0)).all()
    pairs = [(user, item) for user in range(3) for item in range(len(values))]
    relevant, listed = (
        tuple(np.array(sorted(random.sample(pairs, k=max(1, len(pairs) // n)))).T)
        for n in (2, 3)  # type: ignore[attr-defined]
    )
    sizes = group_sizes(values, np.bincount(relevant[1], minlength=len(values)))
    found = {*zip(*relevant, strict=True)} & {*zip(*listed, strict=True)}
    hits = count_by_group(deciles[np.array([item for _, item in found], dtype=np.int64)])
    assert sizes["items"].tolist()[1:] == np.bincount(np.abs(deciles), minlength=11)[1:].tolist()
    assert sizes["interactions"][1:].sum() == values.sum() and sizes["interactions"][0] == 0
    assert sizes["pairs"][1:].sum() == len(relevant[0]) and hits[1:].sum() == len(found)
    assert (hits <= sizes["pairs"]).all()
    assert sizes["items"][0] == (values == 0).sum()
    assert sizes["pairs"][0] == sum(values[item] == 0 for item in relevant[1])
    assert hits[0] == sum(values[item] == 0 for _, item in found)


def prepared_study(root: Path, **changes: object) -> Plan:
    plan = make_root(root, models=["popularity", "lightgcn"], focus="lightgcn", **changes)
    write_interactions(root, "toy-a", 10, PAIRS)
    for run in plan.runs:
        if run.spec.model == "lightgcn" and run.spec.dataset == "toy-a":
            write_run(root, run, [0.0])
            write_lists(root, run, LISTS[run.seed])
    measure_lists(root, plan)
    return plan


def measure_lists(root: Path, plan: Plan) -> None:
    runs = [run.folder.as_posix() for run in plan.runs if run.spec.model == "lightgcn" and run.spec.dataset == "toy-a"]
    measure(root / Layout.prepared("toy-a"), runs, root / Layout.measures("hand", "toy-a"), (10, 20), root)


def test_recall_by_decile_is_the_fraction_worked_by_hand(tmp_path: Path) -> None:
    plan = prepared_study(tmp_path)
    frame = long_tail_frame(plan, collect(plan, tmp_path, CODE), tmp_path)
    assert tuple(frame.columns) == LONG_TAIL_COLUMNS
    assert frame["model"].tolist() == ["popularity"] * 22 + ["lightgcn"] * 22
    found = frame[(frame["dataset"] == "toy-a") & (frame["model"] == "lightgcn")].set_index("decile")
    assert found.index.tolist() == list(range(11))  # item 0 has no training interaction: cold, and in decile 1
    assert found["n_items"].tolist() == [1] * 11
    assert found["n_interactions"].tolist() == [0, *range(10)]
    assert found["n_test_pairs"].tolist() == [2, 2, 0, 0, 0, 0, 1, 1, 1, 0, 0]
    assert found["mean"].dropna().to_dict() == {0: 1 / 2, 1: 1 / 2, 6: 1 / 2, 7: 1, 8: 0}
    assert found["std"].dropna().to_dict() == {0: 0, 1: 0, 6: pytest.approx(1 / 2**0.5), 7: 0, 8: 0}
    assert set(found["n_seeds"]) == {2}
    hole = frame[frame["model"] == "popularity"]
    assert hole["mean"].isna().all() and set(hole["n_seeds"]) == {0}
    assert frame.loc[frame["dataset"] == "toy-b", "n_items"].isna().all()
    text = to_markdown(long_tail_table(plan, frame))
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert ["lightgcn", "0.5000", "0.5000", "–", "–", "–", "–", "0.5000", "1.0000", "0.0000", "–", "–"] in lines
    assert ["popularity", *["not run"] * 11] in lines
    assert ["test pairs", *"22000011100"] in lines
    assert "1 the least popular" in text
    assert not re.search(r"\| +: +\|", text)  # a rule needs a hyphen


def test_short_histories_are_the_fractions_worked_by_hand(tmp_path: Path) -> None:
    plan = prepared_study(tmp_path)
    frame = short_history_frame(plan, collect(plan, tmp_path, CODE))
    assert tuple(frame.columns) == SHORT_HISTORY_COLUMNS
    found = frame[(frame["dataset"] == "toy-a") & (frame["model"] == "lightgcn")]
    found = found[(found["metric"] == "recall") & (found["k"] == 20)].set_index("history")
    # users 6 and 7 have 3 and 2 training items, user 5 has 4: (1/2 + 0) / 2 and (1 + 0) / 2, against 1 and 0
    assert found["n_users"].to_dict() == {"under 4": 2, "4 and more": 1}
    assert found["mean"].to_dict() == {"under 4": 3 / 8, "4 and more": 1 / 2}
    assert found["std"].to_dict() == {
        "under 4": pytest.approx(0.25 / 2**0.5),
        "4 and more": pytest.approx(1 / 2**0.5),
    }
    text = to_markdown(short_history_table(plan, frame))
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert titles == [
        "## toy-a, protocol fair, under 4 training items (users: 2)",
        "## toy-a, protocol fair, 4 and more training items (users: 1)",
        "## toy-b, protocol fair, under 4 training items",
        "## toy-b, protocol fair, 4 and more training items",
    ]
    assert "0.3750 ± 0.1768" in text and "not run" in text


def test_a_group_without_users_has_a_dash(tmp_path: Path) -> None:
    plan = prepared_study(tmp_path, datasets=["toy-a"])
    write_interactions(tmp_path, "toy-a", 10, {**PAIRS, "test": [(6, 0), (7, 7)]})
    measure_lists(tmp_path, plan)
    frame = short_history_frame(plan, collect(plan, tmp_path, CODE))
    long = frame[(frame["model"] == "lightgcn") & (frame["history"] == "4 and more")]
    assert set(long["n_users"]) == {0} and long["mean"].isna().all()
    assert "| lightgcn   |       – |" in to_markdown(short_history_table(plan, frame)).split("4 and more")[1]


def test_measures_without_groups_are_one_clear_line(tmp_path: Path) -> None:
    plan = prepared_study(tmp_path)
    path = tmp_path / Layout.measures("hand", "toy-a")
    known = {key: value for key, value in json.loads(path.read_text()).items() if key != "checksum"}
    path.write_text(json.dumps({**known, "recall_by_group": {}}))
    with pytest.raises(MmreproError, match=r"toy-a\.json: no recall by group; delete the file") as error:
        long_tail_frame(plan, collect(plan, tmp_path, CODE), tmp_path)
    assert "\n" not in str(error.value)
