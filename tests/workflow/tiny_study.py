"""A finished study of few jobs, written by hand, and what MLflow shows of it."""

import json
import shutil
from pathlib import Path

from mmrepro.records.files import file_sha256
from mmrepro.study.layout import Layout
from mmrepro.study.plan import Plan, PlannedAlignment, PlannedRun, complete
from mmrepro.study.resolve import plan_of_file

ROOT = Path(__file__).parents[2]
STUDY = Path("config/studies/tiny.yaml")
FINAL = {"recall_at_20": 0.25, "ndcg_at_20": 0.125}

STUDY_TEXT = """
study: tiny
title: A tiny study
datasets: [shop]
models: [popularity, cm3]
features: {default: aligned}
feature_quality: []
seeds: [0, 1]
protocols: {fair: {}, same: {}, masked: {base: fair, mask_at_test: train}}
search: {space: {cm3: {n_layers: [1, 2]}}}
"""

FEATURES = """
feature_set: aligned
modalities:
  unified:
    encoder: alignrec
    sources: {image: {kind: image, side: 8, patch: 4}, text: {kind: text, length: 4}}
    dim: 8
    heads: 2
"""


def write_measures(root: Path, planned: PlannedRun, test: dict[str, float]) -> None:
    path = root / Layout.measures("tiny", planned.spec.dataset)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".parquet").write_bytes(b"of users")
    known = json.loads(path.read_text()) if path.is_file() else {"data": None, "runs": {}}
    known["runs"][planned.folder.as_posix()] = {"valid": FINAL, "test": test}
    path.write_text(json.dumps({**known, "users_sha256": file_sha256(path.with_suffix(".parquet"))}))


def write_run(root: Path, planned: PlannedRun, **changes: object) -> None:
    spec = complete(planned, root)
    folder = root / planned.folder
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "status": "finished",
        "purpose": spec.purpose,
        "parameters": spec.parameters,
        "selected_by": spec.selected_by,
        "protocol": spec.protocol.model_dump(),
        "threads": 1,
        "device": "cpu",
        "precision": "float32",
        "git": {"commit": "0123abcd", "dirty": False},
        "code": "f00d",
        "epochs": 3,
        "best_epoch": 2,
        "valid": {"recall_at_20": 0.25},
        "wall_seconds": 2.5,
        "peak_gpu_memory_mb": None,
    }
    if spec.purpose == "final":
        write_measures(root, planned, FINAL)
    (folder / "run.json").write_text(json.dumps(record | changes))
    epochs = [
        {"epoch": n, "loss": 1 / n, "terms": {"bpr": 0.5 / n}, "learning_rate": 0.1, "valid": {"recall_at_20": n / 10}}
        for n in (1, 2, 3)
    ]
    (folder / "history.jsonl").write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs))


def write_alignment(root: Path, planned: PlannedAlignment, **changes: object) -> None:
    folder = root / planned.folder
    folder.mkdir(parents=True, exist_ok=True)
    chance, trained = {"recall_at_1": 0.05}, {"recall_at_1": 0.75}
    losses = {"target": "tokens", "measure": "nats a token", "baseline": 4.0, "untrained": 6.0, "trained": 3.0}
    record = {
        "status": "finished",
        "purpose": "alignment",
        "configuration": {"dim": 8, "sources": {"image": {"patch": 4}}},
        "seed": 3,
        "device": "cpu",
        "git": {"commit": "0123abcd", "dirty": False},
        "code": "beef",
        "epochs": 2,
        "sources": {"text": losses},
        "retrieval": {"query": "image", "candidates": 20, "chance": chance, "untrained": None, "trained": trained},
        "wall_seconds": 5.0,
    }
    (folder / "run.json").write_text(json.dumps(record | changes))
    epochs = [{"epoch": n, "loss": 4 / n, "terms": {"text": 3 / n}, "held_out": {"text": 6 / n}} for n in (1, 2)]
    (folder / "history.jsonl").write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs))


def make_tiny_study(folder: Path) -> Path:
    """A folder with a study of its own whose trials, selections and runs are all finished."""
    shutil.copytree(ROOT / "config/models", folder / "config/models")
    shutil.copytree(ROOT / "config/schema", folder / "config/schema")
    for name in ("studies", "datasets", "features"):
        (folder / "config" / name).mkdir()
    (folder / "config/features/aligned.yaml").write_text(FEATURES)
    dataset = {"dataset": "shop", "title": "A shop", "reader": "mmrec", "folder": "shop", "licence": "none"}
    (folder / "config/datasets/shop.yaml").write_text(json.dumps(dataset))
    (folder / STUDY).write_text(STUDY_TEXT)
    plan = plan_of_file(STUDY, folder)
    for selection in plan.selections:
        (folder / selection.path).parent.mkdir(parents=True, exist_ok=True)
        (folder / selection.path).write_text(json.dumps({"parameters": {"n_layers": 2}}))
    for planned in plan.trainings:
        write_run(folder, planned)
    for alignment in plan.alignments:
        write_alignment(folder, alignment)
    return folder


def folders(plan: Plan) -> set[str]:
    return {str(job.folder) for job in (*plan.trainings, *plan.alignments)}


def tracked(uri: str) -> dict:
    """Folder -> run, of all runs that MLflow shows; the study's own run has no folder."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    found = {run.data.tags.get("mmrepro.folder"): run for run in runs}
    assert len(found) == len(runs)
    return found
