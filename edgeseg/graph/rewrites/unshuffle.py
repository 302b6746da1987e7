"""Channel shuffles and splits vanish into the order of the neighbouring convolutions' weights.

Behind a shuffle network's splits, concatenations and shuffles every channel is read where it was made (`graph.views`). A
convolution may write its filters in any order, so each value is written in the order in which its readers come; every
reader then takes whole runs of channels, and none has to be moved one by one.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np

from edgeseg.graph import channels
from edgeseg.graph.channels import PLACE, Layout, Region
from edgeseg.graph.net import Net
from edgeseg.graph.rewriting import ANY, Rewrite, Target
from edgeseg.graph.views import View, Views

MOST_RUNS = 12
"""If any value would have to be put together from more pieces than this, the graph stays as it was."""

PIECES = {"tflite": 4, ANY: 4}
"""Backend to what one concatenation may join: XNNPACK leaves longer ones to slower kernels, and cuts the graph there."""


@dataclass(frozen=True)
class Need:
    """A value that something computes with and that is made of the channels of others.

    Attributes:
        name: The value.
        view: Where its channels are made.
    """

    name: str
    view: View


def apply(net: Net, target: Target) -> int:
    """Remove all shuffles whose channels come from convolutions; returns how many."""
    views = Views(net)
    needs = _needs(net, views)
    if not views.shuffles:
        return 0
    trial = copy.deepcopy(net)
    for need in needs:
        _place(trial, need)
    trial.sweep()
    regions, layouts = _orders(trial, needs)
    for region in regions:
        layout = layouts[min(region.values)]
        if not channels.lay_out(trial, region, dict.fromkeys(region.values, layout)):
            return 0
    for need in needs:
        runs = _runs(need.view, layouts, layouts.get(need.name, tuple(range(len(need.view)))))
        if len(runs) > MOST_RUNS:
            return 0
        _write(trial, need.name, runs, PIECES.get(target.backend, MOST_RUNS))
    vars(net).update(vars(trial))
    return len(views.shuffles)


def _needs(net: Net, views: Views) -> list[Need]:
    """What is read by something that computes, or is an output, and is only a view; in the graph's order."""
    moving = views.moving()
    read = {name for node in net.nodes if id(node) not in moving for name in node.input}
    found = []
    for node in net.nodes:
        for name in node.output:
            if id(node) in moving and net.is_image(name) and (name in read or name in net.outputs):
                found.append(Need(name, views.of(name)))
    return found


def _place(net: Net, need: Need) -> None:
    """Put a placeholder where a need is made: it reads all sources, and its own channels are in no order yet."""
    for node in net.nodes:
        for place, name in enumerate(node.output):
            if name == need.name:
                node.output[place] = net.fresh(f"{name}.moved")
    net.add(PLACE, dict.fromkeys(source for source, _ in need.view), need.name)


def _orders(net: Net, needs: list[Need]) -> tuple[list[Region], dict[str, Layout]]:
    """The regions whose channels are moved, and the layout of each of their values.

    Regions are ordered one after the other, sources first. One that convolutions write is sorted by who reads which
    channel; one that a need begins takes the runs of its sources as they come.
    """
    by_need = {need.name: need for need in needs}
    turn = {need.name: index for index, need in enumerate(needs)}
    asked: dict[tuple[str, int], list[int]] = {}
    for need in needs:
        for pair in dict.fromkeys(need.view):
            asked.setdefault(pair, []).append(turn[need.name])
    regions: list[Region] = []
    layouts: dict[str, Layout] = {}
    for node in net.nodes:  # sorted: what a node reads was made, and laid out, before
        for name in node.output:
            if name in layouts or not net.is_image(name):
                continue
            region = channels.region(net, name)
            width = net.shapes[name][1]
            order = list(range(width))
            if not region.open:
                begun = [value for value in region.values if value in by_need]
                if begun:
                    first = by_need[min(begun, key=turn.__getitem__)]
                    order.sort(key=lambda channel: _position(first.view[channel], layouts))
                else:
                    order.sort(key=lambda channel: [asked.get((value, channel), []) for value in sorted(region.values)])
                if order != list(range(width)):
                    regions.append(region)
            for value in {name} if region.open else region.values:
                layouts[value] = tuple(order)
    return regions, layouts


def _position(pair: tuple[str, int], layouts: dict[str, Layout]) -> tuple[str, int]:
    """Where a channel lies: its source, and its place there."""
    source, channel = pair
    return source, layouts[source].index(channel) if source in layouts else channel


def _runs(view: View, layouts: dict[str, Layout], order: Layout) -> list[tuple[str, int, int]]:
    """The pieces (source, first place, end) of which a need is put together."""
    runs: list[tuple[str, int, int]] = []
    for channel in order:
        source, place = _position(view[channel], layouts)
        if runs and runs[-1][0] == source and runs[-1][2] == place:
            runs[-1] = (source, runs[-1][1], place + 1)
        else:
            runs.append((source, place, place + 1))
    return runs


def _write(net: Net, name: str, runs: list[tuple[str, int, int]], most: int) -> None:
    """Replace a placeholder by slices and concatenations of at most `most` pieces."""
    net.remove([node for node in net.nodes if node.op_type == PLACE and node.output[0] == name])
    pieces = []
    for source, low, high in runs:
        if (low, high) == (0, net.shapes[source][1]):
            pieces.append(source)
            continue
        bounds = [net.constant(np.array([value], np.int64), f"{name}.bound") for value in (low, high, 1)]
        pieces.append(net.add("Slice", [source, *bounds], net.fresh(f"{name}.run")))
    while len(pieces) > most:
        pieces[:most] = [net.add("Concat", pieces[:most], net.fresh(f"{name}.some"), axis=1)]
    if len(pieces) == 1:
        net.add("Identity", pieces, name)
    else:
        net.add("Concat", pieces, name, axis=1)


REWRITE = Rewrite(order=60, pays=("*",), apply=apply)
