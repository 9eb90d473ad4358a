"""The report: complete, true to the stored numbers, safe, private, readable."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from overread.core.errors import InputError
from overread.core.files import read_json, write_bytes, write_json, write_text
from overread.reporting import card, draw_all, page, report
from overread.reporting.page import SECTIONS, figures
from overread.reporting.run import read_run
from overread.stats.estimate import rounded
from overread.tasks.target import Target

VOID = {"meta", "link", "br", "img", "hr", "input", "path", "use", "rect"}


class Page(HTMLParser):
    """A small reader that insists on balanced elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID or (tag in ("path", "use", "rect") and not self.get_starttag_text().endswith("/>")):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not (self.open and self.open[-1] in ("style", "title", "desc")):
            self.text += data

    def of(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]


def read(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def words(page: Page) -> str:
    return re.sub(r"\s+", " ", page.text.replace("\u00a0", " "))


@pytest.fixture
def run(tmp_path, finished) -> Path:
    """A copy of a finished run, to be changed."""
    return shutil.copytree(finished("binary"), tmp_path / "run")


@pytest.fixture
def quick(run, finished, monkeypatch) -> Path:
    """The same, with its figures drawn before: for tests of what is not drawn."""
    if not _DRAWN:
        _DRAWN.update(figures(read_run(finished("binary"))))
    monkeypatch.setattr(page, "figures", lambda run: dict(_DRAWN))
    return run


_DRAWN: dict[str, object] = {}


# -- what is there ---------------------------------------------------------------------------------------------------


def test_every_section_is_there_under_one_heading(each):
    page = read(each)
    assert [a["id"] for a in page.of("h2") if a.get("id") in SECTIONS] == list(SECTIONS)
    assert len(page.of("h1")) == 1
    targets = {a["href"][1:] for a in page.of("a")}
    assert targets <= {a.get("id") for _, a in page.elements}


def test_the_numbers_are_those_of_the_files(run):
    text = words(read(run))
    stored = {(e["metric"], e["of"]): e for e in read_json(run / "evaluation/metrics.json") if not e["where"]}
    auc, sensitivity = stored["auc", "malignant"], stored["sensitivity", "malignant"]
    assert f"{auc['value']:.3f} {auc['low']:.3f} – {auc['high']:.3f}".split()[0] in text
    value, low, high = (rounded(auc[end], 2) for end in ("value", "low", "high"))
    assert f"AUC of {value} (95 % interval {low} to {high})" in text
    assert f"{100 * sensitivity['value']:.1f} %" in text
    assert f"{auc['images']} images of {auc['patients']} patients" in text
    split = read_json(run / "split.proof.json")["proof"]
    assert split["checked"] in text
    assert split["digest"] in text
    assert "no initial weights at hand" in text
    assert "5 pairs of images are nearly equal." in text
    assert "1,004 images of 502 patients" in (run / "report.html").read_text(encoding="utf-8")
    assert "first look" in text
    assert json.loads((run / "ledger.jsonl").read_text("utf-8").splitlines()[0])["when"][:16].replace("T", " ") in text


def test_the_point_that_was_frozen_is_told(run):
    point = read_json(run / "evaluation/operating.json")[0]
    text = words(read(run))
    assert f"at a score of {point['threshold']:.3f} or more" in text
    assert "youden" in text


def test_each_class_and_finding_has_its_row(finished):
    for kind, names in (("classes", ("benign", "atypical", "malignant")), ("findings", ("effusion", "nodule"))):
        text = words(read(finished(kind)))
        stored = {
            e["of"]: e
            for e in read_json(finished(kind) / "evaluation/metrics.json")
            if e["metric"] == "auc" and not e["where"]
        }
        for name in names:
            e = stored[name]
            assert f"{e['value']:.2f} ({e['low']:.2f} – {e['high']:.2f})" in text


def test_limits_and_use(each):
    text = words(read(each))
    assert "not a medical device" in text
    assert "What to do next" in text
    assert "overread predict" in text


def test_the_same_run_gives_the_same_bytes(run):
    assert report(run).read_bytes() == report(run).read_bytes()


def test_the_sections_stand_in_a_clinicians_order(run):
    text = words(read(run))
    order = ["Can it be trusted?", "Telling malignant from the rest", "What another threshold would do", "Results by subgroup", "truth: benign",
             "What it found, in pictures", "not a medical device, has not been", "How it was trained" , "Proof that the parts", "chain of hashes", "STARD-AI"]  # fmt: skip
    places = [text.index(said, text.index("This was the first look") if i else 0) for i, said in enumerate(order)]
    assert places == sorted(places)


def test_maps_and_neighbours_stand_beside_the_cases(quick):
    case = read_json(quick / "explanations/gallery.json")[0]["case"]
    text = words(read(quick))
    for command in ("overread explain", "overread similar"):
        assert command in text
    map_row = {"case": case, "target": "malignant", "method": "grad-cam", "layer": "layer4", "image": "explanations/errors/0.png", "map": "explanations/errors/1.png",
               "probability": 0.9, "verdict": "this map is no better than an edge detector", "nothing": False, "checks": {"deletion": 0.4}}  # fmt: skip
    near = {"case": "train00001", "label": "benign", "source": "B", "distance": 0.125, "thumbnail": "explanations/errors/2.png"}  # fmt: skip
    write_json(quick / "explanations/maps.json", [map_row, {**map_row, "method": "occlusion", "nothing": True}])
    write_json(quick / "index/neighbours.json", [{"case": case, "neighbours": [near] * 9}])
    write_json(quick / "explanations/methods.json", [{"method": "grad-cam", "criterion": "randomisation", "value": 0.25, "low": 0.1, "high": 0.4, "cases": 32,
                                                      "baseline": 0.3, "passed": False, "words": "no better than an edge detector"}])  # fmt: skip
    share = {"method": "grad-cam", "region": "outside the body", "share": 0.5, "low": 0.4, "high": 0.61, "area": 0.25, "cases": 32, "patients": 30}  # fmt: skip
    looks = "The model looks outside the body more than by chance: 50% of the attribution lies on 25% of the area."
    write_json(quick / "explanations/regions.json", [{**share, "finding": looks}, {**share, "method": "later", "region": "along the border", "low": None, "high": None}])  # fmt: skip
    report(quick)
    text, raw = words(read(quick)), (quick / "report.html").read_text(encoding="utf-8")
    assert "grad-cam for malignant, layer layer4. This map is no better than an edge detector." in text
    assert "This map says nothing: no part of the image speaks for malignant." in text
    assert text.count("B, at 0.125") == 5
    assert "overread explain" not in text
    assert "train00001" not in raw
    assert "0.25 (0.10 – 0.40)" in text
    assert f"Grad-CAM: {looks}" in text
    assert "Grad-CAMoutside the body50.0 % (40.0 % to 61.0 %)25.0 %3230" in text
    assert "lateralong the border50.0 %25.0 %" in text


def test_a_case_whose_picture_is_kept_back_shows_no_map_but_one_on_grey(quick):
    entry = {**read_json(quick / "explanations/gallery.json")[0], "thumbnail": "", "withheld": True}
    write_json(quick / "explanations/gallery.json", [entry])
    (quick / "explanations/audit.json").unlink()
    drawn_over = {"case": entry["case"], "target": "malignant", "method": "grad-cam", "image": "explanations/errors/0.png", "map": "explanations/errors/1.png"}  # fmt: skip
    write_json(quick / "explanations/maps.json", [drawn_over])
    report(quick)
    assert read(quick).of("img") == []
    assert "kept back" in words(read(quick))
    write_json(quick / "explanations/maps.json", [{**drawn_over, "image": ""}])
    report(quick)
    assert len(read(quick).of("img")) == 1


# -- what must not be there --------------------------------------------------------------------------------------------


def test_no_network_and_no_script_but_ours(each):
    page = read(each)
    tags = Counter(tag for tag, _ in page.elements)
    assert not {"iframe", "object", "embed", "link", "form", "base"} & set(tags)
    policy = next(a["content"] for a in page.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    raw = (each / "report.html").read_text(encoding="utf-8")
    scripts = re.findall(r"<script>(.*?)</script>", raw, re.DOTALL)
    assert len(scripts) == tags["script"] == bool(page.of("input"))
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert re.findall(r"script-src ([^;]*)", policy) == [f"'sha256-{digest}'" for digest in digests]
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/"))
    style = re.search(r"<style>(.*?)</style>", (each / "report.html").read_text(encoding="utf-8"), re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style


def test_names_from_the_data_are_escaped(finished):
    folder = finished("nasty")
    raw = (folder / "report.html").read_text(encoding="utf-8")
    assert raw.count("<script") == 1  # ours
    assert "<script>alert" not in raw
    assert "<img src=x" not in raw
    assert "\x00" not in raw
    assert "&lt;script&gt;" in raw
    assert "<script" not in card(folder).read_text(encoding="utf-8")


def test_no_patient_and_no_case_is_named(each, kind, drawn):
    raw = (each / "report.html").read_text(encoding="utf-8") + card(each).read_text(encoding="utf-8")
    raw += "".join(drawn(kind).values())
    test = pd.read_csv(each / "predictions/test.csv", dtype=str)
    assert not [name for name in {*test["patient"], *test["case"], "secret-patient-7"} if name in raw]


def test_cases_stand_under_keys_that_a_file_resolves(quick):
    keys = read_json(quick / "explanations/keys.json")
    gallery = [entry["case"] for entry in read_json(quick / "explanations/gallery.json")]
    audited = [case for entry in read_json(quick / "explanations/audit.json") for case in entry["cases"]]
    text = words(read(quick))
    assert sorted(keys.values()) == sorted({*gallery, *audited})
    assert all(key in text for key in keys)
    report(quick, case_names=True)
    assert all(case in words(read(quick)) for case in gallery)


def test_folders_are_not_told(quick):
    record = read_json(quick / "record.json")
    write_json(
        quick / "record.json",
        {**record, "command": "overread quick /home/anna.smith/x/metadata.csv -o /data/anna.smith/runs"},
    )
    write_text(
        quick / "study.toml", 'table = "/home/anna.smith/x/metadata.csv"\nweights = "/home/anna.smith/weights"\n'
    )
    report(quick)
    raw = (quick / "report.html").read_text(encoding="utf-8")
    assert "anna.smith" not in raw
    assert "metadata.csv" in raw


# -- for everybody -----------------------------------------------------------------------------------------------------


def test_figures_and_pictures_have_words(each):
    page = read(each)
    assert all(a.get("alt") for a in page.of("img"))
    ids = Counter(a["id"] for _, a in page.elements if "id" in a)
    assert [name for name, times in ids.items() if times > 1] == []
    for svg in page.of("svg"):
        assert svg["role"] == "img"
        assert set(svg["aria-labelledby"].split()) <= set(ids)


def test_headings_do_not_skip_a_level(each):
    levels = [int(tag[1]) for tag, _ in read(each).elements if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_the_size_of_the_test_set_stands_on_each_figure(drawn):
    for name in ("roc", "precision-recall", "calibration", "scores", "confusion"):
        assert re.search(r"\d+ images of 60 patients", drawn("binary")[name]), name


# -- unfinished and damaged runs ------------------------------------------------------------------------------------------


def test_an_empty_folder_says_which_command_makes_each_section(tmp_path):
    text = words(read(report(tmp_path).parent))
    for command in ("audit TABLE", "split", "train", "evaluate", "predict", "run"):
        assert f"overread {command}" in text
    assert draw_all(tmp_path) == []
    assert card(tmp_path).exists()


def test_small_parts_may_be_missing(quick):
    for part in ("explanations", "predictions"):
        shutil.rmtree(quick / part)
    for part in ("record.json", "study.toml", "ledger.jsonl", "excluded.csv"):
        (quick / part).unlink(missing_ok=True)
    report(quick)
    assert "There is no gallery of errors" in words(read(quick))


@pytest.mark.parametrize("part", ["audit.json", "split.proof.json", "model", "evaluation", "cases.target.json"])
def test_any_stage_may_be_missing(run, part):
    path = run / part
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    report(run)
    card(run)
    assert len([a for a in read(run).of("h2") if a.get("id") in SECTIONS]) == len(SECTIONS)


@pytest.mark.parametrize(
    "part", ["audit.json", "split.proof.json", "model/model.json", "record.json", "evaluation/curves.json"]
)
def test_a_run_of_another_version_opens(quick, part):
    before = report(quick).read_bytes()
    write_json(quick / part, {**read_json(quick / part), "what nobody knows": {"yet": 1}})
    assert report(quick).read_bytes() == before


def test_there_must_be_a_folder(tmp_path):
    with pytest.raises(InputError, match="no such run folder"):
        report(tmp_path / "nothing")


@pytest.mark.parametrize("part", ["audit.json", "model/history.json", "evaluation/metrics.json", "study.toml"])
def test_a_damaged_file_is_named(quick, part):
    write_text(quick / part, '{"a": ' if part.endswith("json") else "a = = 1")
    with pytest.raises(InputError, match=Path(part).name):
        report(quick)


def test_unsound_runs_say_so_at_the_top(tmp_path, make):
    make(tmp_path / "run", Target("binary", ("benign", "malignant"), ("malignant",)), patients=40, sound=False)
    report(tmp_path / "run")
    text = words(read(tmp_path / "run"))
    top = text[: text.index("Results on the test set")]
    assert "Can it be trusted? Not to be trusted" in top
    for said in ("3 patients stand in training and in the test set", "shares 3 patients", "source, image size or brightness",
                 "had been looked at once before", "3 patients stand on both sides"):  # fmt: skip
        assert said in top
    assert "took no part in its training" not in top


def test_an_edited_ledger_is_reported(quick):
    ledger = quick / "ledger.jsonl"
    entry = json.loads(ledger.read_text(encoding="utf-8").splitlines()[0])
    write_text(ledger, json.dumps({**entry, "model": "another"}) + "\n")
    report(quick)
    assert "cannot be trusted" in words(read(quick))


@pytest.mark.parametrize(
    ("address", "data"),
    [("../outside.png", b"\x89PNG\r\n\x1a\n"), ("explanations/errors/0.png", b"<svg onload=alert(1)>"),
     ("explanations/errors/0.png", b"\x89PNG\r\n\x1a\n" + bytes(600_000)), ("explanations/nothing.png", None)],
)  # fmt: skip
def test_only_small_pictures_of_the_run_are_shown(quick, address, data):
    if data is not None:
        write_bytes(quick / address, data)
    write_json(
        quick / "explanations/gallery.json",
        [{"case": "c", "truth": "a", "predicted": "b", "probability": 0.9, "thumbnail": address}],
    )
    (quick / "explanations/audit.json").unlink()
    report(quick)
    page = read(quick)
    assert page.of("img") == []
    assert "no picture" in page.text


def test_the_gallery_says_where_its_cases_can_be_looked_up(quick):
    report(quick)
    assert "keys.json" in words(read(quick))
    text = (quick / "study.toml").read_text("utf-8")
    (quick / "explanations" / "keys.json").unlink()
    report(quick, case_names=True)  # as of a run with codes
    assert "overread key" in words(read(quick))
    assert "keys.json" not in words(read(quick))
    (quick / "study.toml").write_text('names = "keep"\n' + text, encoding="utf-8")
    report(quick, case_names=True)
    assert "overread key" not in words(read(quick))
    assert not (quick / "explanations" / "keys.json").exists()


def test_a_share_that_decided_nothing_is_not_told(quick):
    report(quick)
    assert "Share for the test" in words(read(quick))
    proof = json.loads((quick / "split.proof.json").read_text("utf-8"))
    proof["proof"]["given"] = True
    (quick / "split.proof.json").write_text(json.dumps(proof), encoding="utf-8")
    report(quick)
    assert "Share for the test" not in words(read(quick))
    assert "its split was kept" in words(read(quick))
