from edgeseg.metrics.pareto import Point, contested, frontier


def point(cost, value, spread=0.5):
    return Point(cost, cost - spread, cost + spread, value)


def test_frontier():
    points = [point(10, 0.9), point(5, 0.8), point(12, 0.9), point(6, 0.7), point(20, 0.95)]
    assert frontier(points) == [True, True, False, False, True]


def test_equal_points_are_both_on_it():
    assert frontier([point(10, 0.9), point(10, 0.9)]) == [True, True]


def test_contested_by_overlapping_intervals():
    points = [point(10, 0.9), point(10.8, 0.9), point(15, 0.9)]
    assert frontier(points) == [True, False, False]
    assert contested(points) == [False, True, False]


def test_so_little_value_is_no_reason_to_pay_more():
    points = [point(10, 0.9), point(20, 0.9004), point(30, 0.95)]
    assert frontier(points) == [True, True, True]
    assert frontier(points, tolerance=0.001) == [True, False, True]
