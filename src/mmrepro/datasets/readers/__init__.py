"""One module a source format, found by its name; each has `read(raw, config)`, and `generate` where files are made."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from mmrepro.config.base import nearest
from mmrepro.config.dataset import DatasetConfig
from mmrepro.errors import MmreproError


def load_reader(config: DatasetConfig) -> ModuleType:
    """Import the reader that a data set names.

    Parameters
    ----------
    config
        The data set; `reader` is the name of a module in this package.

    Returns
    -------
    ModuleType
        Has `read(raw: Path, config: DatasetConfig) -> RawDataset` and perhaps
        `generate(config: DatasetConfig, output: Path) -> list[str]`.

    Raises
    ------
    MmreproError
        For an unknown name; lists the readers there are.
    """
    modules = [module.name for module in pkgutil.iter_modules(__path__)]
    valid = sorted(name for name in modules if not name.endswith("_world"))
    if config.reader not in valid:
        raise MmreproError(
            f"config/datasets/{config.dataset}.yaml: unknown reader '{config.reader}'; "
            f"{nearest(config.reader, valid)} (readers: {', '.join(valid)})"
        )
    return importlib.import_module(f"{__name__}.{config.reader}")
