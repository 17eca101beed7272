"""A small study and run folders made by hand, with values whose means are worked out as fractions."""

import json
import shutil
from pathlib import Path

import pandas as pd
import yaml

from mmrepro.config.model import ModelSchema
from mmrepro.datasets.interactions import INTERACTIONS, write_prepared
from mmrepro.evaluation.measure import measure
from mmrepro.evaluation.metrics import METRICS
from mmrepro.records.files import file_sha256
from mmrepro.reporting.build import build_tables
from mmrepro.study.layout import Layout
from mmrepro.study.plan import Plan, PlannedAlignment, PlannedProbe, PlannedRun, complete
from mmrepro.study.resolve import plan_of_file

REPOSITORY = Path(__file__).parents[2]
STUDY_FILE = Path("config/studies/hand.yaml")
CODE = {"popularity": "p1", "lightgcn": "l1", "cm3": "c1"}
USER_METRICS = ("recall", "ndcg", "precision", "map", "hit_rate")
CUTOFFS = (10, 20)

# recall of each of four users, by seed; means: popularity 1/8 and 1/8, lightgcn 1/4 and 3/8, cm3 1/2 and 1/2
USERS = {
    "popularity": {0: [0, 1 / 4, 0, 1 / 4], 1: [0, 1 / 4, 0, 1 / 4]},
    "lightgcn": {0: [1 / 2, 1 / 4, 1 / 4, 0], 1: [1 / 2, 1 / 2, 1 / 4, 1 / 4]},
    "cm3": {0: [1 / 2, 3 / 4, 1 / 2, 1 / 4], 1: [1 / 2, 1 / 2, 1 / 2, 1 / 2]},
}

STATISTICS = {
    "dataset": "toy", "content_hash": "0" * 64, "item_list_hash": "1" * 64, "n_users": 10, "n_items": 5, "density": 0.5,
    "interactions": {"train": 20, "valid": 2, "test": 3},
    "cold_users": {"valid": 0, "test": 1}, "cold_items": {"valid": 4, "test": 2},
    "items_without_image": 1, "items_without_text": 0, "items_dropped": {"image": 2},
    "user_degrees": {"degree": [0, 1, 4], "count": [1, 5, 4]}, "item_degrees": {"degree": [2, 7], "count": [2, 3]},
    "copies": {"rows": 2, "pairs": 1, "contradictory_ratings": 1, "pairs_in_several_splits": 0},
    "times": {}, "keys_alike": {"users": {"count": 0, "examples": []}, "items": {"count": 1, "examples": ["'1' and '01'"]}},
    "records": {"described": 4, "not_described": ["K4"], "never_had": 1, "examples": ["K9"]},
    "without": {name: {"items": 1, "examples": ["K4"]} for name in ("title", "text", "image")}, "distinct_texts": 3,
    "pictures": {"found": 5, "unmatched": 1, "listed": ["nobody.png"]}, "repairs": {"repeated_item_records": 2},
    "notes": ["shop.csv: values are separated by semicolons"], "decided_by_ties": 1, "users_with_every_item": ["U7"], "numbering": None,
    "duplicates_dropped": 3, "steps": [
        {"step": "raw", "users": 10, "items": 5, "interactions": 28},
        {"step": "repeated pairs dropped", "users": 10, "items": 5, "interactions": 25},
    ],
}  # fmt: skip
ABLATION = {
    "title": "Parts of CM3", "datasets": ["toy-a"], "models": ["cm3"],
    "variants": {
        "whole": {}, "half of 100 %": {"parameters": {"gamma": 0.25}}, "masked": {"features": "miniature--masked-50"},
    },
}  # fmt: skip


def make_root(root: Path, **changes: object) -> Plan:
    for name in ("models", "schema", "features"):
        shutil.copytree(REPOSITORY / "config" / name, root / "config" / name)
    for name, literature in (("toy-a", "baby"), ("toy-b", None)):
        dataset = {"dataset": name, "title": name, "reader": "miniature", "folder": name, "licence": "none"}
        write_yaml(root / f"config/datasets/{name}.yaml", {**dataset, "literature_split": literature})
    study = {
        "study": "hand", "title": "Hand_made 100 %", "datasets": ["toy-a", "toy-b"],
        "models": ["popularity", "lightgcn", "cm3"], "features": {"default": "miniature"}, "seeds": [0, 1],
        "cutoffs": list(CUTOFFS), "published": ["numbers.csv"], "note": "Made by hand.",
    }  # fmt: skip
    write_yaml(root / STUDY_FILE, {**study, **changes})
    published = root / "data/published"
    published.mkdir(parents=True)
    header = "dataset,model,metric,k,value,protocol,seed,source\n"
    (published / "papers.csv").write_text(header)
    (published / "numbers.csv").write_text(header + "baby,lightgcn,recall,20,0.25,released,,a page\n")
    return plan_of_file(STUDY_FILE, root)


def write_yaml(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(value, sort_keys=False))


def write_run(
    root: Path, run: PlannedRun, users: list[float] | dict[int, float], held_out_twice: bool = True, **changes: object
) -> dict:
    """Write a finished run; every metric of a user has the same value."""
    folder = root / run.folder
    folder.mkdir(parents=True)
    index, values = (users.keys(), [*users.values()]) if isinstance(users, dict) else (range(len(users)), users)
    columns = {f"{metric}_at_{k}": values for metric in USER_METRICS for k in CUTOFFS}
    means = {name: sum(values) / len(values) for name in columns}
    others = [metric.name for metric in METRICS if metric.name not in USER_METRICS]
    means |= {f"{metric}_at_{k}": 1 / 3 for metric in others for k in CUTOFFS}
    record = {
        "status": "finished", "purpose": run.spec.purpose, "dataset": run.spec.dataset, "model": run.spec.model,
        "parameters": {**defaults(root, run.spec.model), **complete(run, root).parameters}, "watch": run.spec.watch, "seed": run.seed, "device": "cpu", "device_name": "a processor",
        "versions": {"torch": "2.15.0", "numpy": "2.4.6"}, "git": {"commit": "0123456789abcdef", "dirty": False},
        "code": CODE[run.spec.model], "data": {"interactions": "0" * 64, "encoders": {}, "missing": {}}, "epochs": 7,
        "valid": {run.spec.watch: means[run.spec.watch] / 2},
        "wall_seconds": 36.0, "cpu_seconds": 72.0, "peak_memory_mb": 512.0, "peak_gpu_memory_mb": None,
    }  # fmt: skip
    if run.spec.model == "cm3":
        record["data"] = {
            "interactions": "0" * 64,
            "encoders": {"image": "open_clip ViT-S-32 random:7", "text": "open_clip ViT-S-32 random:7"},
            "missing": {"image": 2, "text": 0},
            "untrained": ["image", "text"],
        }
    record["data"]["features"] = {modality: f"{modality:f<64}" for modality in run.spec.modalities}
    if run.spec.purpose == "trial" and run.spec.protocol.select_on == "test":
        record["test"] = {run.spec.watch: means[run.spec.watch]}
    record |= changes
    if run.spec.purpose == "final":
        rows = pd.DataFrame({"run": run.folder.as_posix(), "split": "test", "user": [*index], "history": 4, **columns})
        if held_out_twice:
            rows = pd.concat([rows, rows.assign(split="valid")], ignore_index=True)
        write_measures(
            root,
            run,
            record["data"].get("interactions"),
            {"valid": {n: v / 2 for n, v in means.items()}, "test": means},
            rows,
        )
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "config.yaml").write_text(
        yaml.safe_dump({name: record[name] for name in ("model", "parameters", "seed")})
    )
    (folder / "history.jsonl").write_text("".join(f'{{"epoch": {epoch}}}\n' for epoch in range(1, 8)))
    return record


def write_measures(root: Path, run: PlannedRun, data: str | None, means: dict, rows: pd.DataFrame) -> None:
    """Add a run to what the stage `measure` has written."""
    path = root / Layout.measures("hand", run.spec.dataset)
    path.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(path.read_text()) if path.is_file() else {"data": data, "runs": {}}
    users = path.with_suffix(".parquet")
    earlier = [pd.read_parquet(users)] if users.is_file() else []
    earlier = [frame[frame["run"] != run.folder.as_posix()] for frame in earlier]
    pd.concat([*earlier, rows], ignore_index=True).to_parquet(users, index=False)
    known["runs"][run.folder.as_posix()] = means
    known.setdefault("recall_by_group", {})[run.folder.as_posix()] = [None] * 11
    path.write_text(json.dumps({**known, "users_sha256": file_sha256(users)}))


def defaults(root: Path, model: str) -> dict:
    return ModelSchema.load(root / "config/schema/models", model).defaults


def write_all(root: Path, plan: Plan, **changes: object) -> None:
    for run in plan.runs:
        write_run(root, run, USERS[run.spec.model][run.seed], **changes)


def write_winner(root: Path, plan: Plan, parameters: dict[str, object], **more: object) -> None:
    """Let the searches of a study end with these parameters."""
    for selection in plan.selections:
        path = root / selection.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"parameters": parameters, **more}))


def write_statistics(root: Path, dataset: str, statistics: dict[str, object]) -> Path:
    path = root / f"data/prepared/{dataset}/statistics.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(statistics))
    return path


def write_interactions(root: Path, dataset: str, n_items: int, pairs: dict[str, list[tuple[int, int]]]) -> None:
    """Write a prepared data set of ten users: split -> (user, item)."""
    rows = [(user, item, split) for split, found in pairs.items() for user, item in found]
    frame = pd.DataFrame(rows, columns=["user", "item", "split"]).astype({"user": "int32", "item": "int32"})
    write_prepared(root / f"data/prepared/{dataset}", {INTERACTIONS: frame}, {**STATISTICS, "n_items": n_items})


def write_lists(root: Path, run: PlannedRun, lists: dict[int, list[int]]) -> None:
    """Write the test lists of a run, and validation lists that must not count."""
    rows = [("test", u, rank, item) for u, items in lists.items() for rank, item in enumerate(items, start=1)]
    rows += [("valid", user, 1, item) for user in lists for item in range(10)]
    frame = pd.DataFrame(rows, columns=["split", "user", "rank", "item"]).astype({"rank": "int16", "item": "int32"})
    frame.assign(score=0.0).to_parquet(root / run.folder / "lists.parquet", index=False)


def write_evidence(root: Path, plan: Plan) -> None:
    """Write data and lists of a study's finished runs, of which `USERS` is the recall, and measure them.

    Users 0 to 3 have items 0 to 3 held out; a list begins with as many of these as the recall of its user says.
    """
    pairs = {
        "train": [(user, item) for user in range(10) for item in range(20, 21 + user)],
        "valid": [(user, 10 + user) for user in range(4)],
        "test": [(user, item) for user in range(4) for item in range(4)],
    }
    for dataset in plan.study.datasets:
        write_interactions(root, dataset, 40, pairs)
        runs = [run for run in plan.final_runs if run.spec.dataset == dataset and (root / run.record).is_file()]
        for run in runs:
            recalls = USERS[run.spec.model][run.seed]
            found = {user: [*range(round(4 * recall))] for user, recall in enumerate(recalls)}
            write_lists(root, run, {user: [*hits, *range(4, 24 - len(hits))] for user, hits in found.items()})
        measure(
            root / Layout.prepared(dataset), [run.folder.as_posix() for run in runs],
            root / Layout.measures("hand", dataset), plan.study.cutoffs, root,
        )  # fmt: skip
        means = json.loads((root / Layout.measures("hand", dataset)).read_text())["runs"]
        for run in runs:  # training measures the watched metric of the same lists
            record = json.loads((root / run.record).read_text())
            watched = {run.spec.watch: means[run.folder.as_posix()]["valid"][run.spec.watch]}
            (root / run.record).write_text(json.dumps({**record, "valid": watched}))


def write_probe(root: Path, probe: PlannedProbe, recall: float, last: float | None = None) -> dict:
    """Write a probe of two modalities and both as one; every zero-shot metric of one of them has the same value."""

    def same(value: float | None) -> dict[str, float] | None:
        names = [f"{metric}_at_{k}" for metric in ("recall", "ndcg") for k in (10, 20)]
        return None if value is None else dict.fromkeys(names, value)

    record = {
        "dataset": probe.dataset, "features": probe.feature_set, "masked_share": 0.0, "code": "q1", "data": {"interactions": "0" * 64},
        "n_items": 40, "users": 12,
        "probes": [
            {"modality": name, "zero_shot": {"mean": same(recall / n), "last": same(last)}, "item_cf": item_cf}
            for n, (name, item_cf) in enumerate(
                (("image", {"10": 0.5, "20": 0.25, "50": None}), ("text", {}), ("all", {"10": 0.125})), start=1
            )
        ],
        "floors": {
            "random": {"10": 10 / 39, "20": 20 / 39, "50": 1.0}, "popularity": {"10": 0.375, "20": 0.5, "50": 1.0},
            "zero_shot_random": same(0.0625), "zero_shot_popularity": same(0.1875),
        },
    }  # fmt: skip
    path = root / probe.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))
    return record


def write_alignment(root: Path, planned: PlannedAlignment, **changes: object) -> dict:
    """Write the record of a finished pre-training."""
    measures = ("recall_at_1", "recall_at_10", "mean_reciprocal_rank")
    record = {
        "status": "finished", "purpose": "alignment", "dataset": planned.dataset, "features": planned.feature_set,
        "modality": planned.modality, "configuration": {"dim": 64}, "seed": 0, "device": "cpu",
        "device_name": "a processor", "git": {"commit": "0123456789abcdef", "dirty": False}, "code": "a1", "data": {},
        "n_parameters": 1234567, "items": {"total": 50, "trained": 44, "held_out": 5, "without_any": 1},
        "absent": {"image": 3, "text": 0}, "epochs": 30,
        "sources": {
            "image": {"target": "patches", "measure": "mse", "baseline": 1.0, "untrained": 1.5, "trained": 0.75},
            "text": {"target": "tokens", "measure": "nats", "baseline": 4.0, "untrained": 6.25, "trained": 3.5},
        },
        "retrieval": {
            "query": "image", "candidates_from": "text", "queries": 5, "candidates": 20,
            "chance": dict(zip(measures, (0.05, 0.5, 0.1799), strict=True)), "untrained": dict.fromkeys(measures, 0.0),
            "trained": dict.fromkeys(measures, 0.8),
        },
        "wall_seconds": 1800.0, "cpu_seconds": 3600.0, "peak_memory_mb": 900.0, "peak_gpu_memory_mb": None, **changes,
    }  # fmt: skip
    path = root / planned.folder / "run.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))
    return record


def build_hand_made(root: Path, code: dict[str, str] = CODE) -> Path:
    """Build the study's tables; returns their folder."""
    build_tables(plan_of_file(STUDY_FILE, root), root / "results/hand", root, current_code=code)
    return root / "results/hand"


def main_row(folder: Path, **wanted: object) -> pd.Series:
    frame = pd.read_csv(folder / "tables/main.csv", keep_default_na=False)
    wanted = {"dataset": "toy-a", "split": "test", "metric": "recall", "k": 20, "protocol": "fair", **wanted}
    for name, value in wanted.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1
    return frame.iloc[0]
