from dataclasses import replace

import pytest

from edgeseg.core.backend import Work, convolution
from edgeseg.forecast import boards, roofline
from edgeseg.forecast.boards import BOARDS
from edgeseg.forecast.roofline import FITTED, OVERHEAD_S

PI3, PI4, PI5 = BOARDS
SMALL = Work("pointwise", 10_000_000, 1000, 10_000, 10_000)
"""Its tensors fit into every cache."""


def seconds(work, board, threads=1, float_precision="f32", integer_precision="i8"):
    return sum(cost.seconds for cost in roofline.costs(work, board, threads, float_precision, integer_precision))


def test_kernels_by_name():
    assert convolution(1, 16, (1, 1)) == "pointwise"
    assert convolution(1, 16, (3, 3)) == "dense"
    assert convolution(16, 16, (3, 3)) == "depthwise"
    assert convolution(4, 16, (3, 3)) == "dense"
    assert convolution(1, 1, (3, 3)) == "dense"


def test_multiplications_take_the_cycles_of_the_core():
    expected = 10_000_000 / (4 * FITTED.out_of_order * 1.8e9) + OVERHEAD_S
    assert seconds([SMALL], PI4) == pytest.approx(expected)
    assert seconds([SMALL], PI3) == pytest.approx(10_000_000 / (4 * FITTED.in_order * 1.4e9) + OVERHEAD_S)
    for kernel, share in (
        ("depthwise", FITTED.depthwise),
        ("transposed", FITTED.transposed),
        ("dense", 1),
        ("matrix", 1),
    ):
        one = replace(SMALL, kernel=kernel)
        assert seconds([one], PI4) - OVERHEAD_S == pytest.approx((expected - OVERHEAD_S) / share), kernel


def test_threads_help_up_to_the_cores_and_less_than_their_number():
    one, four = seconds([SMALL], PI4), seconds([SMALL], PI4, threads=4)
    assert one / 4 < four < one / 2
    assert seconds([SMALL], PI4, threads=16) == four


def test_what_does_not_fit_into_the_cache_waits_for_memory_and_threads_do_not_help():
    large = Work("pointwise", 1000, 1000, 4_000_000, 4_000_000)
    (cost,) = roofline.costs([large], PI4, 1, "f32", "i8")
    assert cost.memory_seconds == cost.seconds
    assert cost.seconds == pytest.approx(FITTED.traffic * 4 * 12_000_000 / 5e9 + OVERHEAD_S)
    assert seconds([large], PI4, threads=4) == cost.seconds
    assert seconds([large], PI3) > 2 * cost.seconds


def test_weights_that_stay_in_the_cache_cost_nothing():
    heavy = Work("matrix", 1_000_000, 1_000_000, 1000, 1000)
    assert seconds([heavy], PI4) == pytest.approx(4e6 / 5e9 + OVERHEAD_S), "4 MB are read from memory in each run"
    light = Work("matrix", 100_000, 100_000, 1000, 1000)
    assert seconds([light], PI4) < 4e5 / 5e9


def test_integers_pay_by_what_the_core_has_for_them():
    """A Cortex-A76 has dot products, 32 a cycle against 8; the others have none."""
    quantised = replace(SMALL, integer=True)

    def gain(board):
        return (seconds([SMALL], board) - OVERHEAD_S) / (seconds([quantised], board) - OVERHEAD_S)

    assert gain(PI3) == pytest.approx(4 / 3)
    assert gain(PI4) == pytest.approx(2)
    assert gain(PI5) == pytest.approx(4)


def test_float_layers_of_an_int8_artifact_count_as_float():
    mixed = [SMALL, replace(SMALL, integer=True)]
    found = {cost.executes: cost for cost in roofline.costs(mixed, PI5, 1, "f32", "i8")}
    assert found["f32"].seconds - OVERHEAD_S == pytest.approx(4 * (found["i8"].seconds - OVERHEAD_S))


def test_half_precision_is_computed_where_the_core_has_it():
    """OpenVINO on Arm: INT8 and fp16 artifacts run in f16 on a Pi 5, and in f32 on the older ones."""
    quantised = [replace(SMALL, integer=True)]
    assert [roofline.costs(quantised, board, 1, "f16", "f16")[0].executes for board in BOARDS] == ["f32", "f32", "f16"]
    assert seconds(quantised, PI4, integer_precision="f16", float_precision="f16") == seconds([SMALL], PI4)


def test_costs_are_summed_by_kernel_and_the_largest_comes_first():
    other = Work("other", 0, 0, 5000, 5000)
    found = roofline.costs([other, SMALL, other, SMALL], PI5, 1, "f32", "i8")
    assert [(cost.kernel, cost.operators, cost.macs) for cost in found] == [
        ("pointwise", 2, 20_000_000),
        ("other", 2, 0),
    ]
    assert found[1].bytes == 2 * 4 * 10_000


@pytest.mark.parametrize(
    ("device", "key"),
    [
        ({"board": "Raspberry Pi 4 Model B Rev 1.4", "soc": "bcm2711"}, "pi4"),
        ({"board": "Raspberry Pi 5 Model B Rev 1.0", "soc": "bcm2712"}, "pi5"),
        ({"board": "Raspberry Pi 3 Model B Plus Rev 1.3", "soc": "bcm2837"}, "pi3"),
        ({"board": "Raspberry Pi Compute Module 4 Rev 1.1", "soc": "bcm2711"}, "pi4"),
        ({"board": "Raspberry Pi Zero 2 W Rev 1.0", "soc": "bcm2837"}, None),
        ({"board": "Orange Pi 5", "soc": "rk3588"}, None),
        ({"cpu": "AMD EPYC"}, None),
    ],
)
def test_a_board_is_recognised(device, key):
    board = boards.recognise(device)
    assert (board.key if board else None) == key
