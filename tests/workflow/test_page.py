"""The page of a study, in a real browser, opened from disk."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from checkout import Checkout

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
LARGEST, SLOWEST = 10 * 2**20, 2000
SERIOUS = ("serious", "critical")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; install Debian's package chromium"),
]


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


@pytest.fixture(scope="module")
def file(finished: Checkout) -> Path:
    return finished.folder / "results/smoke/report/index.html"


@pytest.fixture(params=["wide", "narrow"])
def page(request: pytest.FixtureRequest, browser, file: Path) -> Iterator:
    size = {"wide": {"width": 1280, "height": 900}, "narrow": {"width": 390, "height": 844}}[request.param]
    context = browser.new_context(viewport=size, color_scheme="dark" if request.param == "narrow" else "light")
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened, problems = context.new_page(), []
    opened.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("request", lambda asked: problems.append(asked.url) if asked.url.startswith("http") else None)
    opened.goto(file.as_uri())
    opened.wait_for_selector(".dt-container")
    yield opened
    assert problems == []  # no error, and nothing was asked of a network
    context.close()


def models(page) -> list[str]:
    return page.locator("#main tbody th").all_inner_texts()


def test_it_is_small_opens_at_once_and_never_scrolls_sideways(page, file: Path) -> None:
    assert file.stat().st_size < LARGEST
    assert page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") < SLOWEST
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_main_table_is_sorted_and_filtered(page, finished: Checkout) -> None:
    main = pd.read_csv(finished.folder / "results/smoke/tables/main.csv", keep_default_na=False)
    rows = main[main["split"].eq("test") & main["metric"].eq("recall") & main["k"].eq(20)]
    assert len(models(page)) == len(rows) == 2
    from playwright.sync_api import expect

    heading = page.locator("#main thead th", has_text="R@20")
    rising = [{"lightgcn": "LightGCN", "cm3": "CM3"}[name] for name in rows.sort_values("mean")["model"]]
    for sorting, order in (("ascending", rising), ("descending", rising[::-1])):
        heading.click()
        expect(heading).to_have_attribute("aria-sort", sorting)
        assert models(page) == order
    page.get_by_label("Filter").fill("cm3")
    assert models(page) == ["CM3"]


def test_a_number_leads_to_its_runs(page, finished: Checkout) -> None:
    link = page.locator("#main tbody tr", has_text="CM3").locator("a").first
    value = link.inner_text()
    link.click()
    opened = page.locator("#runs details[open]")
    assert opened.count() == 1 and "CM3" in opened.locator("summary").inner_text()
    text = opened.locator("pre").inner_text()
    folder = re.search(r"results/runs/\S+/cm3/\S+", text)
    assert value in text and folder is not None and (finished.folder / folder[0] / "run.json").is_file()
    assert "again: snakemake --cores all --configfile config/studies/smoke.yaml -- results/runs/" in text
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"


def test_pictures_and_the_gallery_load(page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(found => { found.open = true })")
    page.wait_for_function("[...document.images].every(image => image.complete)")
    assert page.evaluate("[...document.images].filter(image => !image.naturalWidth).length") == 0
    assert page.locator("#pictures figure").count() >= 7
    assert page.locator("#gallery .item").count() > 50 and page.locator("#gallery .hit strong").count() > 0
    sizes = page.locator("#gallery .picture:not(.blank)").evaluate_all(
        """found => Promise.all(found.slice(0, 40).map(async (picture) => {
            const image = new Image();
            image.src = getComputedStyle(picture).backgroundImage.slice(5, -2);
            await image.decode();
            return image.naturalWidth;
        }))"""
    )
    assert len(sizes) == 40 and min(sizes) > 20
    assert all(page.locator("#pictures img").evaluate_all("images => images.map(image => image.alt.length > 20)"))


def test_a_table_is_copied_as_latex(page) -> None:
    page.get_by_role("button", name="Copy main as LaTeX").click()
    page.wait_for_function("document.querySelector('#numbers .copies').innerText.includes('Copied')")
    assert "\\begin{tabular}" in page.evaluate("navigator.clipboard.readText()")


def test_an_accessibility_scan_finds_nothing_serious(page) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page.evaluate("document.querySelectorAll('details').forEach(found => { found.open = true })")
    found = Axe().run(page).response["violations"]
    assert [(rule["id"], rule["nodes"][0]["html"]) for rule in found if rule["impact"] in SERIOUS] == []


def test_everything_can_be_reached_by_keyboard(page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    reached = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.tagName"))
    assert {"A", "BUTTON", "INPUT", "SUMMARY"} <= reached


def test_the_checklist_is_filled_from_the_records(page) -> None:
    text = page.locator("#checklist").inner_text()
    assert "commit" in text and "How many seeds?" in text and "derived from data set, model and seed" in text
