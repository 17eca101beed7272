import functools
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import yaml
from checkout import copy_project
from PIL import Image

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
