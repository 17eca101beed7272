"""Somebody's own files: what is guessed of them, what is written, and what is asked when it cannot be told."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml
from awkward_shops import camel_shop, german_shop, pairs, utf16_shop

from mmrepro.config.files import load_dataset, load_feature_set
from mmrepro.datasets.guesses import Table, named, time_format
from mmrepro.datasets.readers.tabular import read
from mmrepro.errors import MmreproError
from mmrepro.housekeeping.newcomer import init


def written(root: Path, name: str = "shop") -> dict:
    return yaml.safe_load((root / f"config/datasets/{name}.yaml").read_text())


def begun(root: Path, files: list[Path], **given: str) -> str:
    tables = [path for path in files if path.is_file()]
    images = next((path for path in files if path.is_dir()), None)
    return init("shop", tables[0], tables[1] if len(tables) > 1 else None, images, root, given)


def test_a_german_shop_is_read_whole(tmp_path: Path) -> None:
    said = begun(tmp_path, german_shop(tmp_path / "files"))
    options = written(tmp_path)["options"]
    assert (
        options["user_column"] == "Kunden-ID" and options["item_column"] == "Artikel" and options["key_column"] == "Nr"
    )
    assert options["item_keys"] == "normalised" and options["timestamp_column"] == "Datum"
    assert options["timestamp_format"] == "%d.%m.%Y %H:%M" and options["rating_column"] == "Sterne"
    assert options["title_column"] == "Bezeichnung" and options["text_columns"] == ["Bezeichnung", "Beschreibung"]
    assert options["markup"] == "strip" and options["images_folder"] == "Bilder"
    config = load_dataset(tmp_path / "config/datasets/shop.yaml")
    data = read(tmp_path / "data/mirror/shop", config)
    assert len(data.interactions) == len(pairs()) and data.items["image"].notna().all()
    assert "jarra & taza Nr 5" in set(data.items["title"]) and "mug Nr 6" in set(data.items["title"])
    assert config.split.kind == "time-per-user" and "as data set shop--global-time" in said
    features = load_feature_set(tmp_path / "config/features/shop.yaml")
    assert list(features.modalities) == ["image", "text"]
    study = yaml.safe_load((tmp_path / "config/studies/shop.yaml").read_text())
    assert "cm3" in study["models"] and study["features"] == {"default": "shop"}


def test_numbers_for_keys_and_milliseconds(tmp_path: Path) -> None:
    said = begun(tmp_path, camel_shop(tmp_path / "files"))
    options = written(tmp_path)["options"]
    assert options["user_column"] == "customerId" and options["item_column"] == "productId"
    assert options["timestamp_column"] == "createdAt" and "timestamp_format" not in options
    assert not (tmp_path / "config/features/shop.yaml").exists() and "next: make STUDY=shop" in said


def test_names_that_say_little_are_told_by_the_keys_that_both_tables_share(tmp_path: Path) -> None:
    begun(tmp_path, utf16_shop(tmp_path / "files"))
    options = written(tmp_path)["options"]
    assert (options["user_column"], options["item_column"], options["key_column"]) == ("member", "code", "ref")
    assert (options["title_column"], options["image_column"]) == ("what it is", "link")
    assert load_dataset(tmp_path / "config/datasets/shop.yaml").split.kind == "random-per-user"


def write(folder: Path, text: str, name: str = "orders.csv") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


ROWS = "".join(f"u{user},i{item},0{1 + item % 9}/0{1 + user % 9}/2024\n" for user, item in pairs())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n" + ROWS.replace(",0", ";0"), "which column is the user? Its names are a, b; say --user-column NAME"),
        ("user,day\nx,1\n", "which column is the item?"),
        ("user item\nx y\n", "one column only, 'user item'"),
        ("user,item,day\n" + ROWS, 'can be read as "%d/%m/%Y" or "%m/%d/%Y"; say --timestamp-format'),
    ],
)
def test_what_cannot_be_told_is_asked_and_nothing_is_left(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "files", text)
    with pytest.raises(MmreproError) as error:
        begun(tmp_path, [path])
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "data").exists() and not (tmp_path / "config").exists()


def test_what_is_told_is_not_guessed(tmp_path: Path) -> None:
    path = write(tmp_path / "files", "a,b,when\n" + ROWS)
    begun(tmp_path, [path], user_column="a", item_column="b", timestamp_format="%m/%d/%Y")
    options = written(tmp_path)["options"]
    assert (options["user_column"], options["item_column"], options["timestamp_format"]) == ("a", "b", "%m/%d/%Y")


def test_a_name_that_is_taken_or_no_name_is_refused(tmp_path: Path) -> None:
    files = camel_shop(tmp_path / "files")
    begun(tmp_path, files)
    with pytest.raises(MmreproError, match=r"config/datasets/shop\.yaml: is there already"):
        begun(tmp_path, files)
    for name in ("My Shop", "a--b", "../x", ""):
        with pytest.raises(MmreproError, match="small letters, digits and single hyphens"):
            init(name, files[0], None, None, tmp_path, {})


def test_too_few_interactions_are_refused(tmp_path: Path) -> None:
    rows = "".join(f"u{n},i{n % 3}\nu{n},i{(n + 1) % 3}\n" for n in range(30))
    path = write(tmp_path / "files", "user,item\n" + rows)
    with pytest.raises(MmreproError, match="nobody can be tested: no user has more than 2 items, and 3 are needed"):
        begun(tmp_path, [path])
    assert not (tmp_path / "data/mirror/shop").exists()


def test_a_day_of_the_month_is_no_time_and_what_is_not_used_is_said(tmp_path: Path) -> None:
    rows = "".join(f"u{user},i{item},{1 + item % 12},{1 + user % 28}\n" for user, item in pairs())
    said = begun(tmp_path, [write(tmp_path / "files", "user,item,month,day\n" + rows)])
    assert "timestamp_column" not in written(tmp_path)["options"]
    assert "not used of orders.csv: month, day" in said


def test_times_of_two_units_are_refused_before_they_are_counted(tmp_path: Path) -> None:
    rows = "".join(f"u{u},i{i},{1_700_000_000 * (1000 if i % 2 else 1) + u}\n" for u, i in pairs())
    path = write(tmp_path / "files", "user,item,ts\n" + rows)
    with pytest.raises(MmreproError, match="seconds"):
        begun(tmp_path, [path])
    assert not (tmp_path / "data/mirror/shop").exists()


def test_two_columns_that_say_when_are_asked_about(tmp_path: Path) -> None:
    rows = "".join(f"u{user},i{item},2024-03-01,2024-03-0{1 + item % 9}\n" for user, item in pairs())
    path = write(tmp_path / "files", "user,item,event_time,order_date\n" + rows)
    with pytest.raises(MmreproError, match="both say when; say which with --timestamp-column"):
        begun(tmp_path, [path])


def test_a_column_that_is_none_is_not_taken(tmp_path: Path) -> None:
    rows = "".join(f"u{user},i{item},2024-03-01,3\n" for user, item in pairs())
    path = write(tmp_path / "files", "user,item,order_date,rating\n" + rows)
    said = begun(tmp_path, [path], timestamp_column="none", rating_column="none")
    assert not {"timestamp_column", "rating_column"} & written(tmp_path)["options"].keys()
    assert "not used of orders.csv: order_date, rating" in said


@pytest.mark.parametrize(
    ("heading", "bad", "good", "message"),
    [
        ("order_date", "gestern", "2024-03-01", "'gestern' is no date that can be read; mend it"),
        ("order_date", "1st of May 2024", "3rd of May 2024", "is no date that can be read"),
        ("rating", "n/a", "4", "'n/a' is no number that can be read; mend it, or say --rating-column none"),
    ],
)
def test_a_damaged_column_is_refused_and_not_left_out(
    tmp_path: Path, heading: str, bad: str, good: str, message: str
) -> None:
    rows = [f"u{user},i{item},{good}\n" for user, item in pairs()]
    rows[7] = rows[7].replace(good, bad)
    path = write(tmp_path / "files", f"user,item,{heading}\n" + "".join(rows))
    with pytest.raises(MmreproError, match=message):
        begun(tmp_path, [path])
    begun(tmp_path, [path], **{{"order_date": "timestamp_column"}.get(heading, "rating_column"): "none"})


@pytest.mark.parametrize("form", ["%d.%m.%y", "%d. %B %Y", "%Y/%m/%d %I:%M %p", "%d/%m/%y %H:%M"])
def test_dates_as_people_write_them_are_read(tmp_path: Path, form: str) -> None:
    days = pd.date_range("2024-03-03", periods=len(pairs()), freq="11h")
    rows = "".join(f'u{user},i{item},"{day.strftime(form)}"\n' for (user, item), day in zip(pairs(), days, strict=True))
    begun(tmp_path, [write(tmp_path / "files", "user,item,date\n" + rows)])
    assert written(tmp_path)["options"]["timestamp_format"] == form


def test_guests_are_left_out_where_that_is_said(tmp_path: Path) -> None:
    rows = "".join(f"{user or ''},i{item}\n" for user, item in pairs())  # user 0 has no name
    path = write(tmp_path / "files", "user,item\n" + rows)
    with pytest.raises(MmreproError, match=r"orders\.csv: line \d+, column 'user' is empty; .*say --empty-users drop"):
        begun(tmp_path, [path])
    begun(tmp_path, [path], empty_users="drop")
    data = read(tmp_path / "data/mirror/shop", load_dataset(tmp_path / "config/datasets/shop.yaml"))
    assert data.repairs["rows_without_user"] == sum(user == 0 for user, _ in pairs()) > 0
    assert len(data.interactions) == sum(user != 0 for user, _ in pairs())


def test_a_folder_without_a_picture_of_an_item_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "files", "user,item\n" + "".join(f"u{user},i{item}\n" for user, item in pairs()))
    (tmp_path / "files/empty").mkdir()
    with pytest.raises(MmreproError, match="no picture in it is named after the key of an item, such as 'i"):
        begun(tmp_path, [path, tmp_path / "files/empty"])


def test_a_readers_errors_speak_of_the_files_and_options_that_were_asked_for(tmp_path: Path) -> None:
    rows = "".join(f"u{user},i{item},sometime\n" for user, item in pairs())
    path = write(tmp_path / "files", "user,item,order\n" + rows)
    with pytest.raises(MmreproError) as error:
        begun(tmp_path, [path], timestamp_column="order")
    assert str(error.value).startswith(f"{path}: line 2, column 'order': 'sometime'")
    assert str(error.value).endswith("mend the line, or say --timestamp-format")


def test_of_columns_that_hold_the_same_keys_the_one_so_called_is_taken(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    orders = write(folder, "user,quantity,product\n" + "".join(f"u{u},{1 + i % 3},{1 + i}\n" for u, i in pairs()))
    items = write(folder, "id,name\n" + "".join(f"{1 + i},a thing {i}\n" for i in range(24)), "items.csv")
    begun(tmp_path, [orders, items])
    assert written(tmp_path)["options"]["item_column"] == "product"


def test_one_column_cannot_be_both(tmp_path: Path) -> None:
    path = write(tmp_path / "files", "visitor,thing\n" + "".join(f"u{u},i{i}\n" for u, i in pairs()))
    with pytest.raises(MmreproError, match="'visitor' cannot be user and item"):
        begun(tmp_path, [path], user_column="visitor", item_column="visitor")


def test_wrong_columns_are_known_by_how_few_pairs_they_make(tmp_path: Path) -> None:
    rows = "".join(f"{n % 2},{n % 5},{n}\n" for n in range(2000))
    path = write(tmp_path / "files", "a,b,c\n" + rows)
    with pytest.raises(MmreproError, match="2000 rows are 10 pairs of user and item only"):
        begun(tmp_path, [path], user_column="a", item_column="b")


def test_rows_added_to_the_file_are_seen(tmp_path: Path) -> None:
    path = write(tmp_path / "files", "user,item\n" + "".join(f"u{user},i{item}\n" for user, item in pairs()))
    begun(tmp_path, [path])
    with path.open("a") as handle:
        handle.write("u1,i999\n")
    assert (tmp_path / "data/mirror/shop/orders.csv").read_text().endswith("u1,i999\n")


@pytest.mark.parametrize(
    ("columns", "holds", "found"),
    [
        (["item_id", "userId"], "user", ["userId"]), (["CustomerName", "customer"], "user", ["customer"]),
        (["updated", "date"], "time", ["date"]), (["username"], "user", []), (["noted", "note"], "rating", ["note"]),
        (["session_id", "user_agent", "buyer"], "user", ["buyer", "session_id"]),
        (["item_price", "sku", "item_count"], "item", ["sku"]), (["user_name", "uid"], "user", ["uid"]),
        (["customer_type", "cust_no"], "user", ["cust_no"]), (["item_category", "article_no"], "item", ["article_no"]),
        (["last_update_time", "order_date"], "time", ["order_date"]), (["birth_date", "ts"], "time", ["ts"]),
        (["delivery_time", "ordered_on"], "time", ["ordered_on"]), (["Bestelldatum"], "time", ["Bestelldatum"]),
    ],
)  # fmt: skip
def test_columns_are_known_by_whole_words(tmp_path: Path, columns: list[str], holds: str, found: list[str]) -> None:
    table = Table(tmp_path, pd.DataFrame({name: ["1"] for name in columns}), ",")
    assert named(table, holds) == found


@pytest.mark.parametrize(
    ("values", "form"),
    [
        (["2024-03-01", "2024-03-02T10:00:00Z"], None), (["1700000000", "1700000001"], None),
        (["31.12.2023"], "%d.%m.%Y"), (["12/31/2023 10:00"], "%m/%d/%Y %H:%M"), (["20240301", "20231231"], "%Y%m%d"),
        (["3 Mar 2024"], "%d %b %Y"), (["yesterday"], None),
    ],
)  # fmt: skip
def test_forms_of_dates(tmp_path: Path, values: list[str], form: str | None) -> None:
    assert time_format(Table(tmp_path, pd.DataFrame({"day": values}), ","), "day")[0] == form
