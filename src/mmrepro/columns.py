"""The one list of column names; every table of the project uses these and no others."""


class Columns:
    """Column names of the interaction, item, list and metric tables."""

    USER = "user"
    ITEM = "item"
    SPLIT = "split"
    RATING = "rating"
    TIMESTAMP = "timestamp"

    KEY = "key"
    TITLE = "title"
    TEXT = "text"
    IMAGE = "image"

    RANK = "rank"
    SCORE = "score"

    DATASET = "dataset"
    FEATURES = "features"
    MODEL = "model"
    PROTOCOL = "protocol"
    SEED = "seed"
    METRIC = "metric"
    K = "k"
    VALUE = "value"
    MEAN = "mean"
    STD = "std"
    N_SEEDS = "n_seeds"
    PUBLISHED = "published"
    VERDICT = "verdict"


TRAIN, VALID, TEST = "train", "valid", "test"
SPLITS = (TRAIN, VALID, TEST)
EVERYONE = "everyone"
"""What stands in a split's place where lists are those of all users."""

# Of item tables only; as members of Columns they would make every recorded run stale.
IMAGE_URL, IMAGE_REASON = "image_url", "image_reason"
MASKED = "masked"
"""Source that an item has lost before encoding; empty where it has lost none."""
