"""Reading configuration files: every problem is one line that names the file, the key and the nearest valid word."""

from __future__ import annotations

import json
import re
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from mmrepro.config.base import nearest
from mmrepro.config.dataset import DatasetConfig, Expected, SplitKind
from mmrepro.config.features import CHANGES, DERIVED, FeatureSetConfig, FeatureSetName
from mmrepro.errors import MmreproError

T = TypeVar("T", bound=BaseModel)


def validate(cls: type[T], data: Any, origin: str) -> T:
    """Validate `data` as `cls`.

    Parameters
    ----------
    cls
        A configuration class.
    data
        What a YAML file or Snakemake's configuration holds.
    origin
        File (or option) the data come from, for the message.

    Raises
    ------
    MmreproError
        One line with file, key, and the nearest valid key or the expected type.
    """
    if not isinstance(data, dict):
        raise MmreproError(f"{origin}: expected keys and values, found {type(data).__name__}; see config/ for examples")
    try:
        return cls.model_validate(data)
    except ValidationError as error:
        found = error.errors()
        told = [e for e in found if e["type"] != "too_short" or len(found) == 1] or found  # which follows from others
        raise MmreproError(f"{origin}: " + "; ".join(_explain(cls, e) for e in told)) from None


def from_json(text: str, origin: str) -> dict[str, Any]:
    """Return the keys and values that an option of the command line holds as JSON.

    Raises
    ------
    MmreproError
        When it holds none.
    """
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise MmreproError(f"{origin}: no JSON object (found {text[:60]!r}); write it as '{{\"key\": value}}'")
    return found


def _explain(cls: type[BaseModel], error: Any) -> str:
    path = [str(part) for part in error["loc"]]
    where = ".".join(path)
    if error["type"] == "extra_forbidden":
        valid = _valid_keys(cls, path[:-1])
        return f"unknown key '{where}'; {nearest(path[-1], valid)}"
    if error["type"] == "missing":
        return f"key '{where}' is missing; add it"
    return f"key '{where}': {error['msg']} (found {error['input']!r})"


def _valid_keys(cls: type[BaseModel], path: list[str]) -> list[str]:
    """Keys of the class that a location of a pydantic error points into."""
    kinds: list[Any] = [cls]
    for part in path:
        following: list[Any] = []
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                if part in kind.model_fields:
                    following += _classes(kind.model_fields[part].annotation)
                else:  # a key of a mapping, an index of a list, a tag of a union
                    following.append(kind)
        kinds = following or kinds
    return sorted({key for kind in kinds for key in kind.model_fields})


def _classes(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [found for argument in typing.get_args(annotation) for found in _classes(argument)]


class _Loader(yaml.SafeLoader):
    """YAML without tags that run code, in which a key that stands twice is an error and not the last one's value."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping, once its keys differ."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    problem = f"key '{key.value}' stands twice; name it once"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_yaml(path: Path) -> Any:
    """Read a YAML file; a missing or malformed one, or one with a key twice, is an error that names it."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        valid = sorted(p.stem for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        hint = nearest(path.stem, valid) if valid else "check the path"
        raise MmreproError(f"{path}: no such file; {hint}") from None
    except UnicodeDecodeError:
        raise MmreproError(f"{path}: not UTF-8; save it as such") from None
    except (IsADirectoryError, NotADirectoryError):
        raise MmreproError(f"{path}: no file; name a file below it") from None
    except (ValueError, RecursionError, OverflowError) as error:  # impossible dates, numbers of thousands of digits
        raise MmreproError(f"{path}: a value that cannot be read ({' '.join(str(error).split())[:99]})") from None
    except yaml.YAMLError as error:
        raise MmreproError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None


def load(cls: type[T], path: Path) -> T:
    """Read and validate one configuration file."""
    return validate(cls, load_yaml(path), str(path))


def load_dataset(path: Path) -> DatasetConfig:
    """Read a data set's file, or derive `<data set>--<split kind>.yaml` from the file of the data set.

    Parameters
    ----------
    path
        `config/datasets/<id>.yaml`; need not exist for a derived id.

    Raises
    ------
    MmreproError
        For an unknown id or split kind, a malformed file, or a file whose `dataset` is not its name.
    """
    base, separator, kind = path.stem.partition("--")
    if path.is_file() or not separator:
        config = load(DatasetConfig, path)
        if config.dataset != path.stem:
            raise MmreproError(f"{path}: `dataset: {config.dataset}` is not the file's name; make them the same")
        return config
    kinds = [name for name in typing.get_args(SplitKind) if name != "published"]
    if kind not in kinds:
        raise MmreproError(f"data set '{path.stem}': no split kind '{kind}'; {nearest(kind, kinds)}")
    config = load_dataset(path.with_stem(base))
    counts = {"users": config.expected.users, "items": config.expected.items}
    changes = {
        "dataset": path.stem,
        "raw": config.raw_name,
        "split": config.split.model_copy(update={"kind": kind}),
        "expected": Expected(**counts),
        "literature_split": None,
    }
    return config.model_copy(update=changes)


def load_feature_set(path: Path) -> FeatureSetConfig:
    """Read a feature set's file, or derive `<feature set>--<change>` from the file of the feature set.

    Parameters
    ----------
    path
        `config/features/<id>.yaml`; does not exist for a derived id. `config.features.CHANGES` lists the changes.

    Raises
    ------
    MmreproError
        For an unknown change, a malformed file, or a file whose `feature_set` is not its name.
    """
    if DERIVED in path.stem:
        return _derived(path)
    config = load(FeatureSetConfig, path)
    if config.feature_set != path.stem:
        raise MmreproError(f"{path}: `feature_set: {config.feature_set}` is not the file's name; make them the same")
    return config


def _derived(path: Path) -> FeatureSetConfig:
    """The feature set that a name with a change stands for."""
    name = FeatureSetName.parse(path.stem)
    config = load_feature_set(path.with_stem(name.base))
    change = path.stem.removeprefix(f"{name.base}{DERIVED}")
    valid = [*(f"only-{modality}" for modality in config.modalities), "shuffled", "noise", "masked-50"]
    if change not in valid and not re.fullmatch(r"masked-[1-9][0-9]?", change):
        raise MmreproError(
            f"feature set '{path.stem}': no change '{change}' ({', '.join(CHANGES)}); {nearest(change, valid)}"
        )
    if name.kind == "masked" and len(config.sources) < 2:
        raise MmreproError(f"feature set '{path.stem}': '{name.base}' must have two modalities to lose one")
    alone = {name.argument: config.modalities[name.argument]} if name.kind == "only" else config.modalities
    return config.model_copy(update={"feature_set": path.stem, "modalities": alone})
