"""Every switch of a protocol changes what it names, and nothing else."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hand_made import STUDY_FILE, make_root
from planted import (
    N_ITEMS,
    NEVER_TRAINED,
    SMALL,
    assert_same_run,
    planted_content,
    planted_dataset,
    planted_model,
    planted_trainer,
    same_lists,
    same_parameters,
    training_course,
    training_pairs,
    write_planted,
)

from mmrepro.config.protocol import RELEASED_SWITCHES, Protocol, ProtocolConfig
from mmrepro.config.run import RunSpec
from mmrepro.config.study import StudyConfig
from mmrepro.errors import MmreproError
from mmrepro.evaluation.evaluator import Evaluator
from mmrepro.evaluation.ranking import make_scorer
from mmrepro.models.base import ItemContent, Model
from mmrepro.models.cm3 import CM3
from mmrepro.records.files import read_json, write_json
from mmrepro.runtime.seeds import derive_seed
from mmrepro.study.resolve import plan_of_file
from mmrepro.training.run import train
from mmrepro.training.sampling import NegativeSampler, epoch_batches
from mmrepro.training.selection import select

FAIR = Protocol()


def run_spec(purpose: str, protocol: Protocol, **changes: Any) -> RunSpec:
    settings = {
        "purpose": purpose, "dataset": "planted", "model": "bpr", "parameters": SMALL, "protocol": protocol, **changes,
    }  # fmt: skip
    return RunSpec.model_validate(settings)


def test_each_switch_of_the_protocol_has_a_test_here_and_a_released_value() -> None:
    tests = [name for name in vars(sys.modules[__name__]) if name.startswith("test_")]
    for switch in Protocol.model_fields:
        assert any(name.startswith(f"test_{switch}") for name in tests), switch
    assert set(RELEASED_SWITCHES) == set(Protocol.model_fields)
    released = ProtocolConfig(base="released").resolve().model_dump()
    assert all(released[switch] != value for switch, value in FAIR.model_dump().items())


def test_one_switch_can_be_turned_alone() -> None:
    resolved = ProtocolConfig(base="released", round_digits=None).resolve()
    assert resolved.model_dump() == {**RELEASED_SWITCHES, "round_digits": None}
    assert ProtocolConfig(mask_at_test="train").resolve() == Protocol(mask_at_test="train")


def test_a_study_names_a_base_by_its_protocol_name() -> None:
    study = StudyConfig.model_validate(
        {"study": "s", "title": "S", "datasets": "a", "models": "bpr", "protocols": {"fair": None, "released": {}}}
    )
    assert study.protocols["fair"].resolve() == FAIR
    assert study.protocols["released"].resolve().model_dump() == RELEASED_SWITCHES


def test_oddities_of_a_program_replace_defaults_but_nothing_that_the_study_says(tmp_path: Path) -> None:
    make_root(tmp_path)
    schema = tmp_path / "config/schema/models/lightgcn.json"
    write_json(schema, {**read_json(schema), "released": {"n_layers": 4, "embedding_size": 7}})
    protocols: dict[str, Any] = {"fair": {}, "odd": {"oddities": "program"}}
    study = {"protocols": protocols, "parameters": {"lightgcn": {"embedding_size": 9}}, "models": ["lightgcn"]}
    plan = plan_of_file(STUDY_FILE, tmp_path, **study)
    found = {run.protocol_name: plan.parameters_of(run.spec) for run in plan.runs}
    assert (found["fair"]["n_layers"], found["odd"]["n_layers"]) == (2, 4)
    assert found["fair"]["embedding_size"] == found["odd"]["embedding_size"] == 9


def make_trials(root: Path, protocol: Protocol, values: list[tuple[float, float]]) -> list[Path]:
    folders = [root / f"trial{number}" for number in range(len(values))]
    for number, (folder, (valid, test)) in enumerate(zip(folders, values, strict=True)):
        record = {
            "protocol": protocol.model_dump(mode="json"), "watch": "recall_at_20", "parameters": {"n": number, "other": 1}, "epochs": 9,
            "valid": {"recall_at_20": valid}, "test": {"recall_at_20": test},
        }  # fmt: skip
        write_json(folder / "run.json", record)
    return folders


@pytest.mark.parametrize(("split", "winner"), [("valid", 1), ("test", 2)])
def test_select_on_says_which_split_chooses_the_trial(tmp_path: Path, split: str, winner: int) -> None:
    trials = make_trials(tmp_path, Protocol(select_on=split), [(0.1, 0.1), (0.3, 0.2), (0.2, 0.3)])
    select(trials, ["n"], tmp_path / "selection.json")
    selection = read_json(tmp_path / "selection.json")
    assert (selection["parameters"], selection["select_on"], selection["value"]) == ({"n": winner}, split, 0.3)


@pytest.mark.parametrize(("split", "recorded"), [("valid", False), ("test", True)])
def test_select_on_test_makes_trials_record_test_and_changes_no_training(
    tmp_path: Path, split: str, recorded: bool
) -> None:
    prepared = write_planted(tmp_path / "prepared")
    train(run_spec("trial", FAIR), 0, prepared, None, tmp_path / "fair")
    train(run_spec("trial", Protocol(select_on=split)), 0, prepared, None, tmp_path / "run")
    fair, record = (read_json(tmp_path / name / "run.json") for name in ("fair", "run"))
    assert ("test" in record) is recorded
    assert record["valid"] == fair["valid"]


@pytest.mark.parametrize(("digits", "winner"), [(None, 1), (4, 0)])
def test_round_digits_makes_nearly_equal_trials_a_tie_that_the_first_wins(
    tmp_path: Path, digits: int | None, winner: int
) -> None:
    trials = make_trials(tmp_path, Protocol(round_digits=digits), [(0.20001, 0), (0.20004, 0), (0.1, 0)])
    select(trials, ["n"], tmp_path / "selection.json")
    assert read_json(tmp_path / "selection.json")["parameters"] == {"n": winner}


def test_round_digits_makes_nearly_equal_epochs_a_tie_that_the_earlier_wins() -> None:
    values = [0.1, 0.20001, 0.20004, 0.20006]
    exact, rounded = (
        planted_trainer("bpr", Protocol(round_digits=digits), scripted=values, max_epochs=4).fit()
        for digits in (None, 4)
    )
    assert [record["best_epoch"] for record in exact.history] == [1, 2, 3, 4]
    assert [record["best_epoch"] for record in rounded.history] == [1, 2, 2, 4]
    assert training_course(rounded) == training_course(exact)
    assert [record["valid"]["recall_at_20"] for record in rounded.history] == values


@pytest.mark.parametrize(("name", "epochs"), [("lightgcn", 21), ("cm3", 11)])
def test_patience_is_configured_or_that_of_the_models_program(name: str, epochs: int) -> None:
    configured, released = (
        planted_trainer(
            name, Protocol(patience=kind), scripted=[0.5] + [0.1] * 40, patience=3, max_epochs=40, batch_size=1000
        ).fit()
        for kind in ("configured", "released")
    )
    assert (len(configured.history), len(released.history)) == (4, epochs)
    assert training_course(released)[:4] == training_course(configured)
    assert same_lists(configured, released)


def test_stop_when_exceeds_trains_one_epoch_more() -> None:
    reaches, exceeds = (
        planted_trainer("bpr", Protocol(stop_when=kind), scripted=[0.5] + [0.1] * 9, patience=2, max_epochs=9).fit()
        for kind in ("reaches", "exceeds")
    )
    assert (len(reaches.history), len(exceeds.history)) == (3, 4)
    assert training_course(exceeds)[:3] == training_course(reaches)
    assert same_lists(reaches, exceeds)


def pair_set(users: np.ndarray, items: np.ndarray) -> set[tuple[int, int]]:
    return set(zip(users.tolist(), items.tolist(), strict=True))


def test_mask_at_test_leaves_validation_items_in_the_test_lists_only() -> None:
    data = planted_dataset()
    scorer = make_scorer(planted_model("bpr", FAIR))
    ranked = {
        (mask, split): Evaluator(data, Protocol(mask_at_test=mask)).rank(scorer, split, N_ITEMS)
        for mask in ("train", "train+valid")
        for split in ("valid", "test")
    }
    train_pairs, valid_pairs = (pair_set(*data.of(split).distinct) for split in ("train", "valid"))

    def listed(mask: str, split: str) -> set[tuple[int, int]]:
        lists = ranked[mask, split]
        return {(int(u), int(i)) for u, row in zip(lists.users, lists.items, strict=True) for i in row if i >= 0}

    tested = set(data.of("test").users.tolist())
    ranked_valid = {pair for pair in valid_pairs if pair[0] in tested}
    assert ranked_valid <= listed("train", "test")
    assert listed("train+valid", "test") == listed("train", "test") - valid_pairs
    assert not listed("train", "test") & train_pairs
    assert listed("train", "valid") == listed("train+valid", "valid") >= valid_pairs


def last_batch_of_the_first_epoch(protocol: Protocol) -> tuple[Model, torch.Tensor]:
    """Train CM3 by hand up to the last step, which is left out; return it and the generator's state there."""
    model, pairs = planted_model("cm3", protocol), training_pairs(planted_dataset())
    optimiser = torch.optim.Adam(model.parameters(), lr=SMALL["learning_rate"], fused=True)
    torch.manual_seed(derive_seed(0, "epoch", 1))
    *earlier, _ = epoch_batches(pairs, NegativeSampler(pairs), int(SMALL["batch_size"]), 0, 1)
    assert earlier
    for batch in earlier:
        optimiser.zero_grad()
        torch.stack(list(model.loss(batch).values())).sum().backward()
        optimiser.step()
    return model, torch.get_rng_state()


def test_score_with_last_batch_ranks_with_the_parameters_before_the_last_step() -> None:
    protocol = Protocol(score_with="last_batch")
    outcome = planted_trainer("cm3", protocol, max_epochs=1).fit()
    model, _ = last_batch_of_the_first_epoch(protocol)
    assert outcome.embeddings is not None
    for found, expected in zip(outcome.embeddings, model.embed(), strict=True):
        assert torch.equal(found, expected)
    current = planted_trainer("cm3", FAIR, max_epochs=1).fit()
    assert current.embeddings is not None and not torch.equal(current.embeddings[1], outcome.embeddings[1])


def test_score_with_changes_no_training_and_no_model_that_its_program_scores_anew() -> None:
    stale, current = (planted_trainer("cm3", Protocol(score_with=kind)).fit() for kind in ("last_batch", "current"))
    assert training_course(stale) == training_course(current)
    assert not same_lists(stale, current)
    trainers = [planted_trainer("lightgcn", Protocol(score_with=kind)) for kind in ("last_batch", "current")]
    assert_same_run(trainers[0], trainers[0].fit(), trainers[1], trainers[1].fit())


def test_ranking_draw_of_the_last_batch_is_the_one_its_loss_was_computed_with() -> None:
    protocol = Protocol(ranking_draw="last_batch", score_with="last_batch")
    outcome = planted_trainer("cm3", protocol, max_epochs=1).fit()
    model, generator = last_batch_of_the_first_epoch(protocol)
    torch.set_rng_state(generator)
    assert isinstance(model, CM3) and outcome.embeddings is not None
    nodes, items = model.propagate(*model.project(model.draw_positions()))
    assert torch.equal(outcome.embeddings[0], model.weigh_blocks(nodes, model.block_weights))
    assert torch.equal(outcome.embeddings[1], items)


def test_ranking_draw_changes_no_training_and_no_model_without_draws() -> None:
    kinds = ("last_batch", "mean")
    drawn, mean = (planted_trainer("cm3", Protocol(ranking_draw=kind)).fit() for kind in kinds)
    assert training_course(drawn) == training_course(mean)
    assert not same_lists(drawn, mean)
    trainers = [planted_trainer("vbpr", Protocol(ranking_draw=kind)) for kind in kinds]
    assert_same_run(trainers[0], trainers[0].fit(), trainers[1], trainers[1].fit())


def with_parallel_modalities(protocol: Protocol) -> CM3:
    known = planted_content()
    content = ItemContent(dict.fromkeys(known.features, known.features["image"]), known.neighbours)
    model = CM3(training_pairs(planted_dataset()), content, CM3.Parameters.model_validate(SMALL), protocol)
    model.fusion["text"].load_state_dict(model.fusion["image"].state_dict())
    return model


def test_angle_clamp_of_the_program_gives_nan_where_modalities_are_parallel_and_the_safe_one_trains() -> None:
    safe = with_parallel_modalities(FAIR)
    outcome = planted_trainer("cm3", FAIR, model=safe).fit()
    assert all(np.isfinite(record["loss"]) for record in outcome.history)
    assert all(bool(torch.isfinite(value).all()) for value in safe.state_dict().values())
    protocol = Protocol(angle_clamp="float64_only")
    with pytest.raises(MmreproError, match="is nan in epoch 1"):
        planted_trainer("cm3", protocol, model=with_parallel_modalities(protocol)).fit()


def test_angle_clamp_changes_nothing_but_rounding_elsewhere() -> None:
    safe, program = (
        planted_trainer("cm3", Protocol(angle_clamp=kind), max_epochs=1).fit() for kind in ("safe", "float64_only")
    )
    assert program.history[0]["loss"] == pytest.approx(safe.history[0]["loss"], abs=1e-5)
    assert safe.embeddings is not None and program.embeddings is not None
    torch.testing.assert_close(program.embeddings[1], safe.embeddings[1], atol=1e-3, rtol=0)


def test_weight_decay_as_program_is_ignored_by_cm3_only() -> None:
    def fitted(name: str, kind: str, weight_decay: float) -> Model:
        trainer = planted_trainer(name, Protocol(weight_decay=kind), weight_decay=weight_decay)
        trainer.fit()
        return trainer.model

    assert same_parameters(fitted("cm3", "as_program", 0.1), fitted("cm3", "applied", 0.0))
    assert not same_parameters(fitted("cm3", "applied", 0.1), fitted("cm3", "applied", 0.0))
    assert same_parameters(fitted("bpr", "as_program", 0.1), fitted("bpr", "applied", 0.1))
    assert not same_parameters(fitted("bpr", "as_program", 0.1), fitted("bpr", "applied", 0.0))


def test_negatives_from_train_items_leaves_out_items_that_are_in_no_training_row() -> None:
    never = set(range(N_ITEMS - NEVER_TRAINED, N_ITEMS))
    own = pair_set(*planted_dataset().of("train").distinct)
    drawn: dict[str, set[int]] = {}
    orders = []
    for kind in ("all", "train_items"):
        trainer = planted_trainer("bpr", Protocol(negatives_from=kind))
        batches = [b for epoch in range(9) for b in epoch_batches(trainer.interactions, trainer.sampler, 128, 0, epoch)]
        users, positives, negatives = (torch.cat(column).tolist() for column in zip(*batches, strict=True))
        assert not set(zip(users, negatives, strict=True)) & own
        drawn[kind] = set(negatives)
        orders.append((users, positives))
    assert drawn == {"all": set(range(N_ITEMS)), "train_items": set(range(N_ITEMS)) - never}
    assert orders[0] == orders[1]


def test_test_from_noted_restores_nothing_yet_gives_the_same_numbers() -> None:
    values = [0.1, 0.9, 0.3, 0.2]
    trainers = {
        kind: planted_trainer("cm3", Protocol(test_from=kind), scripted=values, max_epochs=4)
        for kind in ("best_parameters", "noted")
    }
    best, noted = (trainer.fit() for trainer in trainers.values())
    assert training_course(best) == training_course(noted)
    assert same_lists(best, noted)
    assert best.best_epoch == noted.best_epoch == 2
    after_2, after_4 = (planted_trainer("cm3", FAIR, scripted=sorted(values), max_epochs=epochs) for epochs in (2, 4))
    after_2.fit(), after_4.fit()
    assert same_parameters(trainers["best_parameters"].model, after_2.model)
    assert same_parameters(trainers["noted"].model, after_4.model)


@pytest.mark.parametrize(("kind", "base_seed"), [("literal", 5), ("derived", derive_seed("planted", "bpr", 5))])
def test_seeding_is_the_seed_itself_or_derived_from_data_set_model_and_seed(
    tmp_path: Path, kind: str, base_seed: int
) -> None:
    train(run_spec("final", Protocol(seeding=kind)), 5, write_planted(tmp_path / "prepared"), None, tmp_path / "run")
    stored = torch.load(tmp_path / "run/model.pt")
    trainer = planted_trainer("bpr", FAIR, seed=base_seed)
    trainer.fit()
    expected = trainer.model.state_dict()
    assert sorted(stored) == sorted(expected)
    assert all(torch.equal(stored[name], expected[name]) for name in expected)


def test_seeding_derived_tells_data_sets_models_and_seeds_apart() -> None:
    keys = [("baby", "cm3", 0), ("baby", "cm3", 1), ("baby", "bpr", 0), ("sports", "cm3", 0)]
    seeds = [derive_seed(*key) for key in keys]
    assert len(set(seeds)) == len(keys)
    assert all(0 <= seed < 2**63 for seed in seeds)
