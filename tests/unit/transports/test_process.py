import sys
import time

import pytest

from edgeseg.transports.process import Channel, ChannelClosed, ChannelTimeout


def python(code):
    return Channel([sys.executable, "-u", "-c", code])


def test_lines_go_there_and_back():
    channel = python("import sys\nfor line in sys.stdin: print(line.strip().upper())")
    channel.send("one")
    channel.send("x" * 300_000)
    assert channel.receive(timeout_s=20) == b"ONE"
    assert channel.receive(timeout_s=20) == b"X" * 300_000
    channel.close()


def test_silence_ends_after_the_time_limit_and_close_kills():
    channel = python("import time; time.sleep(600)")
    with pytest.raises(ChannelTimeout, match="no answer within"):
        channel.receive(timeout_s=0.3)
    started = time.monotonic()
    channel.close(timeout_s=0.2)
    assert time.monotonic() - started < 10


def test_half_a_line_is_no_answer():
    channel = python("import sys, time; sys.stdout.write('half'); sys.stdout.flush(); time.sleep(600)")
    with pytest.raises(ChannelTimeout):
        channel.receive(timeout_s=1.5)
    channel.close(timeout_s=0.1)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise ValueError('no such kernel')", "ValueError: no such kernel"),
        ("import os; os.abort()", "SIGABRT"),
        ("raise SystemExit(7)", "exit status 7"),
    ],
)
def test_the_last_words_of_a_program_that_ended(code, words):
    channel = python(code)
    with pytest.raises(ChannelClosed, match=words):
        channel.receive(timeout_s=20)
    channel.close()


def test_waiting_costs_no_processor_time():
    """The host sleeps while a device measures: it must not take the core that is being measured."""
    channel = python("import time; time.sleep(1.5); print('done')")
    before = time.process_time()
    channel.receive(timeout_s=30)
    assert time.process_time() - before < 0.1
    channel.close()
