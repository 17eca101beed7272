"""Models against tensors of the published programs (their files are described in tests/reference/data)."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mmrepro.__main__ import main
from mmrepro.errors import MmreproError
from mmrepro.evaluation.reference import (
    GRADIENT_TOLERANCE,
    LOSS_TOLERANCE,
    SCORE_TOLERANCE,
    check_reference,
    reference_files,
)
from mmrepro.ops.graphs import bipartite_graphs, weighted_neighbour_graph
from mmrepro.ops.neighbours import nearest_neighbours

DATA = Path(__file__).parent / "data"
NOT_MODELS = ("dataset", "metrics", "mmgcn_hidden")
MODELS = sorted({path.stem for path in DATA.glob("*.npz")} - set(NOT_MODELS))


def perturbed(folder: Path, model: str, key: str, factor: float) -> Path:
    """A copy of a reference file with one tensor scaled."""
    shutil.copy(DATA / "dataset.npz", folder)
    values = dict(np.load(DATA / f"{model}.npz"))
    values[key] = values[key] * np.asarray(factor, dtype=values[key].dtype)
    path = folder / f"{model}.npz"
    np.savez(path, **values)
    return path


def run_cli(path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["mmrepro", "check-reference", str(path)])
    with pytest.raises(SystemExit) as exit_:
        main()
    return int(exit_.value.code or 0)


@pytest.mark.parametrize("model", MODELS)
def test_loss_scores_and_every_gradient_agree(model: str) -> None:
    result = check_reference(DATA / f"{model}.npz")
    assert result.loss <= LOSS_TOLERANCE
    assert result.scores <= SCORE_TOLERANCE
    assert {name for name, error in result.gradients.items() if error > GRADIENT_TOLERANCE} == set()
    assert result.agrees


def test_every_parameter_of_cm3_is_compared() -> None:
    stored = {key for key in np.load(DATA / "cm3.npz") if key.startswith("grad/")}
    gradients = check_reference(DATA / "cm3.npz").gradients
    assert len(gradients) == 14 == len(stored - {"grad/image_embedding.weight", "grad/text_embedding.weight"})


def test_every_gradient_of_alignrec_is_compared() -> None:
    stored = {key for key in np.load(DATA / "alignrec.npz") if key.startswith("grad/")}
    assert len(check_reference(DATA / "alignrec.npz").gradients) == len(stored) == 7


def test_graphs_of_alignrec_agree() -> None:
    data, reference = np.load(DATA / "dataset.npz"), np.load(DATA / "alignrec.npz")
    user, item, label = data["interactions"][:, :3].astype(int).T
    graph, block = bipartite_graphs(user[label == 0], item[label == 0], *reference["scores"].shape)
    image = torch.from_numpy(data["image"]).float()
    item_graph = weighted_neighbour_graph(image, nearest_neighbours(image, 10)[0])
    for name, ours in (("norm_adj", graph), ("R", block), ("mm_original_adj", item_graph)):
        np.testing.assert_allclose(ours.dense().numpy(), reference[f"graph/{name}"], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("model", MODELS)
def test_command_says_agrees(model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(DATA / f"{model}.npz", monkeypatch) == 0
    output = capsys.readouterr().out
    assert output.startswith(f"{model}: loss ")
    assert output.rstrip().endswith("  agrees")


def test_command_checks_a_folder_and_names_who_disagrees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(DATA / "bpr.npz", tmp_path)
    perturbed(tmp_path, "lightgcn", "loss", 1.1)
    assert run_cli(tmp_path, monkeypatch) == 1
    bpr, lightgcn = capsys.readouterr().out.splitlines()
    assert bpr.startswith("bpr: ") and bpr.endswith("  agrees")
    assert lightgcn.startswith("lightgcn: ") and lightgcn.endswith("DOES NOT AGREE")


def test_a_folder_without_reference_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(MmreproError, match="no file here is named after a model"):
        reference_files([tmp_path])


@pytest.mark.parametrize(
    ("model", "key", "factor"),
    [
        ("bpr", "loss", 1 + 1e-4),
        ("lightgcn", "scores", 1.01),
        ("vbpr", "grad/item_linear.weight", 1 + 1e-3),
        ("cm3", "param/id_preference", -1.0),
        ("cm3", "lambda", 0.5),
        ("alignrec", "param/mm_embedding.weight", -1.0),
        ("alignrec", "grad/mm_embedding.weight", 1 + 1e-3),
    ],
)
def test_command_fails_on_a_perturbed_file(
    model: str,
    key: str,
    factor: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_cli(perturbed(tmp_path, model, key, factor), monkeypatch) == 1
    assert "DOES NOT AGREE" in capsys.readouterr().out


def test_missing_gradient_counts_as_disagreement(tmp_path: Path) -> None:
    path = perturbed(tmp_path, "bpr", "loss", 1.0)
    values = {key: value for key, value in np.load(path).items() if key != "grad/item_embedding.weight"}
    np.savez(path, **values)
    result = check_reference(path)
    assert result.gradients["item_embedding"] == float("inf") and not result.agrees


def test_missing_parameter_is_named(tmp_path: Path) -> None:
    path = perturbed(tmp_path, "bpr", "loss", 1.0)
    values = {key: value for key, value in np.load(path).items() if key != "param/item_embedding.weight"}
    np.savez(path, **values)
    with pytest.raises(MmreproError, match="nothing for parameter 'item_embedding'"):
        check_reference(path)


@pytest.mark.parametrize("name", ["nosuch.npz", "cm3.npz"])
def test_missing_file_or_data_set_is_named(name: str, tmp_path: Path) -> None:
    if name == "cm3.npz":
        shutil.copy(DATA / name, tmp_path)
    missing = name if name == "nosuch.npz" else "dataset.npz"
    with pytest.raises(MmreproError, match=f"{missing}: no such file"):
        check_reference(tmp_path / name)
