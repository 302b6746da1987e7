"""A page as a worker, as long as it behaves and when it does not. The visitor here is a script, no browser."""

import itertools
import json
import zlib
from base64 import b64encode

import numpy as np
import pytest

from edgeseg.core import records
from edgeseg.core.device import WorkerLost
from edgeseg.core.errors import DeviceUnreachable, EdgesegError
from edgeseg.core.job import Command, Item
from edgeseg.core.measurement import Failed, Loaded, Mask, Slice
from edgeseg.core.spec import ModelSpec
from edgeseg.devices.browser.phone import Phone
from edgeseg.devices.browser.worker import MAX_TEXT, Shelf, readable
from edgeseg.flows.bench import results
from edgeseg.transports.visitor import Reloaded, VisitorGone, VisitorSilent
from edgeseg.worker.bench import decode

HELLO = {
    "kind": "hello", "schema_version": 1, "software": {"browser": "Firefox"},
    "device": {"board": "Pixel 8", "cores": "8", "id": "1f3a", "isolated": "yes"},
}  # fmt: skip
KEY = "m/onnx-fp32@1"
SLICE = {"kind": "slice", "item": KEY, "warmup_ns": [3], "infer_ns": [2, 2], "prepare_ns": [1], "finish_ns": [1]}
LOADED = {"kind": "loaded", "item": KEY, "runtime": "web", "import_ns": 1, "load_ns": 1, "first_ns": 1}


class Script:
    """A visitor whose page answers each order by `reply(order)`: records, bytes, or an exception to raise."""

    def __init__(self, reply):
        self.reply, self.orders, self.life, self.gone = reply, [], 1, False
        self.about = json.dumps(HELLO).encode()
        self._answers = []

    def send(self, order, *, quiet=False):
        self.orders.append(order)
        if "job" in order or "command" in order:
            given = self.reply(order)
            if isinstance(given, list):
                item = order.get("command", {}).get("item", "")
                lines = [json.dumps(one) for one in [*given, {"kind": "done", "item": item}]]
                given = "\n".join([str(order["id"]), *lines]).encode()
            self._answers.append(given)

    def receive(self, *, life, timeout_s):
        if life != self.life:
            raise Reloaded("again")
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            if isinstance(answer, Reloaded):
                self.life += 1
            raise answer
        return answer

    def clear(self):
        self._answers.clear()


class Turns:
    """One answer after the other."""

    def __init__(self, *answers):
        self._answers = list(answers)

    def __call__(self):
        return self._answers.pop(0)


@pytest.fixture
def shelf():
    shelves = {}
    numbers = itertools.count()

    def offer(content):
        path = f"/api/file/{next(numbers)}"
        shelves[path] = content
        return path

    made = Shelf(offer, lambda path: shelves.pop(path))
    return made, shelves


def start(shelf, tmp_path, reply):
    (tmp_path / "model.onnx").write_bytes(b"model")
    item = Item(KEY, "onnx", "model.onnx", ModelSpec("m", 4, 2, "x", "y"))
    frames = [np.zeros((2, 3, 3), np.uint8)]
    return Phone(Script(reply), shelf[0]).start([(item, tmp_path)], frames, timeout_s=1)


def replies(**given):
    """Answers by what is asked; a well-behaved page for the rest."""
    good = {"load": [LOADED], "measure": [SLICE], "masks": [], "close": []}

    def reply(order):
        if "job" in order:
            job = given.get("job", [HELLO])
            return job() if isinstance(job, Turns) else job
        found = given.get(order["command"]["do"], good[order["command"]["do"]])
        return found.pop(0) if isinstance(found, list) and found and isinstance(found[0], list | Exception) else found

    return reply


def ask(worker, do="measure", **fields):
    return list(worker.ask(Command(do, KEY, **{"runs": 5, **fields}), timeout_s=1))


def test_the_way_of_a_job(shelf, tmp_path):
    worker = start(shelf, tmp_path, replies())
    assert worker.hello.device["board"] == "Pixel 8"
    assert worker.start_ns > 0
    (job,) = [order["job"] for order in worker._visitor.orders]
    assert shelf[1][job["items"][0]["file"]] == b"model"
    assert shelf[1][job["frames"][0]] == bytes([2, 0, 0, 0, 3, 0, 0, 0]) + bytes(18)
    assert isinstance(ask(worker, "load")[0], Loaded)
    assert isinstance(ask(worker)[0], Slice)
    first = worker.send_frames([np.ones((2, 3, 3), np.uint8)])
    second = worker.send_frames([np.ones((2, 3, 3), np.uint8)])
    assert first[0] not in shelf[1]
    assert second[0] in shelf[1]
    worker.close()
    assert shelf[1] == {}
    assert worker._visitor.orders[-1]["stop"] is True


def mask(name, height=2, width=3, bits=1, data=None):
    packed = b64encode(zlib.compress(np.packbits(np.array([1, 0, 0, 0, 1, 1], np.uint8)).tobytes())).decode()
    return {
        "kind": "mask", "item": KEY, "frame": name, "height": height, "width": width, "bits": bits, "data": data or packed,
    }  # fmt: skip


def test_masks(shelf, tmp_path):
    answers = []
    worker = start(shelf, tmp_path, replies(masks=answers))
    (name,) = worker.send_frames([np.ones((2, 3, 3), np.uint8)])
    answers.append(mask(name))
    (found,) = ask(worker, "masks", frames=(name,))
    assert decode(found).tolist() == [[1, 0, 0], [0, 1, 1]]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({**SLICE, "infer_ns": []}, "samples that cannot be"),
        ({**SLICE, "infer_ns": [1] * 6}, "samples that cannot be"),
        ({**SLICE, "infer_ns": [-1]}, "samples that cannot be"),
        ({**SLICE, "warmup_ns": [10**12]}, "samples that cannot be"),
        ({**SLICE, "infer_ns": [1.5]}, "which is no record"),
        ({**SLICE, "infer_ns": ["1"]}, "which is no record"),
        ({**SLICE, "more": 1}, "unknown field 'more'"),
        ({**SLICE, "item": "m/other@1"}, "about something else"),
        (LOADED, "with a record of the kind loaded"),
        (HELLO, "about something else"),
        ({"kind": "session"}, "not a record"),
        (7, "not a record"),
    ],
)
def test_records_that_do_not_fit_are_refused(shelf, tmp_path, answer, reason):
    worker = start(shelf, tmp_path, replies(measure=[answer]))
    with pytest.raises(WorkerLost, match=reason):
        ask(worker)


@pytest.mark.parametrize("fields", [{"height": 3}, {"width": 10**9}, {"bits": 2}, {"name": "/api/file/other"}])
def test_masks_that_do_not_fit_are_refused(shelf, tmp_path, fields):
    answers = []
    worker = start(shelf, tmp_path, replies(masks=answers))
    (name,) = worker.send_frames([np.ones((2, 3, 3), np.uint8)])
    answers.append(mask(**{"name": name, **fields}))
    with pytest.raises(WorkerLost, match="a mask of another size"):
        ask(worker, "masks", frames=(name,))


def test_a_mask_that_swells_is_not_unpacked():
    bomb = b64encode(zlib.compress(bytes(100_000_000), 9)).decode()
    record = records.from_dict(Mask, mask("f", data=bomb))
    import tracemalloc

    tracemalloc.start()
    with pytest.raises(EdgesegError, match="the mask of f has"):
        decode(records.from_dict(Mask, {**mask("f", bits=8), "data": bomb}))
    decode(record)  # one bit a pixel: only as much as there can be is looked at
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


def test_a_failure_is_an_answer_with_a_readable_text(shelf, tmp_path):
    reason = "no\x1b[31m memory\n" + "x" * 1000
    worker = start(shelf, tmp_path, replies(load=[{"kind": "failed", "item": KEY, "reason": reason}]))
    (found,) = ask(worker, "load")
    assert isinstance(found, Failed)
    assert found.reason.startswith("no [31m memory xxx")
    assert len(found.reason) == MAX_TEXT


def test_an_old_answer_is_passed_over(shelf, tmp_path):
    worker = start(shelf, tmp_path, replies())
    worker._visitor._answers.append(b'1\n{"kind": "done", "item": ""}')
    assert isinstance(ask(worker)[0], Slice)


def test_a_reload_tells_the_page_everything_anew(shelf, tmp_path):
    worker = start(shelf, tmp_path, replies(measure=[Reloaded("again"), [SLICE]]))
    ask(worker, "load")
    before = len(worker._visitor.orders)
    assert isinstance(ask(worker)[0], Slice)
    said = [next(iter(set(order) & {"job", "command"})) for order in worker._visitor.orders[before:]]
    assert said == ["command", "job", "command", "command"], "measure; then the job, load, and measure again"
    assert worker._visitor.orders[before + 2]["command"]["do"] == "load"


def test_a_page_that_is_loaded_again_while_it_begins(shelf, tmp_path):
    worker = start(shelf, tmp_path, replies(job=Turns(Reloaded("again"), [HELLO])))
    assert worker.hello.device["board"] == "Pixel 8"
    assert isinstance(ask(worker)[0], Slice)
    with pytest.raises(WorkerLost, match=r"loaded again 3 times"):
        start(shelf, tmp_path, replies(job=Turns(*[Reloaded("again")] * 5)))


def test_a_reload_that_nobody_waited_for_is_noticed_by_every_worker(shelf, tmp_path):
    """Two workers share the page; it is loaded again while the host is busy with something else."""
    worker = start(shelf, tmp_path, replies())
    ask(worker, "load")
    worker._visitor.life += 1
    before = len(worker._visitor.orders)
    assert isinstance(ask(worker)[0], Slice)
    said = [order["command"]["do"] if "command" in order else "job" for order in worker._visitor.orders[before:]]
    assert said == ["job", "load", "measure"]


def test_the_last_table_is_shown_again_after_a_reload(shelf):
    script = Script(None)
    script.reply = Turns(Reloaded("again"), [])
    given = script.send

    def send(order, *, quiet=False):
        given(order, quiet=quiet)
        if "end" in order:
            script._answers.append(script.reply() or b"-1")

    script.send = send
    Phone(script, shelf[0]).finish([{"variant": KEY}], timeout_s=1)
    assert [order["id"] for order in script.orders] == [-1, -1]


def test_a_page_that_keeps_reloading_is_given_up(shelf, tmp_path):
    worker = start(shelf, tmp_path, replies(measure=[Reloaded("again")] * 5))
    with pytest.raises(WorkerLost, match=r"loaded again 3 times \(out of memory\?\)"):
        ask(worker)


@pytest.mark.parametrize("error", [VisitorGone("the page was closed"), VisitorSilent("the page gave no answer")])
def test_a_page_that_goes_away(shelf, tmp_path, error):
    worker = start(shelf, tmp_path, replies(measure=[error]))
    with pytest.raises(WorkerLost, match=error.message):
        ask(worker)
    assert shelf[1] == {}
    with pytest.raises(WorkerLost, match=error.message):
        start(shelf, tmp_path, replies(job=error))


def test_a_phone_says_what_it_is_in_readable_words(shelf):
    script = Script(None)
    script.about = json.dumps(
        {**HELLO, "device": {**HELLO["device"], "board": "../../\x1b]0;evil\x07" + "p" * 999}}
    ).encode()
    phone = Phone(script, shelf[0])
    hello = phone.probe()
    assert "\x1b" not in hello.device["board"]
    assert re_safe(results.device_id("browser", hello))
    assert results.device_id("browser", Phone(Script(None), shelf[0]).probe()) == "browser-pixel-8-1f3a"


def re_safe(name):
    return set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") and len(name) < 255


@pytest.mark.parametrize(
    ("about", "reason"),
    [
        (b"", "without a greeting"),
        (b'{"kind": "loaded"}', "without a greeting"),
        (json.dumps(LOADED).encode(), "'loaded' instead of a greeting"),
        (json.dumps({**HELLO, "device": {str(number): "x" for number in range(99)}}).encode(), "too much of itself"),
    ],
)
def test_a_phone_that_does_not_greet_is_turned_away(shelf, about, reason):
    script = Script(None)
    script.about = about
    with pytest.raises(DeviceUnreachable, match=reason):
        Phone(script, shelf[0])


def test_what_no_browser_runs(shelf, tmp_path):
    item = Item("m/openvino-fp32@1", "openvino", "model.xml", ModelSpec("m", 4, 2, "x", "y"))
    with pytest.raises(WorkerLost, match="openvino does not run in a browser"):
        Phone(Script(None), shelf[0]).start([(item, tmp_path)], [], timeout_s=1)


@pytest.mark.parametrize(
    ("device", "found"),
    [
        ({"webgpu": "ARM Mali", "webgpu_software": "no"}, ("webgpu",)),
        ({"webgpu": "SwiftShader", "webgpu_software": "yes"}, ()),
        ({"webgpu": "", "webgpu_software": "no"}, ()),
        ({}, ()),
    ],
)
def test_a_gpu_that_a_program_plays_is_not_measured(shelf, device, found):
    script = Script(None)
    script.about = json.dumps({**HELLO, "device": device}).encode()
    assert Phone(script, shelf[0]).accelerators == found


def test_readable():
    assert readable("a\tb\n\x00c  d") == "a b c d"
    assert readable("ünïcode ✓") == "ünïcode ✓"
