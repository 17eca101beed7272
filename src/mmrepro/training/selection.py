"""Choice of hyper-parameters from finished trials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmrepro.errors import MmreproError
from mmrepro.provenance import read_json, write_json

SELECTION_METRIC = "recall_at_20"


def select(trials: list[Path], searched: list[str], output: Path) -> None:
    """Write the winner of a search, and all trials with their values.

    The winner has the highest recall@20 on the split that the trials' protocol names (`select_on`), after rounding
    where the protocol rounds; the first in grid order wins ties.

    Parameters
    ----------
    trials
        Folders of finished trials, in grid order.
    searched
        Names of the searched parameters.
    output
        The selection file.

    Raises
    ------
    MmreproError
        When a trial is not finished.
    """
    records: list[dict[str, Any]] = []
    for folder in trials:
        if not (folder / "run.json").is_file():
            raise MmreproError(f"{folder}: this trial is not finished; run the workflow again to complete it")
        records.append(read_json(folder / "run.json"))
    protocol = records[0]["protocol"]
    split, digits = protocol["select_on"], protocol["round_digits"]
    values = [record[split][SELECTION_METRIC] for record in records]
    if digits is not None:
        values = [round(value, digits) for value in values]
    winner = max(range(len(values)), key=lambda index: (values[index], -index))
    rows = [
        {
            "parameters": {key: r["parameters"][key] for key in searched},
            "value": v,
            "epochs": r["epochs"],
            "run": folder.as_posix(),
        }
        for r, v, folder in zip(records, values, trials, strict=True)
    ]
    write_json(
        output,
        {
            "parameters": rows[winner]["parameters"],
            "select_on": split,
            "metric": SELECTION_METRIC,
            "value": values[winner],
            "n_trials": len(rows),
            "trials": rows,
        },
    )
