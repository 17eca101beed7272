import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import yaml
from checkout import copy_project
from PIL import Image

WORDS = {
    "fetch": "fetch shop,",
    "prepare": "prepare shop:",
    "train": "train popularity on shop",
    "tables": "build tables,",
}
"""What the screen says of a finished job."""
pytestmark = pytest.mark.slow

N_USERS, N_ITEMS = 12, 8
DATASET = {
    "dataset": "shop", "title": "My shop", "reader": "tabular", "folder": "shop", "licence": "my own",
    "files": [{"name": "purchases.csv"}, {"name": "products.csv"}],
    "images": {"private_addresses": True}, "drop_items_without": ["image"],
    "options": {
        "interactions_file": "purchases.csv", "items_file": "products.csv", "title_column": "name",
        "image_column": "picture",
    },
}  # fmt: skip
TABLE = "results/shop/tables/main.md"
STUDY = {"study": "shop", "title": "My shop", "datasets": ["shop"], "models": ["popularity"]}


@contextmanager
def served(folder: Path) -> Iterator[str]:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_own_tables_and_downloaded_images_become_a_study(tmp_path: Path) -> None:
    """Everybody buys five items in turn; one picture of eight is no image, and its item leaves."""
    checkout = copy_project(tmp_path / "checkout")
    (tmp_path / "pictures").mkdir()
    for item in range(N_ITEMS):
        Image.new("RGB", (32, 32), (30 * item, 90, 90)).save(tmp_path / f"pictures/{item}.png")
    (tmp_path / "pictures/3.png").write_text("<html>gone</html>")
    shop = tmp_path / "mirror/shop"
    shop.mkdir(parents=True)
    pairs = [(f"u{user}", f"p{(user + step) % N_ITEMS}") for user in range(N_USERS) for step in range(5)]
    pd.DataFrame(pairs, columns=["user", "item"]).to_csv(shop / "purchases.csv", index=False)
    (checkout.folder / "config/datasets/shop.yaml").write_text(yaml.safe_dump(DATASET))
    (checkout.folder / "config/studies/shop.yaml").write_text(yaml.safe_dump(STUDY))
    with served(tmp_path / "pictures") as address:
        rows = [(f"p{item}", f"thing {item}", f"{address}/{item}.png") for item in range(N_ITEMS)]
        pd.DataFrame(rows, columns=["item", "name", "picture"]).to_csv(shop / "products.csv", index=False)
        result = checkout.snakemake(TABLE, "--quiet", "rules", study="shop", MMREPRO_MIRROR=str(tmp_path / "mirror"))
    assert result.returncode == 0, result.stdout + result.stderr
    items = pd.read_parquet(checkout.folder / "data/prepared/shop/items.parquet")
    assert sorted(items["key"]) == [f"p{item}" for item in range(N_ITEMS) if item != 3]
    assert "shop: 1 image" in (checkout.folder / TABLE).read_text()
    assert checkout.planned(TABLE, study="shop") == []


def test_rows_added_in_the_mirror_are_used_by_the_next_run(tmp_path: Path) -> None:
    """What lies outside the graph is a part of it: once the next run said that nothing was to be done."""
    checkout, mirror = copy_project(tmp_path / "checkout"), tmp_path / "mirror"
    orders = mirror / "shop/purchases.csv"
    orders.parent.mkdir(parents=True)
    pairs = [(f"u{user}", f"p{(user + step) % N_ITEMS}") for user in range(N_USERS) for step in range(4)]
    pd.DataFrame(pairs, columns=["user", "item"]).to_csv(orders, index=False)
    dataset = {key: value for key, value in DATASET.items() if key not in ("images", "drop_items_without")}
    dataset |= {"files": [{"name": orders.name}], "options": {"interactions_file": orders.name}}
    (checkout.folder / "config/datasets/shop.yaml").write_text(yaml.safe_dump(dataset))
    (checkout.folder / "config/studies/shop.yaml").write_text(yaml.safe_dump(STUDY))

    def rows_read(*planned: str) -> int:
        """Rows of the report after a run that makes these stages, among others; without any it makes nothing."""
        result = checkout.snakemake(study="shop", MMREPRO_MIRROR=str(mirror))
        said = result.stdout + result.stderr
        assert result.returncode == 0, said
        assert all(f"  {WORDS[stage]}" in said for stage in planned), said
        assert ("Nothing to be done" in said) == (not planned)
        report = pd.read_csv(checkout.folder / "results/shop/tables/data_report.csv")
        return int(report.loc[report["what"] == "rows read", "count"].iloc[0])

    assert rows_read("fetch", "prepare", "train", "tables") == 48
    with orders.open("a") as handle:
        handle.writelines(f"u{user},p{(user + 5) % N_ITEMS}\n" for user in range(N_USERS))
    doctor = checkout.call("mmrepro", "doctor", "shop", MMREPRO_MIRROR=str(mirror)).stdout
    assert "older than the mirror's files" in doctor
    assert rows_read("fetch", "prepare", "train", "tables") == 60
    orders.touch()
    assert rows_read() == 60
    assert checkout.planned(study="shop") == []  # no mirror to look at
    orders.write_text(orders.read_text() + "u0,p7\n")
    shutil.rmtree(checkout.folder / "data/raw/shop")
    assert rows_read("fetch", "prepare", "train", "tables") == 61
    assert checkout.call("mmrepro", "fetch", "shop", MMREPRO_MIRROR=str(mirror)).returncode == 0
    assert rows_read() == 61
