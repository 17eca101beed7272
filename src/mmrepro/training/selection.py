"""Choice of hyper-parameters from finished trials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmrepro.errors import MmreproError
from mmrepro.records.files import read_json, write_json


def select(trials: list[Path], searched: list[str], output: Path) -> None:
    """Write the winner of a search, and all trials with their values.

    The winner has the highest value of the watched metric on the split that the trials' protocol names (`select_on`),
    after rounding where the protocol rounds; the first that was tried wins ties.

    Parameters
    ----------
    trials
        Folders of finished trials, in the order tried.
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
    split = records[0]["protocol"]["select_on"]
    values = [judged(record) for record in records]
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
            "metric": records[0]["watch"],
            "value": values[winner],
            "n_trials": len(rows),
            "trials": rows,
        },
    )


def judged(record: dict[str, Any]) -> float:
    """Return the value by which a finished trial is compared: the watched metric, rounded where its protocol rounds."""
    protocol = record["protocol"]
    value = float(record[protocol["select_on"]][record["watch"]])
    return value if protocol["round_digits"] is None else round(value, protocol["round_digits"])
