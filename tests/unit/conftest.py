"""Sessions of `edgeseg bench` as they would be recorded, with latencies and masks that a test chooses."""

from __future__ import annotations

import shutil
import socket

import numpy as np
import pytest

from edgeseg.core.measurement import Conditions, Hello, Loaded, Slice
from edgeseg.flows.bench import gallery_file
from edgeseg.flows.bench.accuracy import Worst
from edgeseg.flows.bench.results import Accuracy, Cold, End, Round, Session, Sustained, Variant, Writer
from edgeseg.metrics.latency import Interval
from edgeseg.metrics.quality import AgreementScores, QualityScores
from tests.conftest import skip
from tests.unit.fake_adb import FakeAdb

HOT = Conditions(temperature_c=71.0, frequency_mhz=1500.0)


def scores(miou: float) -> QualityScores:
    return QualityScores(12, miou, miou - 0.02, miou - 0.2, miou - 0.3, 0.98, "a.jpg", miou - 0.1)


def agreement(flipped: float) -> AgreementScores:
    return AgreementScores(12, 10**6, round(flipped * 10**6), flipped, 3, 1 - flipped, "a.jpg", 2 * flipped, False)


class Recorder:
    """Writes sessions below a folder."""

    def __init__(self, folder):
        self.folder = folder

    def session(self, models, *, number=0, device="cpu-test-2c", ended="budget", rounds=20, masks=False, sustained=()):
        """Record a session.

        Args:
            models: Artifact name to (median in ms, dataset mIoU); the first is the baseline.
            number: Makes the session's name and seed.
            device: The folder.
            ended: Why the timing ended; empty: the bench was killed.
            rounds: How many.
            masks: Whether to keep pictures for the gallery.
            sustained: Artifact name to medians in ms, one a minute; the device is `HOT`.
        """
        random = np.random.default_rng(number)
        variants = tuple(
            Variant(
                f"m/{name}@1", f"m/{name}", name.split("-")[0], name.split("-")[1], 1, 500_000 + 1000 * i, f"{i:064x}"
            )
            for i, name in enumerate(models)
        )
        hello = Hello({"cpu": "Test CPU", "cores": "2", "memory_bytes": "1000000000"}, {"python": "3.11", "numpy": "2"})
        session = Session(
            f"2026010{1 + number}T000000Z-0000", f"2026-01-0{1 + number}T00:00:00+00:00", "edgeseg bench", device, hello,
            variants, variants[0].key, 60.0, number, "photos", False, 12,
        )  # fmt: skip
        writer = Writer(self.folder / device / f"{session.id}.jsonl")
        writer.write(session)
        for variant in variants:
            loaded = Loaded(variant.key, "onnxruntime 1.0", 50_000_000, 20_000_000, 30_000_000, 90_000_000, {"f32": 70})
            writer.write(Cold(variant.key, 300_000_000, loaded, 95_000_000))
        for index in range(rounds):
            mood = random.normal(1, 0.02)
            for variant, (ms, _) in zip(variants, models.values(), strict=True):
                runs = tuple(int(1e6 * ms * mood * value) for value in random.normal(1, 0.01, 8))
                writer.write(
                    Round(
                        index, index // 2, Slice(variant.key, runs[:1], runs, (2_000_000,), (1_000_000,), Conditions())
                    )
                )
        best = next(iter(models.values()))[1]
        writer.write(Accuracy("reference", scores(best), None, None, None))
        for variant, (_, miou) in zip(variants, models.values(), strict=True):
            loss = Interval(best - miou, best - miou - 0.001, best - miou + 0.001)
            interval = Interval(miou, miou - 0.02, miou + 0.02)
            writer.write(Accuracy(variant.key, scores(miou), agreement(0.001), interval, loss))
        for name, medians in dict(sustained).items():
            for index, ms in enumerate(medians):
                writer.write(Sustained(f"m/{name}@1", index, 60.0 * (index + 1), 100, 1e6 * ms, 1.1e6 * ms, HOT))
        if ended:
            writer.write(End(ended, 60.0))
        writer.close()
        if masks:
            gallery_file.write(writer.path.with_suffix(".masks.npz"), [self._worst(f"m/{name}") for name in models])
        return writer.path

    def _worst(self, artifact):
        from edgeseg.data.dataset import Sample

        image = np.full((60, 80, 3), 128, np.uint8)
        reference = np.zeros((60, 80), np.uint8)
        reference[10:50, 20:60] = 1
        mask = reference.copy()
        mask[10:20, 20:30] = 0
        return Worst(artifact, 0.02, 0.9, Sample("a.jpg", image, None), reference, mask)


@pytest.fixture
def recorder(tmp_path):
    return Recorder(tmp_path / "results")


@pytest.fixture
def adb_server(tmp_path, monkeypatch):
    """A server that the real adb client talks to; its devices run commands here, with programs of `tools` first."""
    if shutil.which("adb") is None:
        skip("adb", "adb is not installed: apt install adb")
    (tmp_path / "tools").mkdir()
    server = FakeAdb(tmp_path / "tools")
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(server.port))
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)
    monkeypatch.delenv("ADB_SERVER_SOCKET", raising=False)
    yield server
    server.close()


@pytest.fixture
def free_port():
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
