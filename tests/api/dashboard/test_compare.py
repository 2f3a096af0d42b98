from __future__ import annotations

import pytest
from lxml import html

from api.dashboard.comparison import (
    config_differences,
    count_differences,
    stage_differences,
    statistic_differences,
)
from service.jobs.outcome import JobError
from service.storage.records import StageRecord


def text_of(element):
    return " ".join(element.text_content().split())


def page(house, address):
    answer = house.client.get(address)
    assert answer.status_code == 200, answer.text
    return html.fromstring(answer.text)


@pytest.fixture
def runs(house):
    """Two runs of one exposure that are not the same, and one that failed."""
    first = house.completed(run_id="first")
    again = {"force": True, "run_id": "second", "config": {"psf_detection": {"threshold_value": 12.0}}}
    second = house.client.post(f"/v1/jobs/{first}/rerun", json=again).json()["id"]
    house.finish(house.claim(second))
    third = house.client.post(f"/v1/jobs/{first}/rerun", json={"force": True, "run_id": "third"}).json()["id"]
    house.finish(house.claim(third), JobError("psf.no_sources", "X", "nothing there"), products=False)
    return first, second, third


def test_the_other_run_is_chosen_among_those_of_the_exposure(house, runs):
    first, second, third = runs
    house.completed(run_id="of another", exposures=[house.upload(house.fits_bytes(7.0))])
    found = page(house, f"/compare?a={first}")
    assert found.xpath("//table//a/@href") == [f"/compare?a={first}&b={third}", f"/compare?a={first}&b={second}"]
    assert "failed" in text_of(found.xpath("//tr[.//a]")[0])


def test_a_lone_run_says_what_to_do(house):
    job_id = house.completed()
    assert "There is no other run" in text_of(page(house, f"/compare?a={job_id}"))


def test_two_runs_show_what_was_done_differently(house, runs):
    first, second, _ = runs
    found = page(house, f"/compare?a={first}&b={second}")
    (setting,) = found.xpath("//tr[th/code]")
    assert setting.xpath(".//code/text()") == ["psf_detection.threshold_value", "10.0", "12.0"]
    assert found.xpath("//div[@id='viewers']/@data-a") == [first]
    assert found.xpath("//div[@id='viewers']/@data-b") == [second]
    same = found.xpath("//details[summary[contains(., 'the same')]]//th[@scope='row']")
    assert any("psfSigma" in text_of(one) for one in same)
    assert len(found.xpath("//figure/img[contains(@src, 'zero_point.svg')]")) == 2


def test_a_completed_run_is_compared_with_a_failed_one(house, runs):
    first, _, third = runs
    found = page(house, f"/compare?a={first}&b={third}")
    assert "nothing there" in text_of(found)
    assert "Only one of the runs has an image" in text_of(found)
    part = page(house, f"/parts/compare/stars?a={first}&b={third}")
    assert "ended before it had a catalogue" in text_of(part)


def test_jobs_of_nobody_are_not_found(house, runs):
    assert house.client.get("/compare?a=job_0").status_code == 404
    assert house.client.get(f"/compare?a={runs[0]}&b=job_0").status_code == 404
    assert house.client.get(f"/parts/compare/stars?a=job_0&b={runs[0]}").status_code == 404


def test_a_difference_is_told_in_its_standard_errors():
    """Zero points of 30.00 +- 0.03 and 30.10 +- 0.04: the error of the difference is 0.05."""
    found = statistic_differences(
        {"zeroPoint": 30.0, "psfSigma": 1.5, "nPsfStar": 40},
        {"zeroPoint": 30.1, "psfSigma": float("nan"), "nPsfStar": 40},
        {"zero_point_sigma": 0.03},
        {"zero_point_sigma": 0.04},
    )
    by_name = {one.name: one for one in found}
    assert by_name["zeroPoint"].delta == pytest.approx(0.1)
    assert by_name["zeroPoint"].sigmas == pytest.approx(2.0)
    assert (by_name["psfSigma"].b, by_name["psfSigma"].delta) == (None, None)
    assert by_name["nPsfStar"].is_equal
    assert by_name["nPsfStar"].sigmas is None
    assert set(by_name) == {"zeroPoint", "psfSigma", "nPsfStar"}


def test_astrometry_is_told_in_errors_of_the_mean():
    """Scatter 30 mas of 100 stars is 3 mas of the mean; of 225 stars and 60 mas it is 4 mas."""
    (mean, _) = statistic_differences(
        {"astromOffsetMean": 0.020, "astromOffsetStd": 0.030},
        {"astromOffsetMean": 0.030, "astromOffsetStd": 0.060},
        {"astrometry_matches_count": 100},
        {"astrometry_matches_count": 225},
    )
    assert mean.sigmas == pytest.approx(2.0)


def test_only_different_settings_are_listed():
    a = {"x": 1, "deep": {"y": [1, 2], "z": {}}, "gone": None}
    b = {"x": 1, "deep": {"y": [1, 3], "z": {}, "new": 4}}
    assert [(one.name, one.a, one.b) for one in config_differences(a, b)] == [
        ("deep.y", [1, 2], [1, 3]),
        ("deep.new", None, 4),
    ]


def test_counts_are_whole_numbers_of_either_run():
    found = count_differences({"stars": 5, "ratio": 0.5, "done": True}, {"stars": 7, "more": 1})
    assert [(one.name, one.a, one.b, one.delta) for one in found] == [("stars", 5, 7, 2), ("more", None, 1, None)]


def test_stages_are_summed():
    found = stage_differences(
        [StageRecord("read", 1.0, {}), StageRecord("psf", 2.0, {})], [StageRecord("read", 1.5, {})]
    )
    assert [(one.name, one.a, one.b, one.delta) for one in found] == [
        ("read", 1.0, 1.5, 0.5),
        ("psf", 2.0, None, None),
        ("all", 3.0, 1.5, -1.5),
    ]
