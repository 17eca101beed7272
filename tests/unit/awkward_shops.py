"""Three shops as people have them: what `mmrepro init` is to make a study of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

WORDS = (
    "Teekanne",
    "чайник",
    "急須",
    "إبريق",
    "théière",
    "jarra &amp; taza",
    "<b>mug</b>",
    "🫖 pot",
    "cup",
    "O'Neill \u201cbig\u201d",
)


def pairs(n_users: int = 40, n_items: int = 24, seed: int = 3) -> list[tuple[int, int]]:
    """Users like one of two halves of the items."""
    rng = np.random.default_rng(seed)
    found = []
    for user in range(n_users):
        liking = np.where(np.arange(n_items) % 2 == user % 2, 6.0, 1.0)
        found += [(user, int(item)) for item in rng.choice(n_items, size=8, replace=False, p=liking / liking.sum())]
    return found


def german_shop(folder: Path) -> list[Path]:
    """Semicolons, a spreadsheet's mark, days first, keys with zeros on one side alone, entities, many scripts, pictures
    of several kinds in folders.
    """
    folder.mkdir(parents=True)
    rows = [
        {"Bestellnr": 1000 + n, "Kunden-ID": f"{user:04d}", "Artikel": f"{item:06d}", "Datum": f"{1 + n % 28:02d}.{1 + n % 12:02d}.2024 {n % 24:02d}:05",
         "Sterne": f"{1 + n % 5},5"}
        for n, (user, item) in enumerate(pairs())
    ]  # fmt: skip
    orders, items, images = folder / "Bestellungen.csv", folder / "Artikel.csv", folder / "Bilder"
    orders.write_bytes(pd.DataFrame(rows).to_csv(index=False, sep=";", lineterminator="\r\n").encode("utf-8-sig"))
    described = [
        {
            "Nr": str(item),
            "Bezeichnung": f"{WORDS[item % len(WORDS)]} Nr {item}",
            "Beschreibung": f"schön &amp; gut, {item} cm",
        }
        for item in range(24)
    ]
    items.write_bytes(pd.DataFrame(described).to_csv(index=False, sep=";").encode("utf-8-sig"))
    (images / "a").mkdir(parents=True)
    for item in range(24):
        kind = ("png", "jpg", "webp", "JPG")[item % 4]
        colour = (200, 30, 30) if item % 2 else (30, 30, 200)
        picture = Image.new("RGBA" if kind == "png" else "RGB", (40 + item, 30), colour)
        picture.save(
            images / ("a" if item % 3 else "") / f"{item:06d}.{kind}", format="JPEG" if kind == "JPG" else None
        )
    return [orders, items, images]


def camel_shop(folder: Path) -> list[Path]:
    """Parquet with numbers for keys, camel case, milliseconds, no table of items."""
    folder.mkdir(parents=True)
    rows = [
        {"sessionId": 7, "customerId": user, "productId": 10_000 + item, "createdAt": 1_700_000_000_000 + 3_600_000 * n, "overall": float(1 + n % 5)}
        for n, (user, item) in enumerate(pairs(seed=5))
    ]  # fmt: skip
    path = folder / "events.parquet"
    pd.DataFrame(rows).to_parquet(path, index=False)
    return [path]


def utf16_shop(folder: Path) -> list[Path]:
    """UTF-16, tabs in a file called csv, names of columns that say little, no times."""
    folder.mkdir(parents=True)
    orders, items = folder / "export.csv", folder / "catalogue.csv"
    table = pd.DataFrame([(f"u{user}", f"SKU/{item}") for user, item in pairs(seed=9)], columns=["member", "code"])
    orders.write_bytes(table.to_csv(index=False, sep="\t").encode("utf-16"))
    described = [
        (f"SKU/{item}", f"{WORDS[item % len(WORDS)]} {item}", f"https://example.org/{item}.jpg") for item in range(24)
    ]
    table = pd.DataFrame(described, columns=["ref", "what it is", "link"])
    items.write_text(table.to_csv(index=False), encoding="utf-8")
    return [orders, items]
