"""The page of the reading room in a browser: images in, answers out, as a person would, and with names that mean harm."""

from __future__ import annotations

import io
import json
import re
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from browser import browser, page_at, violations

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from reading_page import HOSTILE, hostile_run, reading_page, served_page
from served import StandIn, a_volume_model

WAIT = 30_000
TOKEN = "a token of the test, long enough"


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    return hostile_run(tmp_path_factory.mktemp("reading"))


@pytest.fixture(scope="session")
def images(run) -> list[Path]:
    return sorted((run.parent / "cohort" / "images").glob("*.png"))[:4]


@pytest.fixture(scope="module")
def opened():
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def address(run, tmp_path_factory) -> Iterator[str]:
    with reading_page(run, tmp_path_factory.mktemp("scratch")) as url:
        yield url


@pytest.fixture
def page(opened, address):
    with page_at(opened, address) as found:
        found.set_default_timeout(WAIT)
        yield found


@pytest.fixture
def refused(opened, address):
    """The page, where the server will not answer everything."""
    with page_at(opened, address, refused=True) as found:
        found.set_default_timeout(WAIT)
        yield found


def read(page, *files) -> None:
    """Choose files and wait for the answer, its map and its neighbours."""
    page.set_input_files("#files", [str(file) if isinstance(file, Path) else file for file in files])
    page.wait_for_selector("#answer .headline")
    page.wait_for_selector("#verdict p")
    page.wait_for_selector("#neighbours li")


def until(page, expression: str, also: Callable[[], object] = lambda: True) -> None:
    """Wait until an expression is true; the page's policy forbids the driver's own way, which evaluates strings."""
    end = time.monotonic() + WAIT / 1000
    while not (page.evaluate(expression) and also()):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(30)


def mapped(page) -> None:
    """Wait until the map that was asked for is there."""
    until(page, "document.getElementById('stage-wait').hidden")


def seen(page) -> str:
    """The pixels of the stage, as a file of a picture."""
    return page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(document.getElementById('canvas').toDataURL()))))")  # fmt: skip


def test_a_dropped_file_is_answered_probability_first(page, images):
    data = list(images[0].read_bytes())
    page.evaluate("""(data) => {
        const held = new DataTransfer();
        held.items.add(new File([new Uint8Array(data)], "dropped.png"));
        document.dispatchEvent(new DragEvent("drop", { dataTransfer: held, bubbles: true, cancelable: true }));
    }""", data)  # fmt: skip
    page.wait_for_selector("#answer .headline")
    page.wait_for_selector("#neighbours li")
    assert page.inner_text("#case-title") == "dropped.png"
    assert re.search(r"\d %", page.inner_text("#answer .headline"))
    assert "dropped.png" in page.inner_text("#said")
    places = page.evaluate("['answer', 'picture', 'near'].map((id) => document.getElementById(id).compareDocumentPosition(document.getElementById('canvas')))")  # fmt: skip
    following, contained, preceding = 4, 20, 2
    assert places == [following, contained, preceding]
    bars = page.locator("#answer .bars li")
    shares = [float(re.search(r"([\d.]+) %", bars.nth(at).inner_text())[1]) for at in range(bars.count())]
    assert shares == sorted(shares, reverse=True)


def test_a_pasted_file_is_answered(page, images):
    page.evaluate("""(data) => {
        const held = new DataTransfer();
        held.items.add(new File([new Uint8Array(data)], "pasted.png"));
        document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: held, bubbles: true, cancelable: true }));
    }""", list(images[1].read_bytes()))  # fmt: skip
    page.wait_for_selector("#answer .headline")
    assert page.inner_text("#case-title") == "pasted.png"


def test_the_slider_and_the_method_change_what_is_seen(page, images):
    read(page, images[0])
    page.fill("#opacity", "0")
    plain = seen(page)
    page.fill("#opacity", "100")
    assert seen(page) != plain
    assert page.inner_text("#opacity-words") == "100 %"
    mapped_by, before = seen(page), page.inner_text("#verdict")
    page.select_option("#method", "gradient-x-input")
    until(page, f"document.getElementById('verdict').innerText !== {json.dumps(before)}")
    mapped(page)
    assert "Gradient × input" in page.inner_text("#verdict")
    assert seen(page) != mapped_by
    page.select_option("#target", HOSTILE)
    mapped(page)
    assert HOSTILE in page.inner_text("#scale")


def test_a_method_that_the_network_has_nothing_for_says_so(refused, images):
    read(refused, images[0])
    refused.select_option("#method", "attention-rollout")
    refused.wait_for_selector("#verdict .failed")
    assert refused.inner_text("#verdict").startswith("No map: ")


def test_a_neighbour_opens_beside_the_case(page, images):
    read(page, images[0])
    assert "How reliable neighbours are here, measured on patients kept for tuning" in page.inner_text("#neighbours")
    by_chance = page.locator("#neighbours .reliable tbody td:last-child").all_inner_texts()
    assert by_chance
    assert all(re.fullmatch(r"(> |< )?\d+ %", cell) for cell in by_chance), by_chance
    page.click("#neighbours li:nth-child(2) button")
    assert page.is_visible("#neighbour")
    assert "Distance" in page.inner_text("#neighbour-facts")
    page.keyboard.press("Escape")
    assert not page.is_visible("#neighbour")
    assert page.evaluate("document.activeElement.closest('#neighbours') !== null")


def test_a_keyboard_leads_from_the_start_to_the_result(page, images):
    asked: list = []
    page.on(
        "filechooser", lambda chooser: asked.append(chooser)
    )  # before the key: the browser opens its own dialog until it has heard of it
    until(page, "document.getElementById('task').textContent !== ''")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "files":
            break
    assert page.evaluate("document.activeElement.id") == "files"
    page.keyboard.press("Enter")
    until(page, "true", lambda: asked)
    asked[0].set_files(str(images[0]))
    page.wait_for_selector("#neighbours li")
    page.keyboard.press("r")
    assert page.evaluate("document.activeElement.id") == "result"
    page.keyboard.press("v")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    before = seen(page)
    page.keyboard.press("i")
    assert page.get_attribute("#invert", "aria-pressed") == "true"
    assert seen(page) != before
    zoom = page.inner_text("#stage-words")
    page.keyboard.press("+")
    assert page.inner_text("#stage-words") != zoom
    page.keyboard.press("0")
    assert seen(page) == before
    page.keyboard.press("m")
    until(page, "document.getElementById('method').selectedIndex === 1")
    mapped(page)
    page.keyboard.press("?")
    assert page.is_visible("#keys")


def test_single_keys_can_be_switched_off(page):
    page.click("#to-keys")
    page.uncheck("#single")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert not page.is_visible("#keys")


def test_the_window_is_set_by_number_and_by_drag(page, images):
    read(page, images[0])
    page.fill("#opacity", "0")
    before = seen(page)
    page.fill("#level", "40")
    page.fill("#width", "30")
    page.keyboard.press("Tab")
    assert "level 40, window 30" in page.inner_text("#stage-words")
    assert seen(page) != before
    page.click("#tool-window")
    page.locator("#canvas").hover(position={"x": 100, "y": 100})
    box = page.locator("#canvas").bounding_box()
    page.mouse.down()
    page.mouse.move(box["x"] + 160, box["y"] + 100, steps=3)
    page.mouse.up()
    assert float(page.input_value("#width")) > 60
    page.click("#reset")
    assert seen(page) == before


def test_a_zip_is_read_case_by_case(refused, images):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for image in images:
            archive.writestr(f"folder/{image.name}", image.read_bytes())
        archive.writestr("folder/notes.txt", "no image")
        archive.writestr("__MACOSX/._junk", "litter")
    refused.set_input_files("#files", {"name": "many.zip", "mimeType": "application/zip", "buffer": buffer.getvalue()})
    until(refused, "document.getElementById('said').textContent.startsWith('Read 5 cases')")
    assert refused.inner_text("#said").endswith("1 could not be read.")
    names = refused.locator("#cases .who").all_inner_texts()
    assert names == [*(image.name for image in images), "notes.txt"]
    assert refused.locator("#cases .failed").count() == 1
    refused.keyboard.press("j")
    assert refused.inner_text("#case-title") == images[1].name
    refused.click("#clear")
    assert refused.locator("#cases li").count() == 0
    assert not refused.is_visible("#result")


def test_several_images_can_be_one_case(page, images):
    page.check("input[value=one]")
    read(page, *images[:2])
    page.wait_for_function(
        "text => document.querySelector(`#case-title`).innerText === text", arg=f"{images[0].name} and 1 more"
    )
    assert page.locator("#cases li").count() == 1
    assert page.locator("#which button").all_inner_texts() == ["image 1", "image 2"]
    page.click("#which button:nth-child(2)")
    assert page.get_attribute("#which button:nth-child(2)", "aria-pressed") == "true"


def test_sixteen_bits_are_seen_in_their_values(page):
    deep = (np.arange(32 * 32).reshape(32, 32) * 4).astype(np.uint16)
    data = bytes(cv2.imencode(".tiff", deep)[1])
    page.set_input_files("#files", {"name": "deep.tiff", "mimeType": "image/tiff", "buffer": data})
    page.wait_for_selector("#verdict p")
    low, high = np.percentile(deep, (0.5, 99.5))
    page.fill("#opacity", "0")
    assert float(page.input_value("#level")) == pytest.approx((low + high) / 2, rel=1e-3)
    assert float(page.input_value("#width")) == pytest.approx(high - low, rel=1e-3)


def test_a_volume_is_turned_slice_by_slice(opened, tmp_path):
    voxels = np.arange(6 * 10 * 12, dtype="<i2").reshape(6, 10, 12)
    head = "NRRD0004\ntype: int16\ndimension: 3\nsizes: 12 10 6\nencoding: raw\nendian: little\n\n"
    with served_page(StandIn(a_volume_model()), tmp_path) as url, page_at(opened, url) as page:
        page.set_default_timeout(WAIT)
        page.set_input_files("#files", {"name": "v.nrrd", "mimeType": "", "buffer": head.encode() + voxels.tobytes()})
        page.wait_for_selector("#verdict p")
        page.click("#which button:has-text('Picture')")
        assert page.inner_text("#slice-words") == "4 of 6"
        before = seen(page)
        page.focus("#canvas")
        page.keyboard.press("PageDown")
        assert page.inner_text("#slice-words") == "5 of 6"
        assert seen(page) != before
        page.locator("#canvas").hover()
        page.mouse.wheel(0, -100)
        until(page, "document.getElementById('slice-words').textContent === '4 of 6'")
        assert seen(page) == before
        page.fill("#slice", "1")
        assert page.inner_text("#slice-words") == "1 of 6"


def test_names_are_text(page, images):
    read(page, {"name": "<svg onload=alert(2)>.png", "mimeType": "image/png", "buffer": images[0].read_bytes()})
    assert page.inner_text("#case-title") == "<svg onload=alert(2)>.png"
    assert HOSTILE in page.inner_text("#answer")
    assert page.locator("[onerror], [onload], img[src=x]").count() == 0


def test_what_the_server_refuses_is_said_in_its_words(refused, images):
    refused.set_input_files(
        "#files", {"name": "broken.png", "mimeType": "image/png", "buffer": images[0].read_bytes()[:90]}
    )
    refused.wait_for_selector("#trouble p")
    assert "cut off" in refused.inner_text("#trouble")
    assert "Id of this answer" in refused.inner_text("#trouble")
    assert "cut off" in refused.inner_text("#answer")


def test_about_tells_what_it_was_trained_on(page):
    page.click("#to-about")
    page.wait_for_selector("#trained a")
    assert page.locator("#trained p").first.inner_text() == "Phantoms <b>only</b>."
    assert page.locator("#trained td").all_inner_texts() == ["Training", "1 | <i>"]
    assert "Not a medical device" in page.inner_text("#about")
    assert HOSTILE in page.inner_text("#facts")
    with page.expect_popup() as popup:
        page.click("#trained a")
    assert "# A card" in popup.value.inner_text("body")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (360, "light"), (360, "dark")])
def test_everybody_can_use_it(opened, address, images, width, scheme):
    with page_at(opened, address, width=width, scheme=scheme) as page:
        page.set_default_timeout(WAIT)
        until(page, "document.getElementById('task').textContent !== ''")
        assert violations(page) == []
        read(page, images[0])
        for closed in page.locator("summary").all():
            closed.click()
        assert violations(page) == []
        assert not re.search(r"\b(false|true|null|undefined|NaN)\b", page.inner_text("main"))
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.click("#to-about")
        page.wait_for_selector("#trained a")
        assert violations(page) == []
        page.keyboard.press("Escape")
        page.click("#to-keys")
        assert violations(page) == []


def test_the_token_is_asked_for_and_not_kept(opened, run, images, tmp_path):
    with reading_page(run, tmp_path, token=TOKEN) as url, page_at(opened, url, refused=True) as page:
        page.set_default_timeout(WAIT)
        page.wait_for_selector("#token-box[open]")
        page.fill("#token", "a wrong one, which is long enough")
        page.keyboard.press("Enter")
        until(page, "document.getElementById('token-said').textContent !== ''")
        page.fill("#token", TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_selector("#token-box[open]", state="hidden")
        read(page, images[0])
        assert page.input_value("#token") == ""
        assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]


def test_a_server_that_is_gone_is_said_and_asked_again(refused, images):
    until(refused, "document.getElementById('task').textContent !== ''")
    refused.context.set_offline(True)
    refused.set_input_files("#files", str(images[0]))
    refused.wait_for_selector("#trouble p")
    assert "The server does not answer" in refused.inner_text("#trouble")
    refused.context.set_offline(False)
    until(refused, "document.getElementById('said').textContent === 'The server answers again.'")
    read(refused, images[0])
