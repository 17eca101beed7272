"""A slice of a study and what it is called."""

from pathlib import Path

import pytest
from hand_made import STUDY_FILE, make_root, write_yaml

from mmrepro.config.files import load_yaml, validate
from mmrepro.config.study import StudyConfig
from mmrepro.errors import MmreproError
from mmrepro.study.resolve import make_plan, plan_of_file, whole_study
from mmrepro.study.slices import slice_of


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "hand"),
        ({"seeds": [0, 1]}, "hand"),  # as the file has it
        ({"seeds": "0,1"}, "hand"),
        ({"seeds": 0}, "hand--seeds-0-"),
        ({"models": "cm3,lightgcn", "seeds": [1]}, "hand--models-cm3-lightgcn-seeds-1-"),
        ({"protocols": {"released": {}}}, "hand--protocols-released-"),
        ({"title": "Another"}, "hand--title-another-"),
    ],
)
def test_a_slice_has_a_folder_of_its_own_and_the_whole_keeps_its_own(tmp_path: Path, changes: dict, name: str) -> None:
    make_root(tmp_path)
    plan = plan_of_file(STUDY_FILE, tmp_path, **changes)
    assert plan.name == name if name == "hand" else plan.name.startswith(name)
    products = {job.product.as_posix() for job in plan.jobs_of("measure", "tables", "page", "track")}
    assert all(product.startswith(f"results/{plan.name}/") for product in products)
    assert {job.product for job in plan.jobs_of("train")} <= {
        job.product for job in plan_of_file(STUDY_FILE, tmp_path).jobs_of("train")
    } or "protocols" in changes


def test_a_study_has_the_name_that_its_file_says(tmp_path: Path) -> None:
    make_root(tmp_path)
    with pytest.raises(
        MmreproError, match=r"hand\.yaml: `study` is the name that the file has, 'hand'; change it there"
    ):
        plan_of_file(STUDY_FILE, tmp_path, study="other")


def test_two_studies_cannot_have_one_name(tmp_path: Path) -> None:
    make_root(tmp_path)
    written = load_yaml(tmp_path / STUDY_FILE)
    copy, mine = Path("config/studies/copy.yaml"), tmp_path / "mine.yaml"
    write_yaml(mine, written)
    assert plan_of_file(mine, tmp_path).name == "hand"  # the same study in another place
    write_yaml(tmp_path / copy, {**written, "seeds": [7]})
    with pytest.raises(MmreproError, match=r"copy\.yaml: `study: hand` is the name of another study"):
        plan_of_file(copy, tmp_path)
    assert plan_of_file(STUDY_FILE, tmp_path, seeds=[0]).name.startswith("hand--")


def test_the_order_of_changes_does_not_matter_and_every_change_has_another_name(tmp_path: Path) -> None:
    make_root(tmp_path)
    whole = validate(StudyConfig, load_yaml(tmp_path / STUDY_FILE), "hand")
    names = {slice_of(whole.model_copy(update={"seeds": (seed,)}), whole) for seed in range(50)}
    assert len(names) == 50
    long = slice_of(whole.model_copy(update={"title": "x" * 500, "note": "../../etc"}), whole)
    assert len(long) < 60 and "/" not in long and "." not in long


def test_a_file_that_takes_a_command_line_to_complete_it_has_no_whole(tmp_path: Path) -> None:
    make_root(tmp_path)
    written = load_yaml(tmp_path / STUDY_FILE)
    assert whole_study({"study": "hand"}, "hand") is None and whole_study(None, "hand") is None
    assert make_plan(validate(StudyConfig, written, "hand"), tmp_path, "hand", None).name == "hand"
