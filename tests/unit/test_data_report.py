"""The report of the data, its remarks, and the warnings below every table."""

from pathlib import Path

import pandas as pd
import pytest
from hand_made import (
    CODE,
    STATISTICS,
    STUDY_FILE,
    USERS,
    build_hand_made,
    make_root,
    write_run,
    write_statistics,
)

from mmrepro.datasets.remarks import remarks_on
from mmrepro.records.files import read_json
from mmrepro.study.resolve import plan_of_file

TIMES = {
    "earliest": "2014-01-01", "latest": "2014-12-31", "smallest": 1388534400, "largest": 1419984000,
    "missing": 0, "before_1990": 0, "in_the_future": 0,
}  # fmt: skip


def report_of(folder: Path) -> dict[tuple[str, str], tuple[int, str]]:
    frame = pd.read_csv(folder / "tables/data_report.csv", keep_default_na=False)
    return {
        (row.dataset, row.what): (row.count_, row.examples)
        for row in frame.rename(columns={"count": "count_"}).itertuples()
    }


def test_every_study_says_what_its_data_are(tmp_path: Path) -> None:
    make_root(tmp_path)
    write_statistics(tmp_path, "toy-a", STATISTICS)
    folder = build_hand_made(tmp_path)
    rows = report_of(folder)
    expected = {
        "rows read": (28, ""), "repeated records of an item, of which the first is kept": (2, ""),
        "repetitions of a row": (2, ""), "users and items with ratings that differ": (1, ""),
        "rows left after: repeated pairs dropped": (25, ""), "rows of train": (20, ""), "items without a record": (1, "K4"),
        "described items that nobody has had": (1, "K9"), "items without a picture": (1, "K4"),
        "picture files of no item": (1, "nobody.png"), "users of test that training has not": (1, ""),
        "users of whom a tie in time decided what is held out": (1, ""),
    }  # fmt: skip
    assert {what: rows["toy-a", what] for what in expected} == expected
    text = (folder / "tables/data_report.md").read_text()
    assert "- toy-a: shop.csv: values are separated by semicolons." in text
    assert (
        "- toy-a: 1 of 5 items have no record, such as 'K4', and nobody has had 1 described ones, such as 'K9'." in text
    )
    assert not any(dataset == "toy-b" for dataset, _ in rows)  # not prepared


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"interactions": {"train": 9, "valid": 0, "test": 0}}, "nobody is held out for valid and test, so that no model"),
        ({"users_with_every_item": ["U7", "U8"]}, "2 users have every item in training, such as 'U7'"),
        ({"times": {**TIMES, "before_1990": 3, "earliest": "1970-01-01"}}, "3 interactions are before 1990"),
        ({"times": {**TIMES, "in_the_future": 2, "latest": "2199-01-01"}}, "2 interactions are in the future, the last at 2199-01-01"),
        ({"times": {**TIMES, "earliest": None, "latest": None, "smallest": 1, "largest": 9}}, "no time is a date between 1990 and 2100: they go from 1 to 9"),
        ({"decided_by_ties": 5}, "for 5 of 10 users (50%) a draw among interactions at the same time decided"),
        ({"pictures": {"found": 9, "unmatched": 8, "listed": ["x.jpg"]}}, "8 of 9 pictures are of no item, such as 'x.jpg'"),
        ({"copies": {"rows": 0, "pairs": 4, "contradictory_ratings": 0, "pairs_in_several_splits": 0}},
         "4 interactions repeat a pair of user and item at another time; the earliest is kept"),
        ({"copies": {"rows": 0, "pairs": 0, "contradictory_ratings": 0, "pairs_in_several_splits": 6},
          "duplicates_dropped": 0}, "6 pairs of user and item stand in several splits, and all are kept"),
    ],
)  # fmt: skip
def test_what_is_odd_is_said_in_a_sentence(changes: dict, sentence: str) -> None:
    assert any(line.startswith(sentence) for line in remarks_on({**STATISTICS, **changes}))


def test_what_bears_on_every_number_stands_below_every_table(tmp_path: Path) -> None:
    plan = make_root(tmp_path, datasets=["toy-a"])
    write_statistics(tmp_path, "toy-a", {**STATISTICS, "decided_by_ties": 4})
    for run in plan.runs:
        odd = run.spec.model == "cm3"
        data = {"interactions": "0" * 64, "encoders": {}, "missing": {}, "sharing": {"text": 3 * odd, "image": 0}}
        write_run(tmp_path, run, USERS[run.spec.model][run.seed], data=data, watch="ndcg_at_20", covered=0.75)
    folder = build_hand_made(tmp_path, CODE)
    warnings = [
        "- Warning: 3 of 5 items of toy-a share their row of text features with another item, which no model can tell",
        "- Warning: on toy-a 75% of the users have so few candidates that recall_at_20 is the same for every order of them",
        "- Warning: on toy-a a draw among equal times decided what is held out of 40% of users.",
    ]
    tables = sorted((folder / "tables").glob("*.md"))
    assert len(tables) >= 6
    for table in tables:
        assert all(warning in table.read_text() for warning in warnings), table.name
    assert read_json(folder / "summary.json")["study"] == plan_of_file(STUDY_FILE, tmp_path).name
