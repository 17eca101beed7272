import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from mmrepro.config.base import content_hash, differing, nearest
from mmrepro.config.dataset import DatasetConfig
from mmrepro.config.features import FeatureSetConfig
from mmrepro.config.files import from_json, load, validate
from mmrepro.config.model import ModelConfig, ModelSchema, model_names
from mmrepro.config.protocol import RELEASED_SWITCHES, Protocol
from mmrepro.config.run import RunSpec
from mmrepro.config.study import StudyConfig
from mmrepro.errors import MmreproError
from mmrepro.housekeeping.schemas import schemas, write_schemas
from mmrepro.models.base import model_class

CONFIG = Path(__file__).parents[2] / "config"
KINDS: dict[str, type[BaseModel]] = {
    "studies": StudyConfig,
    "datasets": DatasetConfig,
    "features": FeatureSetConfig,
    "models": ModelConfig,
}
FILES = [(folder, path) for folder in KINDS for path in sorted((CONFIG / folder).glob("*.yaml"))]
MODELS = sorted((CONFIG / "models").glob("*.yaml"))

STUDY: dict[str, Any] = {
    "study": "tiny",
    "title": "Tiny",
    "datasets": ["mini-baby"],
    "models": ["cm3"],
    "protocols": {"strict": {"base": "fair", "round_digits": 4}},
    "search": {"seed": 0, "space": {"cm3": {"gamma": [0.5]}}},
}
DATASET: dict[str, Any] = {
    "dataset": "tiny",
    "title": "Tiny",
    "reader": "mmrec",
    "folder": "tiny",
    "licence": "none",
    "files": [{"name": "tiny.inter", "bytes": 3}],
    "split": {"kind": "published"},
    "expected": {"users": 3},
}
FEATURES: dict[str, Any] = {
    "feature_set": "tiny",
    "modalities": {
        "image": {"encoder": "open_clip", "source": "image", "architecture": "ViT-S-32-alt", "weights": "random:0"}
    },
}
MODEL: dict[str, Any] = {"model": "bpr", "title": "BPR", "citation": "x", "source": "x"}
BASES = {StudyConfig: STUDY, DatasetConfig: DATASET, FeatureSetConfig: FEATURES, ModelConfig: MODEL}
SPEC: dict[str, Any] = {
    "purpose": "final",
    "dataset": "mini-baby",
    "features": "miniature",
    "modalities": ["image", "text"],
    "model": "cm3",
    "parameters": {"gamma": 0.5, "n_layers": 2},
    "protocol": {},
    "threads": 1,
    "watch": "ndcg_at_10",
}


def changed(base: dict[str, Any], path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    result = copy.deepcopy(base)
    target: Any = result
    for part in path[:-1]:
        target = target[part]
    target[path[-1]] = value
    return result


def schema_of(model: str) -> ModelSchema:
    return ModelSchema.load(CONFIG / "schema/models", model)


@pytest.mark.parametrize(("folder", "path"), FILES, ids=[f"{folder}/{path.stem}" for folder, path in FILES])
def test_every_file_is_valid_by_class_and_by_schema_and_named_after_its_content(folder: str, path: Path) -> None:
    config = load(KINDS[folder], path)
    kind = {"studies": "study", "datasets": "dataset", "features": "feature_set", "models": "model"}[folder]
    assert getattr(config, kind) == path.stem
    schema = json.loads((CONFIG / f"schema/{kind}.json").read_text())
    data = yaml.safe_load(path.read_text())
    if folder == "studies":  # short forms that the class spells out
        data = load(StudyConfig, path).model_dump(mode="json", exclude_unset=True)
    jsonschema.validate(data, schema)


@pytest.mark.parametrize("path", MODELS, ids=[path.stem for path in MODELS])
def test_model_file_agrees_with_the_models_class(path: Path) -> None:
    config, cls, schema = load(ModelConfig, path), model_class(path.stem), schema_of(path.stem)
    assert (schema.uses_features, schema.closed_form) == (cls.uses_features, cls.closed_form)
    assert schema.defaults == cls.Parameters().model_dump(mode="json")
    for name, values in config.search_space.items():
        for value in values:
            checked = schema.check(str(path), {name: value})
            assert getattr(cls.Parameters.model_validate(checked), name) == value


def test_every_model_has_a_file() -> None:
    assert [path.stem for path in MODELS] == model_names()


def test_schema_files_are_those_of_the_classes(tmp_path: Path) -> None:
    write_schemas(tmp_path)
    made = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*.json")}
    committed = {path.relative_to(CONFIG / "schema"): path.read_text() for path in (CONFIG / "schema").rglob("*.json")}
    assert len(made) == len(schemas()) > 5
    assert made == committed, "config/schema has drifted; run `mmrepro schema`"


@pytest.mark.parametrize(
    ("cls", "path", "misspelt", "right"),
    [
        (StudyConfig, (), "modles", "models"),
        (StudyConfig, ("protocols", "strict"), "round_digit", "round_digits"),
        (StudyConfig, ("protocols", "strict"), "slect_on", "select_on"),
        (StudyConfig, ("search",), "sed", "seed"),
        (DatasetConfig, (), "k_cor", "k_core"),
        (DatasetConfig, ("files", 0), "sha265", "sha256"),
        (DatasetConfig, ("split",), "knd", "kind"),
        (DatasetConfig, ("expected",), "user", "users"),
        (FeatureSetConfig, (), "neighbors", "neighbours"),
        (FeatureSetConfig, ("modalities", "image"), "architectur", "architecture"),
        (ModelConfig, (), "serch_space", "search_space"),
    ],
)
def test_misspelt_key_names_the_nearest(
    cls: type[BaseModel], path: tuple[str | int, ...], misspelt: str, right: str
) -> None:
    base = BASES[cls]
    validate(cls, base, "tiny.yaml")
    with pytest.raises(MmreproError) as error:
        validate(cls, changed(base, (*path, misspelt), 1), "tiny.yaml")
    message = str(error.value)
    assert message.startswith("tiny.yaml: unknown key '") and "\n" not in message
    assert f"{misspelt}'; did you mean '{right}'?" in message


def test_a_word_like_no_key_lists_the_valid_ones() -> None:
    with pytest.raises(
        MmreproError, match=r"unknown key 'search\.zzz'; valid are budget, datasets, models, name, sampler, seed, space"
    ):
        validate(StudyConfig, changed(STUDY, ("search", "zzz"), 1), "tiny.yaml")


@pytest.mark.parametrize(
    ("cls", "path", "value", "key"),
    [
        (StudyConfig, ("threads",), "two", "threads"),
        (StudyConfig, ("threads",), 0, "threads"),
        (StudyConfig, ("seeds",), [0.5], "seeds.0"),
        (StudyConfig, ("models",), [], "models"),
        (StudyConfig, ("study",), "Has Spaces", "study"),
        (StudyConfig, ("precision",), "float16", "precision"),
        (StudyConfig, ("protocols", "strict", "select_on"), "train", "protocols.strict.select_on"),
        (DatasetConfig, ("files", 0, "sha256"), "abc", "files.0.sha256"),
        (DatasetConfig, ("split", "holdout"), 1.5, "split.holdout"),
        (DatasetConfig, ("k_core",), -1, "k_core"),
        (FeatureSetConfig, ("modalities",), {}, "modalities"),
        (FeatureSetConfig, ("modalities", "image", "encoder"), "clip", "modalities.image"),
        (ModelConfig, ("search_space",), {"gamma": 1}, "search_space.gamma"),
        (StudyConfig, ("watch",), "recall", "watch"),
        (StudyConfig, ("cutoffs",), [0], "cutoffs.0"),
    ],
)
def test_wrong_value_names_the_key(cls: type[BaseModel], path: tuple[str | int, ...], value: Any, key: str) -> None:
    with pytest.raises(MmreproError) as error:
        validate(cls, changed(BASES[cls], path, value), "tiny.yaml")
    assert str(error.value).startswith(f"tiny.yaml: key '{key}") and "\n" not in str(error.value)


def test_missing_key_is_named() -> None:
    without = {key: value for key, value in STUDY.items() if key != "datasets"}
    with pytest.raises(MmreproError, match=r"^tiny\.yaml: key 'datasets' is missing; add it$"):
        validate(StudyConfig, without, "tiny.yaml")


@pytest.mark.parametrize("data", [None, [], "text"])
def test_something_else_than_a_mapping_is_said(data: Any) -> None:
    with pytest.raises(MmreproError, match=r"^tiny.yaml: expected keys and values, found"):
        validate(StudyConfig, data, "tiny.yaml")


def test_missing_and_malformed_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "posters.yaml").write_text("study: [")
    with pytest.raises(MmreproError, match=r"poster\.yaml: no such file; did you mean 'posters'\?"):
        load(StudyConfig, tmp_path / "poster.yaml")
    with pytest.raises(MmreproError, match=r"posters\.yaml: not valid YAML: ") as error:
        load(StudyConfig, tmp_path / "posters.yaml")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"models": "cm3,vbpr"}, {"models": ("cm3", "vbpr")}),
        ({"models": " cm3 , vbpr,"}, {"models": ("cm3", "vbpr")}),
        ({"datasets": "baby"}, {"datasets": ("baby",)}),
        ({"seeds": 3}, {"seeds": (3,)}),
        ({"seeds": "0,2"}, {"seeds": (0, 2)}),
        ({"cutoffs": 20}, {"cutoffs": (20,)}),
        ({"cutoffs": "10,20"}, {"cutoffs": (10, 20)}),
        ({"watch": "ndcg@10"}, {"watch": "ndcg_at_10"}),
    ],
)
def test_comma_lists_and_single_values_of_the_command_line(given: dict[str, Any], expected: dict[str, Any]) -> None:
    study = validate(StudyConfig, {**STUDY, **given}, "tiny.yaml")
    assert {key: getattr(study, key) for key in expected} == expected


@pytest.mark.parametrize("key", ["datasets", "models", "seeds", "cutoffs"])
def test_what_is_named_twice_is_refused(key: str) -> None:
    values = {"datasets": ["baby", "baby"], "models": ["cm3", "cm3"], "seeds": [0, 1, 0], "cutoffs": [10, 10]}
    with pytest.raises(MmreproError, match=rf"tiny\.yaml: key '{key}': .*names \w+ twice; name each once"):
        validate(StudyConfig, {**STUDY, key: values[key]}, "tiny.yaml")


@pytest.mark.parametrize("text", ["notjson", "[1]", "1", ""])
def test_options_that_hold_no_json_object_are_one_line(text: str) -> None:
    with pytest.raises(MmreproError, match=r"--slice: no JSON object \(found '.*'\); write it as"):
        from_json(text, "--slice")


def test_a_number_has_the_type_of_its_parameter() -> None:
    checked = schema_of("cm3").check("a study", {"n_layers": 3.0, "learning_rate": 1, "max_epochs": 6, "gamma": 0.5})
    assert [(type(value), value) for value in checked.values()] == [(int, 3), (float, 1.0), (int, 6), (float, 0.5)]
    assert schema_of("cm3").check("a study", {"feature_rank": None}) == {"feature_rank": None}


def test_protocols_resolve_to_their_base_and_the_switches_that_differ() -> None:
    protocols = {
        "fair": {},
        "released": None,
        "chased": {"base": "released", "select_on": "valid", "round_digits": None},
    }
    study = validate(StudyConfig, {**STUDY, "protocols": protocols}, "tiny.yaml")
    assert study.protocols["fair"].resolve() == Protocol()
    assert study.protocols["released"].resolve() == Protocol(**RELEASED_SWITCHES)
    expected = {**RELEASED_SWITCHES, "select_on": "valid", "round_digits": None}
    assert study.protocols["chased"].resolve() == Protocol(**expected)


def test_released_differs_from_fair_in_every_switch() -> None:
    fair, released = Protocol().model_dump(), Protocol(**RELEASED_SWITCHES).model_dump()
    assert {switch for switch in fair if fair[switch] == released[switch]} == set()
    assert set(RELEASED_SWITCHES) == set(fair)


def test_defaults_stand_in_the_class_and_only_what_differs_is_kept() -> None:
    defaults = schema_of("cm3").defaults
    assert defaults["feature_rank"] is None and defaults["embedding_size"] == 64
    assert differing({"alpha": 0.9, "n_layers": 3, "gamma": 0.5, "embedding_size": 64}, defaults) == {"alpha": 0.9}
    assert differing({"a": 1, "b": 0, "c": False, "d": 2.0}, {"a": True, "b": 0.0, "c": 0, "d": 2}) == {
        "a": 1,
        "c": False,
    }
    spec = RunSpec(purpose="trial", dataset="d", model="cm3", parameters={"gamma": 0.9, "alpha": 0.1})
    assert spec.with_parameters({"gamma": 0.5, "n_layers": 4}, defaults).parameters == {"alpha": 0.1, "n_layers": 4}


def test_a_run_is_made_again_from_what_differs_from_the_defaults() -> None:
    spec = RunSpec(**SPEC)
    assert RunSpec.model_validate(spec.differences()) == spec
    assert "protocol" not in spec.differences() and "device" not in spec.differences()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"gama": 0.5}, "has no parameter 'gama'; did you mean 'gamma'?"),
        ({"gamma": "0.5x"}, "parameter 'gamma' of model 'cm3': '0.5x' is not of type 'number'"),
        ({"gamma": -1}, "parameter 'gamma' of model 'cm3': -1 is less than the minimum of 0"),
        ({"n_layers": 2.5}, "parameter 'n_layers' of model 'cm3': 2.5 is not of type 'integer'"),
        ({"bezier": "square"}, "parameter 'bezier' of model 'cm3': 'square' is not one of"),
        ({"learning_rate": 0}, "parameter 'learning_rate' of model 'cm3': 0 is less than or equal to"),
    ],
)
def test_wrong_parameters_name_study_model_and_parameter(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(MmreproError) as error:
        schema_of("cm3").check("s.yaml", parameters)
    assert str(error.value).startswith("s.yaml: ") and message in str(error.value)


def test_run_hash_ignores_the_order_of_keys() -> None:
    backwards = {key: SPEC[key] for key in reversed(SPEC)}
    backwards["parameters"] = {key: SPEC["parameters"][key] for key in reversed(SPEC["parameters"])}
    backwards["protocol"] = {"round_digits": None, "select_on": "valid"}
    first, second = RunSpec(**SPEC), RunSpec(**backwards)
    assert first.hash == second.hash
    assert len(first.hash) == 12 and int(first.hash, 16) >= 0


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("parameters", "gamma"), 0.6),
        (("parameters", "extra"), 1),
        (("protocol", "mask_at_test"), "train"),
        (("threads",), 2),
        (("device",), "cuda"),
        (("precision",), "bfloat16"),
        (("purpose",), "trial"),
        (("dataset",), "mini-elec"),
        (("features",), "miniature--shuffled"),
        (("modalities",), ["text", "image"]),
        (("model",), "vbpr"),
        (("selected_by",), "search"),
        (("watch",), "recall_at_10"),
        (("selects",), ["gamma"]),
    ],
)
def test_run_hash_changes_with_everything_that_decides_the_result(path: tuple[str, ...], value: Any) -> None:
    assert RunSpec(**changed(SPEC, path, value)).hash != RunSpec(**SPEC).hash


@pytest.mark.parametrize("switch", sorted(RELEASED_SWITCHES))
def test_run_hash_changes_with_each_switch_of_the_protocol(switch: str) -> None:
    other = changed(SPEC, ("protocol", switch), RELEASED_SWITCHES[switch])
    assert RunSpec(**other).hash != RunSpec(**SPEC).hash


def test_hash_of_content_is_that_of_canonical_json() -> None:
    assert content_hash({"b": [1, None], "a": "x"}) == content_hash({"a": "x", "b": [1, None]})
    assert content_hash({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_configurations_cannot_be_changed_once_validated() -> None:
    study = validate(StudyConfig, STUDY, "tiny.yaml")
    with pytest.raises(ValueError, match="frozen"):
        study.title = "other"


def test_a_key_that_stands_twice_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text("study: tiny\nparameters:\n  cm3: {gamma: 1.0}\n  vbpr: {}\n  cm3: {alpha: 1.0}\n")
    with pytest.raises(
        MmreproError, match=r"tiny\.yaml: not valid YAML: key 'cm3' stands twice; name it once .*line 5"
    ):
        load(StudyConfig, file)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), float("-inf")])
def test_a_parameter_is_a_number_of_this_world(value: float) -> None:
    with pytest.raises(MmreproError, match=r"parameter 'gamma' of model 'cm3': .* is no number; set one"):
        schema_of("cm3").check("study", {"gamma": value})


@pytest.mark.parametrize(
    "text", ["study: 2024-13-45", f"study: {'9' * 5000}", "study: " + "[" * 20000, "study: &a [*a]"]
)
def test_a_value_that_yaml_cannot_read_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(MmreproError, match=r"x\.yaml: ") as error:
        load(StudyConfig, tmp_path / "x.yaml")
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000


def test_the_nearest_word_is_found_in_whatever_case() -> None:
    assert nearest("CM3", ["cm3", "bm3"]) == "did you mean 'cm3'?"
