import numpy as np
import pytest
import torch
from alignment_hand_made import ALL, WORDS, random_parts, settings, small_encoder, small_objective
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mmrepro.errors import MmreproError
from mmrepro.features.alignment.embeddings import Part, Parts, PatchEmbedding
from mmrepro.features.alignment.encoder import check_settings
from mmrepro.features.alignment.vocabulary import Words

SOURCES = ("image", "text", "sound")
ENCODER = small_encoder()


def keep(parts: Parts, presence: np.ndarray) -> Parts:
    """The same contents, of which each item has the sources that its row of `presence` says."""
    columns = torch.from_numpy(presence)
    return {name: Part(p.content, p.present & columns[:, [k]]) for k, (name, p) in enumerate(parts.items())}


def spoil(part: Part, seed: int) -> Part:
    """Other content wherever there is nothing."""
    other = random_parts(len(part.content), seed)
    absent = ~part.present.any(1)
    content = part.content.clone()
    for candidate in other.values():
        if candidate.content.dtype == content.dtype:
            content[absent] = candidate.content[absent]
            if content.dtype == torch.int64:
                content = torch.where(part.present, content, candidate.content)
    return Part(content, part.present)


def test_what_is_behind_the_mask_changes_no_bit_of_vectors_loss_or_gradient() -> None:
    whole = random_parts(6)
    whole["text"].present[0, 2:] = False  # padding
    parts = keep(whole, np.array([[1, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0], [1, 0, 0], [0, 0, 1]], dtype=bool))
    spoilt = {name: spoil(part, 9) for name, part in parts.items()}
    assert all(not torch.equal(parts[name].content, spoilt[name].content) for name in SOURCES)
    objective = small_objective(whole)
    hidden = objective.draw_hidden(parts, settings(ALL).sources, np.random.default_rng(0))
    same = {name: torch.arange(6) for name in SOURCES}
    found = []
    for given_parts in (parts, spoilt):
        objective.zero_grad()
        terms = objective(given_parts, hidden, same)
        torch.stack(list(terms.values())).sum().backward()
        gradients = [p.grad.clone() for p in objective.parameters() if p.grad is not None]
        found.append([objective.encoder(given_parts)[0], *terms.values(), *gradients])
    assert len(found[0]) > 40
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@given(
    st.lists(st.lists(st.booleans(), min_size=3, max_size=3).filter(any), min_size=1, max_size=5), st.integers(0, 99)
)
@hypothesis_settings(max_examples=12, deadline=None)
def test_an_item_gets_the_vector_that_it_gets_alone_with_only_what_it_has(rows: list[list[bool]], seed: int) -> None:
    parts = keep(random_parts(len(rows), seed), np.array(rows))
    unified, _ = ENCODER(parts)
    for item, row in enumerate(rows):
        own = {
            name: Part(p.content[[item]], p.present[[item]])
            for (name, p), has in zip(parts.items(), row, strict=True)
            if has
        }
        torch.testing.assert_close(ENCODER(own)[0][0], unified[item])


def test_hidden_content_is_not_seen_and_everything_else_is() -> None:
    parts, other, encoder = random_parts(3), random_parts(3, seed=5), ENCODER
    hidden = {name: torch.zeros_like(part.present) for name, part in parts.items()}
    hidden["image"][:, 1] = hidden["text"][:, 2] = hidden["sound"][:, 0] = True
    covered = {name: Part(part.content.clone(), part.present) for name, part in parts.items()}
    covered["image"].content[:, :, :8, 8:] = other["image"].content[:, :, :8, 8:]  # patch 1: above, on the right
    covered["text"].content[:, 2] = other["text"].content[:, 2]
    covered["sound"].content[:] = other["sound"].content
    assert torch.equal(encoder(parts, hidden)[0], encoder(covered, hidden)[0])
    assert not torch.allclose(encoder(parts)[0], encoder(covered)[0])
    for name in SOURCES:  # a change in one source moves the states of every other
        changed = {**parts, name: other[name]}
        for reader in SOURCES:
            assert not torch.allclose(encoder(parts)[1][reader], encoder(changed)[1][reader])


def test_order_of_words_and_place_of_patches_matter() -> None:
    parts, encoder = random_parts(2), ENCODER
    parts["text"].content[:] = torch.tensor([2, 3, 4, 2])
    swapped = {**parts, "text": Part(parts["text"].content.flip(1), parts["text"].present)}
    assert not torch.allclose(encoder(parts)[0], encoder(swapped)[0])
    turned = {**parts, "image": Part(parts["image"].content.roll(8, dims=3), parts["image"].present)}
    assert not torch.allclose(encoder(parts)[0], encoder(turned)[0])


def test_patches_are_embedded_row_by_row() -> None:
    source = settings(ALL).sources["image"]
    embedding = PatchEmbedding(source, 1)  # type: ignore[arg-type]
    with torch.no_grad():
        embedding.linear.weight.fill_(1 / (3 * 64))
        embedding.linear.bias.zero_()
    content = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    content[:, :, :8, 8:], content[:, :, 8:, :8] = 255, 51
    expected = [-1.0, 1.0, 51 / 127.5 - 1, -1.0]
    torch.testing.assert_close(embedding(content, None)[0, :, 0], torch.tensor(expected))


def test_words_are_those_of_two_items_and_others_are_unknown() -> None:
    words = Words.fit(["Red hat, red", "a RED shoe", "hat", None, "  "])
    assert words.words == ("hat", "red")
    ids, present = words.tokenise(["red hat of straw", None, "!", "straw"], 3)
    np.testing.assert_array_equal(ids, [[3, 2, 1], [0, 0, 0], [0, 0, 0], [1, 0, 0]])
    np.testing.assert_array_equal(present, ids != 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, "tiny.unified: heads 3 do not divide dim 16"),
        ({"weights": "laion2b"}, "weights 'laion2b' without `architecture`"),
        (
            {"sources": {"image": {**ALL["image"], "side": 20}, "text": ALL["text"]}},
            "source 'image': patch 8 does not divide",
        ),
    ],
)
def test_settings_that_do_not_fit_are_named(changes: dict, message: str) -> None:
    with pytest.raises(MmreproError, match=message):
        check_settings(settings(**{"sources": ALL, **changes}), "tiny.unified")


def test_the_vocabulary_of_the_hand_made_items_has_no_unknown_word() -> None:
    assert WORDS.tokenise(["dark red"], 2)[0].tolist() == [[3, 4]]
