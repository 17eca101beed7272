"""AlignRec's first stage: pre-train a multimodal encoder on a catalogue's own content (methods, 5.2)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import torch

from mmrepro.config.base import content_hash
from mmrepro.config.features import AlignRecEncoder, ImageSource, TextSource
from mmrepro.datasets.interactions import load_items, load_statistics
from mmrepro.errors import MmreproError
from mmrepro.features.alignment.catalogue import Catalogue, Reader, has_any, read_parts
from mmrepro.features.alignment.contents import remove_pixels
from mmrepro.features.alignment.embeddings import VectorEmbedding
from mmrepro.features.alignment.encoder import build_encoder, check_settings
from mmrepro.features.alignment.loop import Alignment, Report
from mmrepro.features.alignment.objective import Objective
from mmrepro.features.alignment.targets import PatchTarget, Target, TokenTarget, VectorTarget
from mmrepro.features.alignment.vocabulary import Vocabulary
from mmrepro.records.files import atomic_path, file_sha256, read_object, write_record, write_text
from mmrepro.records.provenance import git_state, versions
from mmrepro.runtime.checkpoint import Checkpoint
from mmrepro.runtime.devices import device_name, encoding_device, torch_threads
from mmrepro.runtime.meter import Meter
from mmrepro.runtime.seeds import derive_seed, seed_everything
from mmrepro.study.kinds import code_of
from mmrepro.study.weights import weights_label

ENCODER, HISTORY, RECORD = "encoder.pt", "history.jsonl", "run.json"


def align_content(
    encoder: AlignRecEncoder, name: str, prepared: Path, raw: Path, output: Path, report: Report | None = None
) -> None:
    """Pre-train the encoder of one modality and write its folder; `run.json` comes last and says that it is finished.

    A share of the items is held out: it is measured on and never trained on. Everything that is drawn is a function of
    seed, epoch and batch; a killed run goes on after its last checkpoint and ends with the same bits. A finished run
    of the same code, configuration and data is not done again. On a GPU the sums of some backward passes may round
    otherwise.

    Parameters
    ----------
    encoder
        What an item is made of, the encoder's size and its training.
    name
        `<feature set>.<modality>`.
    prepared
        Folder of the prepared data set.
    raw
        Folder of the raw files, which images and matrices are relative to.
    output
        Gets `encoder.pt` (all that encoding needs), `history.jsonl` (a line an epoch) and `run.json`; until then a
        checkpoint and the decoded images, in a hidden file of items * 3 * side * side bytes.
    report
        Called with each epoch's record; by default it is printed.

    Raises
    ------
    MmreproError
        For settings that do not fit, sources or weights that cannot be had, too few items, a folder another process
        writes to, or a diverged loss.
    """
    meter = Meter()
    check_settings(encoder, name)
    output.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(output / ".lock", timeout=0), torch_threads(encoder.threads):
            _Job(encoder, name, prepared, raw, output, report).run(meter)
    except filelock.Timeout:
        raise MmreproError(f"{output}: another process writes to this run; wait for it or end it") from None


class _Job:
    """One pre-training, from files to files."""

    def __init__(
        self, encoder: AlignRecEncoder, name: str, prepared: Path, raw: Path, output: Path, report: Report | None
    ) -> None:
        self.encoder, self.name, self.output = encoder, name, output
        statistics = load_statistics(prepared, "dataset", "item_list_hash")
        self.dataset = statistics["dataset"]
        self.report = report or _progress(f"{self.dataset} {name}", encoder.epochs)
        self.device = encoding_device(encoder.device)
        self.reader = Reader(encoder, load_items(prepared), raw, encoder.weights)
        data = {"item_list": statistics["item_list_hash"], "sources": self.reader.hashes()}
        if Path(encoder.weights).is_file():
            data["weights"] = file_sha256(Path(encoder.weights))
        self.facts: dict[str, Any] = {
            "configuration": {**encoder.model_dump(mode="json"), "weights": weights_label(encoder.weights)},
            "code": code_of("align_content", encoder="alignrec"),
            "data": data,
        }

    def run(self, meter: Meter) -> None:
        """Train unless it is done; write everything."""
        identity = {**self._identity(), "device": self.device.label}
        checkpoint = Checkpoint(self.output / "checkpoint.pt", identity, meter)
        if not self._is_finished():
            (self.output / RECORD).unlink(missing_ok=True)
            alignment, words = self._prepare(checkpoint)
            alignment.fit()
            self._write(alignment, words)
            write_record(self.output / RECORD, {**self._record(alignment), **meter.spent()})
        checkpoint.remove()
        remove_pixels(self.output)

    def _identity(self) -> dict[str, Any]:
        return {**{key: content_hash(value) for key, value in self.facts.items()}, "torch": str(torch.__version__)}

    def _is_finished(self) -> bool:
        """Whether the folder holds this very run."""
        if not (self.output / RECORD).is_file() or not (self.output / ENCODER).is_file():
            return False
        record = read_object(self.output / RECORD) or {}
        known = {key: record.get(key) for key in self.facts}
        return known == self.facts and record["versions"]["torch"] == versions()["torch"]

    def _prepare(self, checkpoint: Checkpoint) -> tuple[Alignment, dict[str, list[str]]]:
        """Read the catalogue, hold items out, and build encoder and objective."""
        encoder, items = self.encoder, len(self.reader.items)
        order = np.random.default_rng(derive_seed(encoder.seed, "held-out")).permutation(items)
        held_out = np.zeros(items, dtype=bool)
        held_out[order[: round(encoder.held_out * items)]] = True
        words = self.reader.words(np.flatnonzero(~held_out))
        vocabularies = self.reader.vocabularies(words)
        catalogue = self.reader.read(slice(0, items), vocabularies, self.output)
        there = has_any(catalogue)
        trained, held_out_items = np.flatnonzero(there & ~held_out), np.flatnonzero(there & held_out)
        if not len(trained) or not len(held_out_items):
            raise MmreproError(
                f"{self.name}: {len(trained)} items to train on and {len(held_out_items)} held out; both must "
                "be there: change `held_out` or `sources`"
            )
        targets = fit_targets(encoder, self.name, catalogue, vocabularies, trained)
        seed_everything(derive_seed(encoder.seed, weights_label(encoder.weights)))
        sizes = {name: vocabularies[name].n_ids for name in vocabularies}
        sizes |= {name: target.width for name, target in targets.items() if isinstance(target, VectorTarget)}
        unified = build_encoder(encoder, sizes, self.reader.towers)
        for embedding, target in zip(unified.embeddings, targets.values(), strict=True):
            if isinstance(embedding, VectorEmbedding) and isinstance(target, VectorTarget):
                embedding.mean.copy_(target.mean)
                embedding.deviation.copy_(target.deviation)
        objective = Objective(unified, targets, encoder.matching_weight).to(self.device.name)
        alignment = Alignment(
            encoder, objective, catalogue, trained, held_out_items, self.device, checkpoint, self.report
        )
        return alignment, words

    def _write(self, alignment: Alignment, words: dict[str, list[str]]) -> None:
        """Write the history and the encoder."""
        write_text(self.output / HISTORY, "".join(json.dumps(line) + "\n" for line in alignment.state["history"]))
        state = {name: value.cpu() for name, value in alignment.objective.encoder.state_dict().items()}
        with atomic_path(self.output / ENCODER) as temporary, temporary.open("wb") as handle:
            torch.save({"configuration": self.facts["configuration"], "words": words, "state": state}, handle)

    def _record(self, alignment: Alignment) -> dict[str, Any]:
        features, _, modality = self.name.partition(".")
        cuda = self.device.name == "cuda"
        items = {"total": len(self.reader.items), "trained": len(alignment.trained)}
        items |= {"held_out": len(alignment.held_out)}
        return {
            "status": "finished",
            "purpose": "alignment",
            "dataset": self.dataset,
            "features": features,
            "modality": modality,
            "configuration": self.facts["configuration"],
            "seed": self.encoder.seed,
            "device": self.device.name,
            "device_name": device_name(self.device.name),
            "versions": versions(),
            "git": git_state(Path(__file__).parent),
            "code": self.facts["code"],
            "data": self.facts["data"],
            "n_parameters": sum(p.numel() for p in alignment.objective.encoder.parameters()),
            "items": {**items, "without_any": items["total"] - items["trained"] - items["held_out"]},
            "absent": {name: len(contents.absent) for name, contents in alignment.catalogue.items()},
            "epochs": len(alignment.state["history"]),
            **alignment.figures(),
            "peak_gpu_memory_mb": round(torch.cuda.max_memory_allocated() / 2**20, 1) if cuda else None,
        }


def fit_targets(
    encoder: AlignRecEncoder,
    origin: str,
    catalogue: Catalogue,
    vocabularies: dict[str, Vocabulary],
    trained: np.ndarray,
) -> dict[str, Target]:
    """Fit what is predicted of each source on the training items that have it, block by block.

    Raises
    ------
    MmreproError
        When there is nothing to predict; `origin` is feature set and modality, for the message.
    """

    def target(name: str) -> Target:
        source, contents = encoder.sources[name], catalogue[name]
        items = trained[contents.present[trained].any(axis=1)]
        if not len(items):
            raise MmreproError(f"{origin}: source '{name}': no training item has it; leave it out or mend the data")
        if isinstance(source, TextSource):
            return TokenTarget(vocabularies[name], contents.content[items], contents.present[items])
        starts = range(0, len(items), encoder.batch_size)
        one = {name: contents}
        blocks = (read_parts(one, items[start : start + encoder.batch_size])[name].content for start in starts)
        if isinstance(source, ImageSource):
            return PatchTarget(contents.present.shape[1], blocks)
        return VectorTarget(contents.content.shape[1], blocks)

    targets = {name: target(name) for name in encoder.sources}
    empty = [name for name, found in targets.items() if not found.width]
    if empty:
        raise MmreproError(f"{origin}: source '{empty[0]}': no word occurs in two training items; leave it out")
    return targets


def _progress(label: str, epochs: int) -> Report:
    """Print a line an epoch for people, and the same as JSON for programs."""

    def report(record: dict[str, Any]) -> None:
        held_out = ", ".join(f"{name} {error:.4f}" for name, error in record["held_out"].items() if error is not None)
        print(
            f"{label} | epoch {record['epoch']}/{epochs} | loss {record['loss']:.4f} | held-out {held_out}"
            f" | {record['seconds']:.2f} s",
            file=sys.stderr,
            flush=True,
        )
        print(json.dumps(record), flush=True)

    return report
