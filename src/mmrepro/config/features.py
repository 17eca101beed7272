"""What a feature set is: which encoder makes which modality, and the settings of each encoder."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from pydantic import Field, model_validator

from mmrepro.config.base import Name, Strict

DERIVED = "--"
"""Between the name of a feature set and its change: `<feature set>--<change>`."""
CHANGES = {
    "masked": "<percent> of the items lose one modality",
    "only": "<modality> alone is read",
    "shuffled": "rows are permuted among the items",
    "noise": "Gaussian noise with the mean and variance of each column",
}
"""Kind of a change -> what it does; `masked-<percent>` and `only-<modality>` have an argument."""


class FeatureSetName(NamedTuple):
    """The parts of a feature set's name; kind and argument of the change are empty where there is none."""

    base: str
    kind: str
    argument: str

    @classmethod
    def parse(cls, name: str) -> FeatureSetName:
        """Take `<base>--<kind>-<argument>` apart; whether there is such a change, `config.files` checks."""
        base, _, change = name.partition(DERIVED)
        kind, _, argument = change.partition("-")
        return cls(base, kind, argument)


def matrices_of(feature_set: str) -> str:
    """Return the name of the feature set whose tables are read: a modality alone has no copy of its own."""
    name = FeatureSetName.parse(feature_set)
    return name.base if name.kind == "only" else feature_set


class EncoderBase(Strict):
    """What all encoders share."""

    missing: Literal["mean", "zero", "error"] = Field(
        "mean",
        description="row of an item without its own: mean of the others, zero (the record keeps the mask), or none",
    )


class NeuralEncoder(EncoderBase):
    """What encoders with weights share."""

    batch_size: int = Field(64, ge=1)
    threads: int = Field(1, ge=1, description="of torch, part of the result; as many processes decode images")
    device: Literal["auto", "cpu", "cuda"] = Field("cpu", description="on a GPU the model runs in bfloat16")


class OpenClipEncoder(NeuralEncoder):
    """Images or texts through one tower of an open_clip model."""

    encoder: Literal["open_clip"]
    source: Literal["image", "text", "title"]
    architecture: str
    weights: str = Field(description="a pretrained tag, a local file, or `random:<seed>`")
    image_size: int | None = Field(None, ge=1, description="pixels a side, where not the architecture's own")
    context_length: int | None = Field(None, ge=3, description="tokens of a text, where not the architecture's own")


class SentenceEncoder(NeuralEncoder):
    """Texts through a sentence-transformers model; `offline` is MiniLM with its weights from a Python package."""

    encoder: Literal["sentence_transformers"]
    source: Literal["text", "title"]
    weights: str = Field(description="`offline`, a local folder, or a model name of the hub")


class MultimodalLanguageEncoder(NeuralEncoder):
    """A multimodal language model describes image and title of an item; a text encoder embeds the description."""

    encoder: Literal["mllm"]
    weights: str = Field(description="an image-text-to-text model of transformers: a local folder or a name of the hub")
    revision: str | None = Field(None, description="commit of the hub's model; name it, or the weights may change")
    prompt: str = Field(description="what the model is asked; {title} stands for the item's title")
    max_new_tokens: int = Field(96, ge=1)
    text_weights: str = Field("offline", description="weights of the sentence-transformers model that embeds")


class VectorFile(Strict):
    """A matrix of vectors among a data set's files, and what says whose item's each row is."""

    file: str = Field(description="a file of the data set's, or a pattern that one of them matches: .npy or .parquet")
    keys: str | None = Field(
        None,
        description="a file with the key of each row, in their order: a table with `key_column`, or a key a line; "
        "none: the rows have the item numbers of a published data set (.npy), or a column of keys (.parquet)",
    )
    key_column: str = Field("item", description="column of keys in `keys`, or in a .parquet `file`")


class PublishedEncoder(VectorFile, EncoderBase):
    """A matrix of vectors that comes with the data set."""

    encoder: Literal["published"]


class AmazonImageEncoder(EncoderBase):
    """Amazon's released image vectors: records of a 10-character ASIN and `dim` little-endian float32."""

    encoder: Literal["amazon_image"]
    file: str
    dim: int = Field(4096, ge=1)


class ImageSource(Strict):
    """Patches of an item's image."""

    kind: Literal["image"]
    side: int = Field(
        224, ge=8, description="pixels of the square that the image is cut to; `architecture` has its own"
    )
    patch: int = Field(32, ge=4, description="pixels of a patch's side; `architecture` has its own")
    mask_ratio: float = Field(
        0.4, gt=0, lt=1, description="share of the patches that is hidden and predicted (BEiT-3: 0.4)"
    )


class TextSource(Strict):
    """Tokens of an item's text."""

    kind: Literal["text"]
    field: Literal["text", "title"] = "text"
    length: int = Field(64, ge=2, description="tokens kept; at most the context of `architecture`")
    mask_ratio: float = Field(
        0.5, gt=0, lt=1, description="share of the tokens that is hidden and predicted (BEiT-3: 0.5)"
    )


class VectorSource(VectorFile):
    """A published vector, as one token; an item hides one of its vectors and predicts it from what else it has."""

    kind: Literal["vector"]


AlignmentSource = Annotated[ImageSource | TextSource | VectorSource, Field(discriminator="kind")]


class AlignRecEncoder(NeuralEncoder):
    """One vector an item from all its modalities, by an encoder pre-trained on the catalogue itself (AlignRec, stage
    1).
    """

    encoder: Literal["alignrec"]
    sources: dict[Name, AlignmentSource] = Field(min_length=2, description="what an item is made of, in this order")
    architecture: str | None = Field(
        None,
        description="an open_clip model whose towers embed patches and tokens; none: linear layers do, from scratch",
    )
    weights: str = Field("random:0", description="of the towers: a pretrained tag or a local file; or `random:<seed>`")
    dim: int = Field(768, ge=8, description="columns of the unified vector")
    layers: int = Field(4, ge=1, description="shared self-attention, each with a feed-forward expert for each modality")
    heads: int = Field(12, ge=1, description="of each layer; divides `dim`")
    epochs: int = Field(100, ge=1)
    learning_rate: float = Field(5e-4, gt=0, description="peak of a linear warm-up and a cosine decay")
    weight_decay: float = Field(0.05, ge=0, description="of AdamW; not of biases, norms, positions")
    accumulate: int = Field(1, ge=1, description="batches of one optimiser step")
    matching_weight: float = Field(
        1.0, ge=0, description="of the term that brings the vectors of one item's single modalities together"
    )
    held_out: float = Field(0.1, gt=0, lt=1, description="share of the items that is only measured")
    seed: int = 0


Encoder = Annotated[
    OpenClipEncoder
    | SentenceEncoder
    | MultimodalLanguageEncoder
    | PublishedEncoder
    | AmazonImageEncoder
    | AlignRecEncoder,
    Field(discriminator="encoder"),
]


class NeighboursFile(Strict):
    """A table of pairs of items among a data set's files, which say what is near what."""

    file: str = Field(description="a file of the data set's, or a pattern that one of them matches: csv, tsv, parquet")
    item_column: str = Field("item", description="column of keys")
    neighbour_column: str = Field("neighbour", description="column of keys of what is near the item")
    score_column: str | None = Field(
        None, description="column of numbers, the larger the nearer; none: an item's rows come best first"
    )


Modality = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class ItemGraphSection(Strict):
    """How the item graph is made."""

    neighbours: int = Field(
        10, ge=1, description="length of the item graph's neighbour lists, the item itself included"
    )
    graphs: dict[Modality, NeighboursFile] = Field(
        default_factory=dict,
        description="modality -> a file of neighbours, in place of those by the cosine of its features",
    )


class FeatureSetConfig(ItemGraphSection):
    """Which encoder makes which modality; the order of modalities is the order models see."""

    feature_set: Name
    modalities: dict[Modality, Encoder] = Field(min_length=1)

    @model_validator(mode="after")
    def _known_graphs(self) -> FeatureSetConfig:
        unknown = [name for name in self.graphs if name not in self.modalities and not self.name.kind]
        if unknown:
            raise ValueError(f"`graphs` names '{unknown[0]}', which is none of the modalities")
        return self

    @property
    def name(self) -> FeatureSetName:
        """The parts of its name."""
        return FeatureSetName.parse(self.feature_set)

    @property
    def base(self) -> str:
        """Name of the feature set that a derived one is made from; otherwise its own."""
        return self.name.base

    @property
    def masked_share(self) -> float:
        """Share of the items that lose one modality, in [0, 1)."""
        return int(self.name.argument) / 100 if self.name.kind == "masked" else 0.0

    def encoded_anew(self, modality: str) -> bool:
        """Whether a derived set's modality is not made from a table: a unified vector depends on all that an item
        has.
        """
        return self.name.kind == "masked" and isinstance(self.modalities[modality], AlignRecEncoder)

    @property
    def sources(self) -> tuple[str, ...]:
        """What an item can lose: its modalities, or what its one unified vector is made of."""
        encoders = list(self.modalities.values())
        if len(encoders) == 1 and isinstance(encoders[0], AlignRecEncoder):
            return tuple(encoders[0].sources)
        return tuple(self.modalities)

    @property
    def raw_files(self) -> tuple[str, ...]:
        """Names and patterns of the data set's files that are read as matrices."""
        readers: list[Encoder | AlignmentSource] = [*self.modalities.values()]
        readers += [s for e in self.modalities.values() if isinstance(e, AlignRecEncoder) for s in e.sources.values()]
        named = [r for r in readers if isinstance(r, VectorFile)]
        tables = [r.file for r in readers if isinstance(r, AmazonImageEncoder)]
        graphs = [graph.file for graph in self.graphs.values()]
        return (*tables, *graphs, *(r.file for r in named), *(r.keys for r in named if r.keys))
