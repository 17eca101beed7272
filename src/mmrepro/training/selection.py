"""Choice of hyper-parameters from finished trials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmrepro.errors import MmreproError
from mmrepro.records.files import read_object, write_record


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
        When a trial is not finished, or its record lacks what is compared.
    """
    records = [_finished(folder) for folder in trials]
    rows = [_row(folder, record, searched) for folder, record in zip(trials, records, strict=True)]
    winner = max(range(len(rows)), key=lambda index: (rows[index]["value"], -index))
    write_record(
        output,
        {
            "parameters": rows[winner]["parameters"],
            "select_on": records[0]["protocol"]["select_on"],
            "metric": records[0]["watch"],
            "value": rows[winner]["value"],
            "n_trials": len(rows),
            "trials": rows,
        },
    )


def _finished(folder: Path) -> dict[str, Any]:
    record = read_object(folder / "run.json")
    if record is None:
        raise MmreproError(f"{folder}: this trial is not finished; run the workflow again to complete it")
    return record


def _row(folder: Path, record: dict[str, Any], searched: list[str]) -> dict[str, Any]:
    """What is written of a trial."""
    try:
        return {
            "parameters": {key: record["parameters"][key] for key in searched},
            "value": judged(record),
            "epochs": record["epochs"],
            "run": folder.as_posix(),
        }
    except (KeyError, TypeError) as error:
        raise MmreproError(
            f"{folder / 'run.json'}: damaged ({error}); delete its folder and run the study again"
        ) from None


def judged(record: dict[str, Any]) -> float:
    """Return the value by which a finished trial is compared: the watched metric, rounded where its protocol rounds."""
    protocol = record["protocol"]
    value = float(record[protocol["select_on"]][record["watch"]])
    return value if protocol["round_digits"] is None else round(value, protocol["round_digits"])
