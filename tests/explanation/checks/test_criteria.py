"""The table of criteria over a sample of cases."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.explanation.conftest import grad_cam, model_of
from tests.explanation.test_sanity import edge_map, of

from overread.core.errors import ArgumentError, InputError
from overread.core.files import read_rows, write_rows
from overread.explanation.checks.criteria import Sampled, check_methods, judge_methods, sample_cases
from overread.explanation.checks.randomisation import likeness
from overread.explanation.checks.regions import EDGE, LESION
from overread.explanation.explain import explain, explanations
from overread.explanation.sanity import between_patients
from overread.explanation.verdict import CRITERIA, Checks, Criterion, judge_method, methods_lines, verdict

RNG = np.random.Generator(np.random.Philox(key=18))


def row_of(rows, criterion):
    return next(row for row in rows if row.criterion == criterion)


class TestMethods:
    def test_the_trained_network_passes_by_patient_and_the_table_returns(self, world, tmp_path):
        checks = [of(world, i, others=[world.network, world.other]) for i in range(12)]
        patients = [f"p{i // 2}" for i in range(12)]
        maps = [grad_cam(world.network, world.cases.x[i : i + 1])[0].numpy() for i in range(12)]
        rows = judge_method("grad-cam", checks, patients, between=between_patients(maps, patients))
        found = {row.criterion: row for row in rows}
        assert tuple(found) == CRITERIA
        assert found["localisation"].passed
        assert found["faithfulness"].passed
        assert found["localisation"].cases == 12
        assert found["localisation"].low > 0
        assert not found["reproducibility"].passed
        assert math.isnan(found["reproducibility"].value)
        path = write_rows(tmp_path / "methods.json", rows)
        assert str(read_rows(Criterion, path)) == str(rows)
        assert any("grad-cam, localisation: passed" in line for line in methods_lines(rows))

    def test_of_several_methods_each_has_its_rows(self, world):
        cases = [Sampled(world.cases.x[i : i + 1], f"p{i}", 1, world.cases.mask[i]) for i in range(3)]
        methods = {"grad-cam": lambda _: grad_cam, "edges": lambda _: edge_map}
        rows, regions = check_methods(methods, world.network, cases, insertion_steps=4)
        assert regions == ()
        assert [row.method for row in rows] == ["grad-cam"] * len(CRITERIA) + ["edges"] * len(CRITERIA)
        found = {(row.method, row.criterion): row for row in rows}
        cam, edge = (found[name, "weight randomisation"] for name in methods)
        assert edge.value == pytest.approx(1)
        assert cam.value < 0.5
        assert not edge.passed
        with pytest.raises(ArgumentError, match="no cases"):
            check_methods(methods, world.network, [])

    def test_the_mean_is_that_of_the_cases(self):
        checks = [Checks(ssim=value, rank=0.1) for value in (0.1, 0.2, 0.6, 0.3)]
        row = row_of(judge_method("m", checks, ["a", "a", "b", "c"], between=0.9), "weight randomisation")
        assert row.value == pytest.approx(0.3)
        assert row.low < 0.3 < row.high
        assert row.passed

    def test_copies_of_a_patient_do_not_narrow_the_interval(self):
        checks = [Checks(ssim=value) for value in RNG.uniform(size=30)]
        patients = [str(i) for i in range(30)]
        once = row_of(judge_method("m", checks, patients), "weight randomisation")
        thrice = row_of(judge_method("m", checks * 3, patients * 3), "weight randomisation")
        assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high), abs=1e-9)

    def test_a_map_that_says_nothing_counts_as_chance_where_a_place_is_asked_for(self):
        good = Checks(auprc=0.8, auprc_random=0.2, auprc_centre=0.3, hit=1.0)
        silent = Checks(blank=True, nothing=True, auprc=0.1, auprc_random=0.1, hit=0.0)
        row = judge_method("m", [good, silent], ["a", "b"])[0]
        assert row.value == pytest.approx(0.25)
        assert "1 map said nothing" in row.words

    def test_the_pointing_game_is_held_against_the_share_of_the_area(self):
        hit, miss = (
            Checks(auprc=0.5, auprc_random=0.1, auprc_centre=0.1, hit=each, hit_by_chance=0.1) for each in (1.0, 0.0)
        )
        patients = [str(i) for i in range(20)]
        good = row_of(judge_method("m", [hit] * 16 + [miss] * 4, patients), "pointing game")
        assert (good.value, good.baseline, good.passed) == (pytest.approx(0.8), pytest.approx(0.1), True)
        assert "16 of 20; by chance 2.0" in good.words
        assert row_of(judge_method("m", [hit] * 20, patients), "pointing game").passed
        by_chance = row_of(judge_method("m", [hit] * 2 + [miss] * 18, patients), "pointing game")
        assert not by_chance.passed
        assert "with its largest value in it" in verdict(hit)
        assert "though its largest value lies elsewhere" in verdict(miss)
        assert row_of(judge_method("m", [Checks(rank=0.1)], ["a"]), "pointing game").words == "not checked: no masks"

    def test_maps_of_different_patients_are_paired_and_never_those_of_one(self):
        one, other = RNG.uniform(size=(2, 10, 10))
        assert between_patients([one, other, one], ["a", "b", "a"]) == pytest.approx(likeness(one, other).ssim)
        assert math.isnan(between_patients([one, one], ["a", "a"]))
        many = [one, other] * 120
        assert between_patients(many, ["a", "b"] * 120) == pytest.approx(likeness(one, other).ssim)


# -- of a model and a table -------------------------------------------------------------------------------------------


class TestSample:
    def test_takes_one_of_each_patient_first_and_says_how_many(self, masked):
        said = []
        found = list(sample_cases(model_of(), masked, most=4, say=said.append))
        assert sorted(each.patient for each in found) == list("pqrs")
        assert said == ["  judged on 4 cases of 4 patients, of 6 cases in all"]
        again = list(sample_cases(model_of(), masked, most=4))
        assert [each.case for each in found] == [each.case for each in again]
        assert {each.case for each in sample_cases(model_of(), masked, most=99)} == set("abcdef")

    def test_masks_lie_over_their_images_and_missing_ones_are_counted(self, masked):
        said = []
        found = {each.case: each for each in sample_cases(model_of(), masked, masks="mask", say=said.append)}
        assert {case for case, each in found.items() if each.mask is not None} == set("abc")
        assert said[-1] == "  3 cases without a mask, or with one that cannot be read"
        seen = found["a"].pixels[0][..., 0]
        assert (found["a"].mask != (seen > 185)).mean() < 0.01

    def test_the_most_probable_answer_is_explained_or_the_one_that_is_named(self, masked):
        model = model_of()
        with torch.inference_mode():
            each = {s.case: (s.target, int(model.network(s.x).argmax())) for s in sample_cases(model, masked)}
        assert all(one == other for one, other in each.values())
        assert {s.target for s in sample_cases(model, masked, target="p")} == {1}

    def test_unknown_names_are_refused_with_the_nearest(self, masked):
        for named, says in (({"target": "pp"}, "Did you mean .p."), ({"masks": "masks"}, "Did you mean .mask.")):
            with pytest.raises(InputError, match=says):
                next(iter(sample_cases(model_of(), masked, **named)))

    def test_of_cases_of_several_images_each_image_has_its_mask(self, masked):
        table = masked.table.assign(case=list("aabbcc"), patient=list("ppqqrr"))
        found = {s.case: s for s in sample_cases(model_of(fusion="concat"), replace(masked, table=table), masks="mask")}
        assert found["a"].x.shape[:2] == (1, 2)
        assert found["b"].mask.any(axis=(1, 2)).tolist() == [True, False]
        assert found["c"].mask is None

    def test_of_a_case_whose_masks_cannot_all_be_read_none_is_used_and_it_is_counted(self, masked):
        table = masked.table.assign(case=list("aabbcc"), patient=list("ppqqrr"))
        table["mask"] = [
            "m0.png",
            "m1.png",
            "m2.png",
            "nowhere.png",
            "m4.png",
            "",
        ]  # of the fourth image, not blank but lost
        said, heard, torn, model = [], [], replace(masked, table=table), model_of(fusion="concat")
        found = {s.case: s for s in sample_cases(model, torn, masks="mask", say=said.append)}
        assert {case for case, each in found.items() if each.mask is None} == {"b"}
        assert said[-1] == "  1 case without a mask, or with one that cannot be read"
        made = {each.case: each for each in explanations(model, torn, masks="mask", say=heard.append)}
        assert "  1 mask cannot be read: the place of that map is not checked" in heard
        checked = {
            case for case, each in made.items() if "largest value within the mask by chance" in each.checks.numbers
        }
        assert "b" not in checked
        assert checked


def test_masks_without_the_checks_that_use_them_are_refused(masked):
    with pytest.raises(ArgumentError, match="held against maps by the checks, which are left out .given: masks 'mask'"):
        explain(model_of(), masked, masks="mask", checks=False)


def test_each_map_of_a_case_with_a_mask_is_held_against_it(masked):
    heard = []
    made = list(explanations(model_of(), masked, masks="mask", say=heard.append))
    assert "  1 mask cannot be read: the place of that map is not checked" in heard
    held = {each.case: each.checks.numbers.get("AUPRC against the mask") for each in made}
    assert {case for case, value in held.items() if value is not None} == {s.case for s in sample_cases(model_of(), masked, masks="mask", most=9) if s.mask is not None}  # fmt: skip
    assert 0 < sum(value is None for value in held.values()) < len(held)
    by_chance = {each.case: each.checks.numbers.get("largest value within the mask by chance") for each in made}
    assert all(by_chance[s.case] == pytest.approx(s.mask.mean()) for s in sample_cases(model_of(), masked, masks="mask", most=9) if s.mask is not None)  # fmt: skip
    with pytest.raises(InputError, match="no column of masks"):
        list(explanations(model_of(), masked, masks="masc"))


def test_methods_of_a_model_are_judged_with_their_masks_and_regions(masked):
    heard = []
    rows, regions = judge_methods(model_of(), masked, methods=("grad-cam", "integrated-gradients"), masks="mask",
                                  insertion_steps=3, progress=lambda *a: heard.append(a))  # fmt: skip
    found = {(row.method, row.criterion): row for row in rows}
    assert found["grad-cam", "localisation"].cases <= 3
    assert "no sum" in found["grad-cam", "completeness"].words
    assert found["integrated-gradients", "completeness"].value < 0.05
    assert {(r.method, r.region) for r in regions} >= {("grad-cam", EDGE), ("integrated-gradients", LESION)}
    assert heard[-1][1:] == (6, 6)


def test_of_cases_of_several_images_methods_are_judged_too(masked):
    table = masked.table.assign(case=list("aabbcc"), patient=list("ppqqrr"))
    rows, regions = judge_methods(
        model_of(fusion="concat"), replace(masked, table=table), masks="mask", insertion_steps=3
    )
    assert next(row for row in rows if row.criterion == "faithfulness").cases >= 1
    assert {r.region for r in regions} >= {EDGE}
