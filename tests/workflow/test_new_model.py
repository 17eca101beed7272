"""A model of one's own: one file, one yaml, `make schema`, and nothing else."""

from pathlib import Path

import pandas as pd
import pytest
import yaml
from checkout import Checkout, copy_project

pytestmark = pytest.mark.slow

MODEL = '''
"""Mean of content: a user is the mean of the projected features of the items he is trained on."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from mmrepro.ops.interactions import Interactions
from mmrepro.models.base import Batch, ContentParameters, ItemContent, Model, require_features
from mmrepro.ops.content import unified_matrix
from mmrepro.ops.graphs import product, random_walk_graph
from mmrepro.ops.losses import bpr


class MeanContentParameters(ContentParameters):
    """Parameters of the mean of content."""

    sharpness: float = Field(1.0, gt=0, description="factor of the scores")


class MeanContent(Model):
    """Nothing but content; learns one projection."""

    Parameters = MeanContentParameters
    uses_features = True
    features: Tensor

    def __init__(
        self, interactions: Interactions, content: ItemContent, parameters: MeanContentParameters
    ) -> None:
        super().__init__()
        self.parameters_, self.n_users = parameters, interactions.n_users
        features = unified_matrix(require_features(content, "meancontent"))
        self.register_buffer("features", features, persistent=False)
        self.projection = nn.Linear(features.shape[1], parameters.embedding_size)
        self.graph = random_walk_graph(
            interactions.users, interactions.items, interactions.n_users, interactions.n_items
        )

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the ranking loss."""
        users, items = self.embed()
        difference = items.index_select(0, batch.positives) - items.index_select(0, batch.negatives)
        return {"bpr": bpr((users.index_select(0, batch.users) * difference).sum(dim=1))}

    def embed(self) -> tuple[Tensor, Tensor]:
        """Return the means of users' items, and the items."""
        items = self.projection(self.features) * self.parameters_.sharpness
        nodes = nn.functional.pad(items, (0, 0, self.n_users, 0))
        return product(self.graph, nodes)[: self.n_users], items
'''
CONFIG = {
    "model": "meancontent", "title": "Mean of content", "citation": "none", "source": "chosen by hand",
    "search_space": {"sharpness": [1.0, 2.0]},
}  # fmt: skip
STUDY = {
    "study": "toy", "title": "Toy", "datasets": ["mini-baby"], "models": ["popularity", "meancontent"], "focus": "meancontent",
    "features": {"default": "miniature"}, "feature_quality": [],
    "parameters": {"all": {"batch_size": 512, "max_epochs": 4, "embedding_size": 16, "learning_rate": 0.01}},
    "search": {"seed": 0, "space": {"meancontent": {"sharpness": [1.0, 2.0]}}},
}  # fmt: skip
MAIN = "results/toy/tables/main.csv"


def state(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.suffix != ".pyc"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The project with a model more: one file, one yaml, and the schemas written anew."""
    checkout = copy_project(tmp_path_factory.mktemp("toy"))
    (checkout.folder / "src/mmrepro/models/meancontent.py").write_text(MODEL.lstrip())
    (checkout.folder / "config/models/meancontent.yaml").write_text(yaml.safe_dump(CONFIG))
    assert checkout.call("mmrepro", "schema").returncode == 0
    return checkout


def test_one_file_and_one_yaml_make_a_model_of_every_kind_of_table(checkout: Checkout, tmp_path: Path) -> None:
    as_it_is = copy_project(tmp_path).folder
    before, after = (
        {part: state(folder / part) for part in ("src", "config", "workflow")} for folder in (as_it_is, checkout.folder)
    )
    new = {"src": {"mmrepro/models/meancontent.py"}, "workflow": set()}
    new["config"] = {"models/meancontent.yaml", "schema/models/meancontent.json"}
    for part, files in before.items():
        assert {name for name, text in after[part].items() if files.get(name) != text} == new[part]
    (checkout.folder / "config/studies/toy.yaml").write_text(yaml.safe_dump(STUDY))
    result = checkout.snakemake(MAIN, "--quiet", "rules", study="toy")
    assert result.returncode == 0, result.stdout + result.stderr
    frame = pd.read_csv(checkout.folder / MAIN)
    recall = frame[(frame["metric"] == "recall") & (frame["k"] == 20) & (frame["split"] == "test")]
    means = dict(zip(recall["model"], recall["mean"], strict=True))
    assert means["meancontent"] > means["popularity"] > 0
    search = pd.read_csv(checkout.folder / "results/toy/tables/search.csv")
    assert list(search["model"]) == ["meancontent"] * 2 and search["winner"].sum() == 1


def test_a_misspelt_parameter_of_the_new_model_is_named(checkout: Checkout) -> None:
    study = {**STUDY, "parameters": {"meancontent": {"sharpnes": 1.0}}}
    (checkout.folder / "config/studies/toy.yaml").write_text(yaml.safe_dump(study))
    result = checkout.snakemake("--dry-run", study="toy")
    assert result.returncode != 0
    assert "no parameter 'sharpnes'; did you mean 'sharpness'?" in result.stdout + result.stderr
