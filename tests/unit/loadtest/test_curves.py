"""Plots of curves: where points lie, and that what is drawn is sound."""

import math
from xml.etree import ElementTree

import pytest

from loadtest.curves import Axis, svg
from loadtest.figures import Plot


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([3.0, 47.0], [0, 10, 20, 30, 40, 50]),
        ([0.0], [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ([100.0], [0, 20, 40, 60, 80, 100]),
    ],
)
def test_an_even_axis(values: list[float], ticks: list[float]) -> None:
    """It begins at nothing, and its ticks are round."""
    assert Axis(values, False).ticks == pytest.approx(ticks)


def test_a_logarithmic_axis() -> None:
    """From a power of ten to one; equal factors are equal distances."""
    axis = Axis([0.0, 2.0, 300.0], True)
    assert axis.ticks == [1, 10, 100, 1000]
    assert axis.share(10) - axis.share(1) == pytest.approx(axis.share(1000) - axis.share(100))
    assert 0 < axis.share(2) < axis.share(300) < 1


@pytest.mark.parametrize("logarithmic", [(False, False), (True, True)])
def test_a_plot_is_sound(logarithmic: tuple[bool, bool]) -> None:
    """Well-formed, with a curve and a key for each line, whatever the names and values are."""
    lines = {"a <b>": [(1.0, 0.0), (10.0, 5.0), (100.0, 2e4)], "none": []}
    root = ElementTree.fromstring(svg(Plot("p", "it's & so", "x", "y", lines, logarithmic)))
    texts = [it.text for it in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"a <b>", "none", "it's & so: y"} <= set(texts)
    circles = list(root.iter("{http://www.w3.org/2000/svg}circle"))
    assert len(circles) == (2 if logarithmic[1] else 3)
    assert all(math.isfinite(float(it.attrib["cy"])) for it in circles)
