from pathlib import Path

import numpy as np
import pytest
import torch
from alignment_hand_made import settings, write_catalogue
from PIL import Image

from mmrepro.config.features import ImageSource, TextSource
from mmrepro.datasets.interactions import load_items
from mmrepro.errors import MmreproError
from mmrepro.features.alignment.clip_towers import PatchTower, TokenTower, Towers, load_towers
from mmrepro.features.alignment.pretrain import align_content
from mmrepro.features.alignment.vocabulary import ClipTokens
from mmrepro.features.encoders.alignrec import encode
from mmrepro.features.encoders.open_clip import load_model
from mmrepro.features.shards import Shards
from mmrepro.records.files import read_json

pytestmark = pytest.mark.slow
ARCHITECTURE = "ViT-S-32-alt"
TEXTS = ["a red hat", "", None, "a very long description of a very small hat"]


@pytest.fixture(scope="module")
def towers() -> Towers:
    return load_towers(ARCHITECTURE, "random:3", 77)


def unprojected(tower: PatchTower | TokenTower) -> PatchTower | TokenTower:
    """The same without its last linear layer."""
    tower.linear = torch.nn.Identity()  # type: ignore[assignment]
    return tower.eval()


@torch.no_grad()
def test_patches_have_the_states_that_the_model_gives_them(towers: Towers) -> None:
    visual = towers.model.visual
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 260, 3), dtype=np.uint8))
    _, transform = load_model(ARCHITECTURE, "random:3")
    visual.output_tokens = True
    _, expected = visual(transform(image)[None])
    visual.output_tokens = False
    tower = unprojected(towers.embedding(ImageSource(kind="image"), 8))  # type: ignore[arg-type]
    pixels = towers.transform(image)[None]
    assert pixels.dtype == torch.uint8 and tower.n_tokens == expected.shape[1] == 49
    torch.testing.assert_close(tower(pixels, None), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_last_token_has_the_state_that_the_model_pools(towers: Towers) -> None:
    ids, present = ClipTokens(ARCHITECTURE, towers.n_ids).tokenise(TEXTS, 8)
    assert present.sum(1).tolist() == [5, 0, 0, 8]
    tower = unprojected(towers.embedding(TextSource(kind="text", length=8), 8))  # type: ignore[arg-type]
    states = tower(torch.from_numpy(ids), None)
    whole = torch.zeros(len(ids), towers.model.context_length, dtype=torch.int64)
    whole[:, :8] = torch.from_numpy(ids)
    expected = towers.model.encode_text(whole)
    last = states[torch.arange(len(ids)), torch.from_numpy(ids.argmax(1))]
    torch.testing.assert_close(last @ towers.model.text_projection, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_what_is_hidden_is_replaced_before_the_towers(towers: Towers) -> None:
    generator = np.random.default_rng(1)
    pixels = torch.from_numpy(generator.integers(0, 256, (1, 3, 224, 224), dtype=np.uint8))
    patches = towers.embedding(ImageSource(kind="image"), 8).eval()
    other, hidden = pixels.clone(), torch.zeros(1, 49, dtype=torch.bool)
    other[:, :, 32:64, :32] = 255 - other[:, :, 32:64, :32]
    hidden[0, 7] = True  # second row, first column
    assert torch.equal(patches(pixels, hidden), patches(other, hidden))
    assert not torch.equal(patches(pixels, None), patches(other, None))
    tokens = towers.embedding(TextSource(kind="text", length=6), 8).eval()
    ids, covered = torch.tensor([[49406, 5, 6, 7, 8, 49407]]), torch.tensor([[0, 0, 1, 0, 0, 0]], dtype=torch.bool)
    changed = torch.tensor([[49406, 5, 99, 7, 8, 49407]])
    assert torch.equal(tokens(ids, covered), tokens(changed, covered))
    assert torch.equal(tokens(ids, None)[:, :2], tokens(changed, None)[:, :2])  # causal
    assert not torch.equal(tokens(ids, None)[:, 2:], tokens(changed, None)[:, 2:])


def test_towers_are_fine_tuned_and_encode(tmp_path: Path) -> None:
    prepared, raw = write_catalogue(tmp_path, 12)
    sources = {"image": {"kind": "image"}, "text": {"kind": "text", "field": "title", "length": 8}}
    encoder = settings(sources, architecture=ARCHITECTURE, weights="random:3", epochs=1, layers=1)
    align_content(encoder, "tiny.unified", prepared, raw, tmp_path / "out", lambda record: None)
    record = read_json(tmp_path / "out/run.json")
    assert record["items"] == {"total": 12, "trained": 8, "held_out": 3, "without_any": 1}
    trained = encoder.model_copy(update={"weights": str(tmp_path / "out/encoder.pt")})
    found = encode(trained, load_items(prepared), raw, Shards(tmp_path / "features", "unified", "code", {}))
    assert found.matrix.shape == (12, 16) and list(found.reasons) == [7]
    assert found.description["weights"] == "pre-trained on this catalogue, from scratch"
    assert found.description["preprocessing"]["image"]["resize_mode"] == "shortest"
    state = torch.load(tmp_path / "out/encoder.pt", weights_only=True)["state"]
    start = load_model(ARCHITECTURE, "random:3")[0].state_dict()
    moved = {"embeddings.0.blocks.": "visual.transformer.", "embeddings.1.blocks.": "transformer."}
    for tower, original in moved.items():
        names = [name for name in state if name.startswith(tower) and name.endswith("c_fc.weight")]
        assert names and all(not torch.equal(state[n], start[n.replace(tower, original)]) for n in names)


@pytest.mark.parametrize(
    ("architecture", "length", "message"),
    [
        ("RN50", 8, "architecture 'RN50' has no plain vision transformer with CLIP's text transformer"),
        (ARCHITECTURE, 78, f"length 78 exceeds the context of '{ARCHITECTURE}'; set `length` to at most 77"),
        ("ViT-S-32-old", 8, "unknown architecture 'ViT-S-32-old'"),
    ],
)
def test_towers_that_do_not_fit_are_named(architecture: str, length: int, message: str) -> None:
    with pytest.raises(MmreproError, match=message):
        load_towers(architecture, "random:0", length)
