"""What `tests/benchmarks` makes of its samples; the measurements themselves are `make bench`."""

import json
import math
from xml.etree import ElementTree as ET

import pytest

from tests.benchmarks import report
from tests.benchmarks.figures import (
    Figure,
    Growth,
    Table,
    Target,
    exponent,
    is_whole,
    quartiles,
    within_noise,
)
from tests.benchmarks.plot import draw

GROWTH = Growth(
    "g",
    "How <it> grows",
    "messages",
    "ms",
    {"library": {0: [9.0], 10: [2.0], 100: [2.0]}, "reference": {0: [1.0], 10: [1.0], 100: [10.0]}},
)


@pytest.mark.parametrize(("power", "factor"), [(0, 5), (1, 3), (2, 0.1), (0.5, 7)])
def test_the_exponent_of_a_power_is_found(power: float, factor: float) -> None:
    points = [(x, factor * x**power) for x in (1, 10, 100, 4000)]
    assert exponent(points) == pytest.approx(power)


def test_an_exponent_needs_two_places() -> None:
    assert math.isnan(exponent([(10, 3.0)]))
    assert math.isnan(exponent([(10, 0.0), (100, 0.0)]))


def test_growth_leaves_out_nothing_and_tells_the_end_from_the_whole() -> None:
    assert GROWTH.line("library") == [(10, 2.0), (100, 2.0)]
    assert (GROWTH.exponent("library"), GROWTH.end("reference")) == (0.0, 1.0)
    three = Growth("g", "t", "x", "ms", {"library": {1: [1.0], 10: [1.0], 100: [10.0]}})
    assert (three.exponent("library"), three.end("library")) == (pytest.approx(0.5), 1.0)


def test_a_ratio_is_that_of_the_medians_and_lies_in_its_interval() -> None:
    library, reference = [1.0, 2.0, 3.0, 2.0, 90.0], [4.0, 4.0, 5.0, 1.0, 4.0]
    figure = Figure("f", "t", "ms", {"library": library, "reference": reference})
    assert (figure.ratio, figure.met) == (0.5, None)
    assert figure.interval is not None
    low, high = figure.interval
    assert low < 0.5 < high
    assert Figure("f", "t", "ms", {"library": library}).ratio is None
    few = {"library": [1.0], "reference": [2.0]}
    assert Figure("f", "t", "ms", few).interval is None


@pytest.mark.parametrize(
    ("target", "library", "reference", "met"),
    [
        (Target(1.0), [3.0], [3.0], True),
        (Target(1.0), [3.1], [3.0], False),
        (Target(1.0, "at least"), [3.0], [3.0], True),
        (Target(1.0, "at least"), [2.9], [3.0], False),
        (Target(1, of="library"), [1, 1, 1], [9], True),
        (Target(1, of="library"), [1, 1, 2], [9], False),
        (Target(1.0), [0.0], [0.0], False),
    ],
)
def test_a_target_is_met_or_it_is_not(
    target: Target, library: list[float], reference: list[float], met: bool
) -> None:
    samples = {"library": library, "reference": reference}
    assert Figure("f", "t", "ms", samples, target).met is met
    assert Figure("f", "t", "ms", samples, target, {"what else": False}).met is False
    assert Figure("f", "t", "ms", samples, None, {"what else": met}).met is met


def test_quartiles_and_noise() -> None:
    assert quartiles([5.0]) == (5.0, 5.0)
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 4.0)
    assert within_noise([1.0, 2.0, 3.0], [2.0, 3.0, 4.0])
    assert not within_noise([1.0, 2.0, 3.0], [7.0, 8.0, 9.0])


def test_what_has_no_number_is_not_whole() -> None:
    assert is_whole(GROWTH)
    assert is_whole(Figure("f", "t", "ms", {"library": [1.0]}))
    assert not is_whole(Figure("f", "t", "ms", {"library": [1.0], "reference": []}))
    assert not is_whole(Figure("f", "t", "ms", {"library": [math.nan]}))
    assert not is_whole(Growth("g", "t", "x", "ms", {"library": {1: []}}))
    assert is_whole(Table("t", "t", ["a"], [["1"]]))
    assert not is_whole(Table("t", "t", ["a"], []))


def test_the_line_of_a_figure_says_it_all() -> None:
    samples = {"library": [1.0, 2.0, 3.0], "reference": [20.0, 20.0, 20.0]}
    figure = Figure("f", "how long", "ms", samples, Target(0.2), {"before lunch": True})
    row = ("how long", "2 (1.50 to 2.50)", "20", "", "ms", "0.1", "", "at most 0.2")
    assert report.rows([figure]) == [(*row, "yes, before lunch")]
    figure.checks["before lunch"] = False
    assert report.rows([figure]) == [(*row, "NO: not before lunch")]
    figure.target, figure.checks = Target(0.05), {}
    assert report.rows([figure])[0][-2:] == ("at most 0.05", "NO")


def test_the_table_of_a_growth_has_its_exponents() -> None:
    assert report.growth(GROWTH) == [
        ("", "0", "10", "100", "exponent", "at the end"),
        ("library", "9", "2", "2", "0.00", "0.00"),
        ("reference", "1", "1", "10", "1.00", "1.00"),
    ]


def test_all_results_are_json_and_markdown() -> None:
    results = [
        Figure("f", "t", "ms", {"library": [1.0], "reference": [0.0]}),
        GROWTH,
        Table("t", "Kept", ["what", "MB"], [["all", "7"]]),
    ]
    json.dumps([each.as_json() for each in results], allow_nan=False)
    page = report.markdown(results, {"commit": "abc"})
    assert "- commit: abc" in page
    assert "| all | 7 |" in page
    assert "](benchmarks/g.svg)" in page


def test_the_picture_of_a_growth_has_a_line_for_each_side_and_its_words() -> None:
    picture = ET.fromstring(draw(GROWTH))  # noqa: S314 - it is ours
    svg = "{http://www.w3.org/2000/svg}"
    lines = [each.attrib["points"].split() for each in picture.iter(f"{svg}polyline")]
    assert [len(points) for points in lines] == [2, 2]
    (_, start), (_, end) = (map(float, each.split(",")) for each in lines[0])
    assert start == end
    (_, start), (_, end) = (map(float, each.split(",")) for each in lines[1])
    assert start > end  # upwards: y counts from the top
    words = {each.text for each in picture.iter(f"{svg}text")}
    assert {"How <it> grows, ms", "messages", "10", "100", "library (exponent 0.00)"} <= words
