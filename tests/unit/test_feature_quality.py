from pathlib import Path

import pytest
from hand_made import ABLATION, make_root, write_alignment, write_probe

from mmrepro.reporting.render import to_latex, to_markdown
from mmrepro.reporting.tables.alignment import ALIGNMENT_COLUMNS, alignment_frame, alignment_table
from mmrepro.reporting.tables.cost import cost_frame
from mmrepro.reporting.tables.feature_quality import QUALITY_COLUMNS, quality_frame, quality_table
from mmrepro.study.plan import ENCODER, Plan


def lines_of(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


def measured(root: Path) -> Plan:
    """Two data sets; on the first, features as they are and half masked."""
    plan = make_root(root, comparisons={"masks": ABLATION})
    assert [(p.dataset, p.feature_set) for p in plan.probes] == [
        ("toy-a", "miniature"),
        ("toy-a", "miniature--masked-50"),
        ("toy-b", "miniature"),
    ]
    return plan


def test_rows_floors_and_drops_by_hand(tmp_path: Path) -> None:
    plan = measured(tmp_path)
    write_probe(tmp_path, plan.probes[0], 0.25, last=0.125)
    write_probe(tmp_path, plan.probes[1], 0.2)
    frame = quality_frame(plan, tmp_path)
    assert tuple(frame.columns) == QUALITY_COLUMNS
    keys = frame[["dataset", "features", "modality"]].astype(object).where(frame["n_users"].notna(), None)
    assert [tuple(key) for key in keys.to_numpy()[:8]] == [
        ("toy-a", "none", "random"),
        ("toy-a", "none", "popularity"),
        *(("toy-a", name, m) for name in ("miniature", "miniature--masked-50") for m in ("image", "text", "all")),
    ]
    assert len(frame) == 9 and frame["n_users"].isna().tolist() == [False] * 8 + [True]  # toy-b has not been probed
    random, popularity, image, text, *_ = frame.to_dict("records")
    assert (random["item_cf_at_10"], popularity["mean_recall_at_20"]) == (pytest.approx(10 / 39), 0.1875)
    assert (image["mean_ndcg_at_10"], image["last_recall_at_20"], image["item_cf_at_20"]) == (0.25, 0.125, 0.25)
    assert text["mean_recall_at_20"] == 0.125
    # the masked set has 4/5 of every recall
    assert frame["drop_percent"].dropna().tolist() == pytest.approx([20, 20, 20])
    assert frame["drop_percent"].notna().tolist() == [False] * 5 + [True] * 3 + [False]
    assert frame["masked_share"].dropna().tolist() == [0, 0, 0, 0.5, 0.5, 0.5, 0]


def test_the_readable_table_has_a_block_a_data_set_and_dashes_where_nothing_is_known(tmp_path: Path) -> None:
    plan = measured(tmp_path)
    write_probe(tmp_path, plan.probes[0], 0.2)
    write_probe(tmp_path, plan.probes[1], 0.25)
    table = quality_table(plan, quality_frame(plan, tmp_path))
    text = to_markdown(table)
    rows = lines_of(text)
    assert ["floor", "random", "0.0625", "0.0625", "–", "–", "0.2564", "0.5128", "1.0000", "–"] in rows
    assert ["miniature", "image", "0.2000", "0.2000", "–", "–", "0.5000", "0.2500", "–", "–"] in rows
    assert ["miniature--masked-50", "all", "0.0833", "0.0833", "–", "–", "0.1250", "–", "–", "−25.0 %"] in rows
    assert ["miniature", *["not run"] * 9] in rows
    assert [line for line in text.splitlines() if line.startswith("## ")] == ["## toy-a", "## toy-b"]
    assert r"$-$25.0 \%" in to_latex(table, "tab:hand-feature-quality")


def test_a_masked_set_without_its_base_has_no_drop(tmp_path: Path) -> None:
    plan = measured(tmp_path)
    write_probe(tmp_path, plan.probes[1], 0.2)
    assert quality_frame(plan, tmp_path)["drop_percent"].isna().all()


def test_pretraining_has_a_table_and_a_row_of_cost(tmp_path: Path) -> None:
    plan = make_root(tmp_path, features={"default": "alignrec-miniature"})
    first, second = plan.alignments
    write_alignment(tmp_path, first)
    frame = alignment_frame(plan, tmp_path)
    assert tuple(frame.columns) == ALIGNMENT_COLUMNS
    assert frame["part"].tolist()[:3] == ["image", "text", "image to text, 20 candidates"]
    image = frame.iloc[0]
    assert (image["measure"], image["baseline"], image["untrained"], image["trained"]) == ("patches, mse", 1, 1.5, 0.75)
    assert (image["items_absent"], image["items_held_out"], image["epochs"]) == (3, 5, 30)
    rank = frame[frame["measure"] == "mean_reciprocal_rank"].iloc[0]
    assert (rank["baseline"], rank["untrained"], rank["trained"]) == (0.1799, 0, 0.8)
    text = to_markdown(alignment_table(plan, frame))
    assert "30 epochs, 1,234,567 parameters, 44 items trained, 5 held out, 1 without any content" in text
    assert ["image", "patches, mse", "1.0000", "1.5000", "0.7500", "3"] in lines_of(text)
    assert f"## {second.dataset}, alignrec-miniature, unified\n" in text and ["not run"] * 6 in lines_of(text)
    cost = cost_frame(plan, tmp_path)
    assert cost[["model", "purpose", "runs", "wall_hours", "cpu_hours"]].to_numpy().tolist() == [
        [ENCODER, "alignment", 1, 0.5, 1.0]
    ]


def test_pretraining_without_anything_to_retrieve(tmp_path: Path) -> None:
    plan = make_root(tmp_path, features={"default": "alignrec-miniature"}, datasets=["toy-a"])
    nothing = {"query": "image", "candidates_from": "text", "queries": 0, "candidates": 1}
    write_alignment(
        tmp_path, plan.alignments[0], retrieval={**nothing, "chance": None, "untrained": None, "trained": None}
    )
    assert alignment_frame(plan, tmp_path)["part"].tolist() == ["image", "text"]
