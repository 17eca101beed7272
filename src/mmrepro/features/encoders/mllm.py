"""A multimodal language model describes each item from image and title; a sentence encoder embeds the description."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mmrepro.columns import Columns
from mmrepro.config.base import content_hash
from mmrepro.config.features import MultimodalLanguageEncoder
from mmrepro.datasets.image_download import UnusableImage, open_image
from mmrepro.errors import MmreproError
from mmrepro.features.encoders.base import Encoded, first_line, require_complete, require_usable, saved_hash, state_hash
from mmrepro.features.encoders.sentence_transformers import embed
from mmrepro.features.pixels import image_hashes, missing_images, unusable_reason
from mmrepro.features.shards import Advance, Arrays, Shards, shard_size
from mmrepro.runtime.devices import Device, encoding_device
from mmrepro.study.weights import weights_label

if TYPE_CHECKING:
    from PIL.Image import Image

SHARD = 64
NO_DESCRIPTION = "empty description"


def encode(encoder: MultimodalLanguageEncoder, items: pd.DataFrame, raw: Path, shards: Shards) -> Encoded:
    """Describe each item, then embed the descriptions; both steps keep their shards.

    An item without a usable image is described from its title alone where the model's processor takes text alone;
    otherwise it is missing.

    Parameters
    ----------
    encoder
        Both models, the prompt and the length of a description.
    items
        The items of the prepared data set, in item order.
    raw
        Folder that the image paths are relative to.
    shards
        Keeps finished parts.

    Raises
    ------
    MmreproError
        When a model cannot be had, no item can be described, or one cannot under `missing: error`.
    """
    texts, reasons, describer = _descriptions(encoder, items, raw, shards)
    require_usable(int(texts.notna().sum()), len(items), "image or title")
    require_complete(reasons, len(items), encoder.missing, shards.name)
    embedded = embed(texts, encoder, encoder.text_weights, shards, {"describer": describer})
    text_encoder = {key: embedded.description.pop(key) for key in ("weights", "weights_hash", "preprocessing")}
    description = {**describer, "text_encoder": text_encoder, **embedded.description}
    return Encoded(embedded.matrix, reasons, description, texts)


def _descriptions(
    encoder: MultimodalLanguageEncoder, items: pd.DataFrame, raw: Path, shards: Shards
) -> tuple[pd.Series, dict[int, str], dict[str, Any]]:
    """The description of every item, the reasons of those without, and the record of the model."""
    device = encoding_device(encoder.device)
    describer = _Describer(encoder, device)
    paths = [None if pd.isna(name) else raw / name for name in items[Columns.IMAGE]]
    titles = ["" if pd.isna(title) else str(title).strip() for title in items[Columns.TITLE]]
    without = missing_images(items)
    hopeless = [i for i in without if not (titles[i] and describer.takes_text_alone)]
    require_complete(hopeless, len(items), encoder.missing, shards.name)  # before hours of writing
    hashes = iter(image_hashes(raw, items[Columns.IMAGE].dropna()))
    contents = [titles, [None if path is None else next(hashes) for path in paths]]
    size = shard_size(SHARD, encoder.batch_size)
    facts = {**describer.record, **device.description(), "items": content_hash(contents), "shard_size": size}
    address = shards.address({**facts, "behaviour": describer.behaviour})

    def write(start: int, stop: int, advance: Advance) -> Arrays:
        texts: list[str] = []
        reasons: list[str] = []
        for step in range(start, stop, encoder.batch_size):
            batch = range(step, min(step + encoder.batch_size, stop))
            written, failed = describer.describe([titles[i] for i in batch], [paths[i] for i in batch])
            texts += written
            reasons += [without.get(i, reason) if reason else "" for i, reason in zip(batch, failed, strict=True)]
            advance(len(batch))
        return {"texts": np.array(texts), "reasons": np.array(reasons)}

    texts: list[str] = []
    reasons: list[str] = []
    for _, _, arrays in shards.make(address, len(items), size, write, ".descriptions"):
        texts += arrays["texts"].tolist()
        reasons += arrays["reasons"].tolist()
    missing = {item: reason for item, reason in enumerate(reasons) if reason}
    described = pd.Series([text or None for text in texts], dtype="string", name="description")
    return described, missing, {**describer.record, "descriptions_address": address}


class _Describer:
    """A model with its processor; `record` goes into the table's record, `behaviour` hashes what it leaves out."""

    def __init__(self, encoder: MultimodalLanguageEncoder, device: Device) -> None:
        import torch

        self.encoder = encoder
        self.model, self.processor = _load(encoder.weights, encoder.revision)
        tokenizer = self.processor.tokenizer
        tokenizer.padding_side = "left"  # what is generated follows the prompt
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.takes_text_alone = self._takes_text_alone()
        self.record = {
            "weights": weights_label(encoder.weights),
            "weights_hash": state_hash(self.model),
            "preprocessing": {"processor": type(self.processor).__name__, "text_alone": self.takes_text_alone},
        }
        configuration = [self.model.config.to_diff_dict(), self.model.generation_config.to_diff_dict()]
        self.behaviour = [saved_hash(self.processor), content_hash(repr(configuration))]
        self.model.to(device.name, getattr(torch, device.precision))

    def describe(self, titles: list[str], paths: list[Path | None]) -> tuple[list[str], list[str]]:
        """Return a description and a reason for each item; one of the two is empty."""
        images: list[Image | None] = []
        texts, reasons = [""] * len(titles), [""] * len(titles)
        for i, path in enumerate(paths):
            image, reasons[i] = _open(path)
            images.append(image)
        shown = [i for i, image in enumerate(images) if image is not None]
        told = [i for i, image in enumerate(images) if image is None and titles[i] and self.takes_text_alone]
        for group, with_image in ((shown, True), (told, False)):
            if group:
                prompts = [self._prompt(titles[i], with_image) for i in group]
                written = self._generate(prompts, [[images[i]] for i in group] if with_image else None)
                for i, text in zip(group, written, strict=True):
                    texts[i], reasons[i] = text, "" if text else NO_DESCRIPTION
        return texts, reasons

    def _prompt(self, title: str, with_image: bool) -> str:
        """The question in the form that the model was trained on."""
        question = self.encoder.prompt.replace("{title}", title)
        if getattr(self.processor, "chat_template", None):
            content = [{"type": "image"}] * with_image + [{"type": "text", "text": question}]
            return self.processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
            )
        return f"{self.processor.image_token}\n{question}" if with_image else question

    def _generate(self, prompts: list[str], images: list[list[Image | None]] | None) -> list[str]:
        """Greedy continuations of a batch of prompts."""
        import torch

        given = {"images": images} if images else {}
        inputs = self.processor(text=prompts, padding=True, return_tensors="pt", **given)
        inputs = inputs.to(self.model.device, dtype=self.model.dtype)
        with torch.inference_mode():
            output = self.model.generate(
                **inputs, max_new_tokens=self.encoder.max_new_tokens, do_sample=False, num_beams=1
            )
        written = self.processor.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return [text.strip() for text in written]

    def _takes_text_alone(self) -> bool:
        try:
            self.processor(text=[self._prompt("a", with_image=False)], return_tensors="pt")
        except Exception:  # each processor has its own way to refuse
            return False
        return True


def _open(path: Path | None) -> tuple[Image | None, str]:
    """The image, or the reason why there is none."""
    if path is None:
        return None, "no image"
    try:
        return open_image(path), ""
    except UnusableImage as unusable:
        return None, unusable_reason(unusable)


def _load(weights: str, revision: str | None) -> tuple[Any, Any]:
    """Load model and processor on the CPU in the precision that they are stored in."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    options: dict[str, Any] = {"local_files_only": Path(weights).is_dir(), "revision": revision or "main"}
    options["trust_remote_code"] = False  # unless told, the library asks on the terminal
    try:
        processor = AutoProcessor.from_pretrained(weights, **options)
        model = AutoModelForImageTextToText.from_pretrained(weights, dtype="auto", **options)
    except Exception as error:  # the library raises errors of many packages
        raise MmreproError(
            f"mllm: weights '{weights}' cannot be loaded ({first_line(error)}); name an image-text-to-text model of "
            "transformers: a local folder, or with a network a name of the hub"
        ) from None
    return model.eval(), processor
