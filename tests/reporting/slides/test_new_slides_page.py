"""The page of new slides: the highest scores first, drawn beside their maps, and all of them in a table."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from overread.reporting.slides import new_slides_page as page
from overread.reporting.slides.slide_pictures import SlideToShow


def told(*scores: float) -> pd.DataFrame:
    return pd.DataFrame([{"case": f"node <{number}>", "score": score, "places": number % 2, "area": 2.5e5 if number % 2 else np.nan, "map": f"maps/{number}.tif"}
                         for number, score in enumerate(scores)], columns=["case", "score", "places", "area", "map"])  # fmt: skip


def shown(held, many: int) -> list[SlideToShow]:
    found = pd.DataFrame({"x": [500.0, 300.0], "y": [300.0, 900.0], "score": [0.9, 0.8], "region": -2})
    return [SlideToShow(f"node <{number}>", "", "", 0.9 - number / 10, held[0], held[1], None, found) for number in range(many)]  # fmt: skip


def test_all_slides_stand_in_the_table_and_the_highest_are_drawn(held, tmp_path):
    path = page.new_slides_page(tmp_path / "slides.html", shown(held, 2), told(0.9, 0.8, 0.1), threshold=0.62, facts=["score of a slide: maximum"], set_aside=["it is cut off"])  # fmt: skip
    text = path.read_text("utf-8")
    assert text.count('class="slide"') == 2
    assert text.count("data:image/jpeg") == 2 == text.count("data:image/png")
    assert "3 slides, 1 place from 0.620 on, the threshold of tuning slides, on 1 of them." in text
    assert "1 further slide of lower scores stands in the table alone." in text
    assert "1 slide set aside, first: It is cut off." in text
    assert "Lesions not known; 2 places from the threshold on." in text
    rows = re.findall(r"<tr[^>]*>\s*<t[dh][^>]*>node &lt;(\d)&gt;</t[dh]>(.*?)</tr>", text, re.DOTALL)
    assert [(number, re.findall(r">([^<]+)</td>", cells)) for number, cells in rows] == [
        ("0", ["0.900", "0", "–", "maps/0.tif"]), ("1", ["0.800", "1", "0.250", "maps/1.tif"]), ("2", ["0.100", "0", "–", "maps/2.tif"])]  # fmt: skip
    assert "names the slides as they were given" in text


def test_a_slide_with_writing_has_no_picture(held, tmp_path):
    path = page.new_slides_page(tmp_path / "slides.html", shown(held, 2), told(0.9, 0.8), threshold=0.62, withheld={"node <1>"}, coded=True)  # fmt: skip
    text = path.read_text("utf-8")
    assert (text.count("data:image/jpeg"), text.count("data:image/png")) == (1, 2)
    assert "The picture is kept back: there is text in its pixels." in text
    assert "codes stand in place of names" in text


def test_where_no_slide_has_a_map_the_page_says_why(tmp_path):
    path = page.new_slides_page(tmp_path / "slides.html", [], told(), threshold=0.62, set_aside=["it is cut off"])
    assert "0 slides, 0 places" in path.read_text("utf-8")
    assert "first: It is cut off." in path.read_text("utf-8")
