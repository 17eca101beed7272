"""BPR matrix factorisation (Rendle et al., UAI 2009; methods, 3.1)."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from mmrepro.models.base import Batch, Model, TrainedParameters, xavier_normal
from mmrepro.ops.interactions import Interactions
from mmrepro.ops.losses import bpr, embedding_norm


class BPRParameters(TrainedParameters):
    """Parameters of BPR."""

    reg_weight: float = Field(0.1, ge=0, description="weight of the un-squared norms of the batch's rows")


class BPR(Model):
    """One vector a user and an item; the score is their inner product.

    The regulariser is the program's (sum of un-squared norms over the batch size), not the paper's squared L2.
    """

    Parameters = BPRParameters
    reference_names = {"user_embedding.weight": "user_embedding", "item_embedding.weight": "item_embedding"}

    def __init__(self, interactions: Interactions, parameters: BPRParameters) -> None:
        super().__init__()
        self.parameters_ = parameters
        self.user_embedding = xavier_normal(interactions.n_users, parameters.embedding_size)
        self.item_embedding = xavier_normal(interactions.n_items, parameters.embedding_size)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the ranking loss and the regulariser."""
        users = self.user_embedding.index_select(0, batch.users)
        positives = self.item_embedding.index_select(0, batch.positives)
        negatives = self.item_embedding.index_select(0, batch.negatives)
        return {
            "bpr": bpr((users * (positives - negatives)).sum(dim=1)),
            "regulariser": self.parameters_.reg_weight * embedding_norm(users, positives, negatives),
        }

    def embed(self) -> tuple[Tensor, Tensor]:
        """Return both tables."""
        return self.user_embedding, self.item_embedding
