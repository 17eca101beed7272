"""Pages of the documentation that are generated from the package, its configuration files and committed results."""

from __future__ import annotations

from pathlib import Path

from generator import catalogue, commands, keys, models, results


def pages(root: Path) -> dict[str, str]:
    """Return the generated fragments by file name.

    Parameters
    ----------
    root
        Folder of the repository.

    Returns
    -------
    dict
        File name below `docs/generated` to Markdown.
    """
    return {
        "models.md": models.fragment(root),
        "commands.md": commands.fragment(),
        "keys.md": keys.fragment(root),
        "datasets.md": catalogue.datasets(root),
        "features.md": catalogue.feature_sets(root),
        "studies.md": catalogue.studies(root),
        "results.md": results.fragment(root),
    }


def write_all(root: Path, output: Path) -> None:
    """Write all fragments; a file whose content stands already is left alone, so that Sphinx does not read it again."""
    output.mkdir(parents=True, exist_ok=True)
    for name, text in pages(root).items():
        path = output / name
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)
