"""The viewer of slides in a browser, under its strict policy: what is seen at any depth, what is listed, what is said."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable

import numpy as np
import pytest
from browser import browser, page_at, violations
from PIL import Image

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from reading_page import served_page
from served_slides import COLOUR, LESIONS, MPP, PATCH, SIZE, shown_slides

WAIT = 30_000
HOSTILE = "<img src=x onerror=alert(1)>"
TOKEN = "a token of the test, long enough"
#: Whether all tiles in sight are there and nothing moves; a layer that is quite transparent asks for no tiles.
STILL = """(() => {
    const { world, viewport } = OpenSeadragon.getViewer(document.getElementById("deep")), items = [...Array(world.getItemCount()).keys()].map((at) => world.getItemAt(at));
    const here = viewport.getCenter(true), there = viewport.getCenter(false), zoom = viewport.getZoom(true) / viewport.getZoom(false);
    const layers = ["heat-map", "skipped"].filter((name) => document.getElementById(name === "skipped" ? "skipped-on" : "heat-on").checked && (name === "skipped" || !document.getElementById("heat").disabled));
    return items.length > 0 && items.every((item) => item.getOpacity() === 0 || item.getFullyLoaded()) && layers.every((name) => items.some((item) => item.overreadLayer === name))
        && Math.abs(zoom - 1) < 1e-4 && here.distanceTo(there) < 1e-5;
})()"""


@pytest.fixture(scope="module")
def opened():
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return shown_slides(tmp_path_factory.mktemp("slides"), name=HOSTILE)


@pytest.fixture(scope="module")
def address(reader, tmp_path_factory):
    with served_page(reader, tmp_path_factory.mktemp("scratch")) as url:
        yield url


@pytest.fixture
def page(opened, address):
    """The page with its first slide; a slide of the list is damaged, so that its small picture is refused."""
    with page_at(opened, address, refused=True) as found:
        found.set_default_timeout(WAIT)
        settled(found)
        yield found


def until(page, expression: str, also: Callable[[], object] = lambda: True) -> None:
    end = time.monotonic() + WAIT / 1000
    while not (page.evaluate(expression) and also()):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(40)


def settled(page) -> None:
    """Wait until the slide is there and nothing moves any more."""
    until(
        page,
        "document.getElementById('stage-words').textContent.includes('µm a pixel') && document.getElementById('stage-wait').hidden",
    )
    until(page, STILL)
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def pixels(page) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page.locator("#deep").screenshot())).convert("RGB")).astype(int)


def shown_of(page, colour=COLOUR) -> float:
    """The share of the stage in a colour."""
    return float((np.abs(pixels(page) - np.array(colour)).max(axis=2) < 25).mean())


def scale(page) -> float:
    """Microns of a pixel of the screen, by the words on the stage."""
    return float(re.search(r"([\d.]+) µm a pixel", page.inner_text("#stage-words"))[1])


def only_slide(page) -> None:
    for box in ("heat-on", "found-on", "outlined-on"):
        page.uncheck(f"#{box}")
    settled(page)


def test_the_slide_is_seen_where_it_is_at_any_depth(page):
    only_slide(page)
    mpp, (width, height) = (
        scale(page),
        page.evaluate("[document.getElementById('stage').clientWidth, document.getElementById('stage').clientHeight]"),
    )
    patch = (PATCH[2] - PATCH[0]) * MPP
    assert shown_of(page) == pytest.approx((patch / mpp) ** 2 / (width * height), rel=0.15)
    page.locator("#magnify button", has_text="10×").click()
    settled(page)
    assert scale(page) == pytest.approx(1.0, rel=0.01)
    assert "10.0×" in page.inner_text("#stage-words")
    page.click("#whole")
    settled(page)
    assert scale(page) == pytest.approx(mpp, rel=0.01)
    box = page.locator("#deep").bounding_box()
    left, top = (
        box["x"] + box["width"] / 2 - SIZE[0] * MPP / mpp / 2,
        box["y"] + box["height"] / 2 - SIZE[1] * MPP / mpp / 2,
    )
    page.mouse.move(left + 400 / mpp, top + 500 / mpp)
    x, y = (
        int(text.replace(",", ""))
        for text in re.search(r"x ([\d,]+) µm, y ([\d,]+) µm", page.inner_text("#stage-words")).groups()
    )
    assert (x, y) == (pytest.approx(400, abs=2.5 * mpp), pytest.approx(500, abs=2.5 * mpp))


def test_the_scale_bar_is_as_long_as_it_says(page):
    for _ in range(3):
        words, pixels_wide = (
            page.inner_text("#scale-words"),
            page.evaluate("document.getElementById('scale-line').getBoundingClientRect().width"),
        )
        number, unit = re.fullmatch(r"([\d.]+) (µm|mm)", words).groups()
        assert float(number) * (1000 if unit == "mm" else 1) / pixels_wide == pytest.approx(scale(page), rel=0.02)
        assert float(number) in {a * 10**b for a in (1, 2, 5) for b in range(4)}
        page.click("#zoom-in")
        settled(page)


def test_the_threshold_and_the_opacity_change_the_heat_map(page):
    page.uncheck("#found-on")
    page.uncheck("#outlined-on")
    settled(page)
    at_half = page.locator("#deep").screenshot()
    assert page.input_value("#threshold") == "500"
    assert "threshold of tuning slides is 0.500" in page.inner_text("#threshold-said")
    page.fill("#threshold", "900")
    page.wait_for_timeout(300)
    settled(page)
    at_most = pixels(page)
    assert page.locator("#deep").screenshot() != at_half
    assert page.inner_text("#lesions-words").startswith("1 of ")
    page.fill("#threshold", "200")
    page.wait_for_timeout(300)
    settled(page)
    assert page.inner_text("#lesions-words").startswith(f"{len(LESIONS)} of ")
    page.keyboard.press("h")
    settled(page)
    bare = pixels(page)
    page.keyboard.press("h")
    page.fill("#opacity", "0")
    settled(page)
    assert np.abs(pixels(page) - bare)[150:].max() < 12, "below the small picture, which is fitted anew"
    assert page.inner_text("#opacity-words") == "0 %"
    page.fill("#threshold", "900")
    page.wait_for_timeout(300)
    settled(page)
    page.fill("#opacity", "55")
    settled(page)
    assert np.abs(pixels(page) - at_most)[150:].max() < 12, "laid while it could not be seen, it is there when it can"
    assert np.abs(pixels(page) - bare)[150:].max() > 50


def test_lesions_are_gone_to_by_list_and_by_key(page):
    scores = [float(text.split("\n")[0]) for text in page.locator("#lesions .what").all_inner_texts()]
    assert scores == sorted(scores, reverse=True)
    assert scores == [pytest.approx(each, abs=0.004) for each in sorted(LESIONS.values(), reverse=True) if each >= 0.5]
    assert "on an outlined lesion" in page.inner_text("#lesions li:nth-child(1)")
    assert "on no outlined lesion" in page.inner_text("#lesions li:nth-child(2)")
    page.keyboard.press("n")
    settled(page)
    near = scale(page)
    assert near < 1.5
    for key, number in (("n", 2), ("n", 3), ("n", 1), ("p", 3)):
        page.keyboard.press(key)
        assert page.inner_text("#lesions [aria-current] .number") == str(number)
        assert page.inner_text("#said").startswith(f"Lesion {number}, score 0.")
    page.locator("#lesions li:nth-child(1) button").click()
    settled(page)
    only_slide(page)
    stage = pixels(page)
    assert np.abs(stage[stage.shape[0] // 2, stage.shape[1] // 2] - np.array(COLOUR)).max() < 25, (
        "the strongest lesion lies in the patch"
    )
    page.click("#people summary")
    page.locator("#people-list li:nth-child(2) button").click()
    assert "not judged" in page.inner_text("#people-list li:nth-child(2)")


def test_what_is_drawn_over_it_is_switched_by_keys(page):
    marks = "document.getElementById('marks').toDataURL()"
    for key, box in (("o", "outlined-on"), ("l", "found-on")):
        before = page.evaluate(marks)
        page.keyboard.press(key)
        assert not page.is_checked(f"#{box}")
        until(page, f"{marks} !== {before!r}")
    assert "outline" not in page.inner_text("#lesions")
    before = page.locator("#deep").screenshot()
    page.keyboard.press("s")
    page.wait_for_selector("#skipped-list li")
    settled(page)
    assert re.search(r"background \d+\.\d %", page.inner_text("#skipped-list"))
    assert page.locator("#deep").screenshot() != before


def test_a_keyboard_moves_and_zooms(page):
    page.focus("#deep .openseadragon-canvas")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    before = scale(page)
    page.keyboard.press("+")
    settled(page)
    assert scale(page) == pytest.approx(before / 1.5, rel=0.02)
    for key in ("ArrowRight", "ArrowDown", "Shift+ArrowLeft"):
        shown = page.locator("#deep").screenshot()
        page.keyboard.press(key)
        settled(page)
        assert page.locator("#deep").screenshot() != shown, key
    page.keyboard.press("0")
    settled(page)
    assert scale(page) == pytest.approx(before, rel=0.02)
    page.keyboard.press("?")
    assert page.is_visible("#keys")
    page.uncheck("#single")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert not page.is_visible("#keys")


def test_names_are_text_and_what_is_gone_or_damaged_is_said(page):
    assert page.inner_text("#slide-title") == HOSTILE
    assert page.locator("[onerror], [onload], img[src=x]").count() == 0
    assert page.locator("#slides .who").all_inner_texts() == [HOSTILE, "node-2", "node-3", "node-4"]
    page.keyboard.press("j")
    until(page, "document.getElementById('slide-title').textContent === 'node-2'")
    settled(page)
    assert page.inner_text("#threshold-said") == "There is no heat map of this slide."
    assert page.is_disabled("#opacity")
    page.keyboard.press("j")
    page.wait_for_selector("#trouble p")
    assert "not where the run’s table says" in page.inner_text("#trouble").replace("'", "’")
    page.keyboard.press("j")
    until(page, "document.getElementById('trouble').textContent.includes('cut off')")
    assert "Id of this answer" in page.inner_text("#trouble")
    page.select_option("#part", "tuning")
    assert page.locator("#slides li").count() == 2
    page.select_option("#part", "")
    page.select_option("#order", "score")
    assert page.locator("#slides .who").all_inner_texts() == [HOSTILE, "node-3", "node-2", "node-4"]


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (1200, "light"),
        (400, "dark"),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in ((1200, "dark"), (400, "light"))),
    ],
)
def test_everybody_can_use_it(opened, address, width, scheme):
    with page_at(opened, address, width=width, scheme=scheme, refused=True) as page:
        page.set_default_timeout(WAIT)
        settled(page)
        page.keyboard.press("s")
        page.wait_for_selector("#skipped-list li")
        for closed in page.locator("summary").all():
            closed.click()
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert not re.search(r"\b(false|true|null|undefined|NaN)\b", page.inner_text("main"))
        assert page.locator("#stage").bounding_box()["height"] > 300
        for button, box in (("to-about", "about"), ("to-keys", "keys")):
            page.click(f"#{button}")
            assert page.is_visible(f"#{box}")
            assert violations(page) == []
            page.keyboard.press("Escape")


def test_the_token_is_asked_for_and_not_kept(opened, reader, tmp_path):
    with served_page(reader, tmp_path, token=TOKEN) as url, page_at(opened, url, refused=True) as page:
        page.set_default_timeout(WAIT)
        page.wait_for_selector("#token-box[open]")
        page.fill("#token", TOKEN)
        page.keyboard.press("Enter")
        settled(page)
        assert page.input_value("#token") == ""
        assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
