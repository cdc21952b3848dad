"""Tests of the placing of labels."""

import itertools

from sacpo_exp.reporting.placement import Box, around, dots, place_labels

BOUNDS = Box(0, 0, 800, 500)


def overlaps(boxes: list[Box]) -> float:
    return sum(one.overlap(other) for one, other in itertools.combinations(boxes, 2))


def test_overlap_and_distance_by_hand() -> None:
    box = Box(0, 0, 4, 2)
    assert box.overlap(Box(3, 1, 6, 6)) == 1
    assert box.overlap(Box(4, 0, 6, 2)) == 0  # side by side
    assert (box.distance((7, 6)), box.distance((2, 1))) == (5, 0)
    assert BOUNDS.holds(box)
    assert not box.holds(BOUNDS)


def test_a_label_stands_in_the_upper_right_corner_of_error_bars() -> None:
    bars = [around((400, 250), 10), Box(300, 249, 500, 251), Box(399, 150, 401, 350)]
    (box,) = place_labels([(400, 250)], [(60, 14)], bars, BOUNDS, gap=10)
    assert box.left >= 410
    assert box.bottom >= 251
    assert box.distance((400, 250)) < 20


def test_labels_of_one_point_do_not_overlap_and_stay_inside() -> None:
    for anchor in ((400.0, 250.0), (60.0, 40.0), (740.0, 460.0)):
        boxes = place_labels([anchor] * 12, [(70, 16)] * 12, [around(anchor, 10)], BOUNDS, gap=10)
        assert overlaps(boxes) == 0
        assert all(BOUNDS.holds(box) for box in boxes)
        assert boxes == place_labels([anchor] * 12, [(70, 16)] * 12, [around(anchor, 10)], BOUNDS, gap=10)


def test_a_label_keeps_off_markers_and_lines() -> None:
    line = dots((400, 250), (800, 500))
    (box,) = place_labels([(400, 250)], [(60, 14)], line, BOUNDS, gap=10)
    assert sum(box.overlap(dot) for dot in line) == 0


def test_a_label_that_fits_nowhere_is_placed_all_the_same() -> None:
    assert len(place_labels([(5, 5)], [(60, 14)], [], Box(0, 0, 10, 10), gap=10)) == 1
