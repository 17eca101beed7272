"""A small study and run folders made by hand, with values whose means are worked out as fractions."""

import json
import shutil
from pathlib import Path

import pandas as pd
import yaml

from mmrepro.plan import Plan, PlannedRun, complete, plan_of_file

REPOSITORY = Path(__file__).parents[2]
STUDY_FILE = Path("config/studies/hand.yaml")
CODE = {"popularity": "p1", "lightgcn": "l1", "cm3": "c1"}
METRICS = ("recall", "ndcg", "precision", "map", "hit_rate")
CUTOFFS = (10, 20)

# recall of each of four users, by seed; means: popularity 1/8 and 1/8, lightgcn 1/4 and 3/8, cm3 1/2 and 1/2
USERS = {
    "popularity": {0: [0, 1 / 4, 0, 1 / 4], 1: [0, 1 / 4, 0, 1 / 4]},
    "lightgcn": {0: [1 / 2, 1 / 4, 1 / 4, 0], 1: [1 / 2, 1 / 2, 1 / 4, 1 / 4]},
    "cm3": {0: [1 / 2, 3 / 4, 1 / 2, 1 / 4], 1: [1 / 2, 1 / 2, 1 / 2, 1 / 2]},
}


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
    path.write_text(yaml.safe_dump(value))


def write_run(root: Path, run: PlannedRun, users: list[float], **changes: object) -> dict:
    folder = root / run.folder
    folder.mkdir(parents=True)
    columns = {f"{metric}_at_{k}": users for metric in METRICS for k in CUTOFFS}
    index = range(len(users))
    pd.DataFrame({"split": "test", "user": index, **columns}).to_parquet(folder / "per_user.parquet")
    means = {name: sum(users) / len(users) for name in columns}
    means |= {f"{metric}_at_{k}": 1 / 3 for metric in ("coverage", "novelty") for k in CUTOFFS}
    record = {
        "status": "finished", "purpose": run.spec.purpose, "dataset": run.spec.dataset, "model": run.spec.model,
        "parameters": complete(run, root).parameters, "seed": run.seed, "device": "cpu", "device_name": "a processor",
        "versions": {"torch": "2.15.0", "numpy": "2.4.6"}, "git": {"commit": "0123456789abcdef", "dirty": False},
        "code": CODE[run.spec.model], "data": {"encoders": {}, "missing": {}}, "epochs": 7,
        "valid": {name: value / 2 for name, value in means.items()}, "test": means,
        "wall_seconds": 36.0, "cpu_seconds": 72.0, "peak_memory_mb": 512.0, "peak_gpu_memory_mb": None,
    }  # fmt: skip
    if run.spec.model == "cm3":
        record["data"] = {
            "encoders": {"image": "open_clip ViT-S-32 random:7", "text": "open_clip ViT-S-32 random:7"},
            "missing": {"image": 2, "text": 0},
        }
    if run.spec.purpose == "trial" and run.spec.protocol.select_on == "valid":
        del record["test"]
    record |= changes
    (folder / "run.json").write_text(json.dumps(record))
    return record


def write_all(root: Path, plan: Plan, **changes: object) -> None:
    for run in plan.runs:
        write_run(root, run, USERS[run.spec.model][run.seed], **changes)
