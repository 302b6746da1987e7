"""The page's pre- and post-processing against the one of the host, to the last bit, on random pictures."""

import base64
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import edgeseg.devices
from edgeseg.core import records
from edgeseg.core.measurement import Mask
from edgeseg.core.spec import ModelSpec, Stored
from edgeseg.data.preprocess import to_input, to_mask
from edgeseg.worker.bench import decode
from tests.conftest import skip

PAGE = Path(edgeseg.devices.__file__).parent / "browser/page"

SCRIPT = """
import {readFileSync} from "node:fs";
import {toInput, toMask} from "./preprocess.js";
import {encode} from "./mask.js";
const bytes = (text) => { const all = Buffer.from(text, "base64"); return all.buffer.slice(all.byteOffset, all.byteOffset + all.length); };
const text = (array) => Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString("base64");
const out = [];
for (const one of JSON.parse(readFileSync(0, "utf8"))) {
  const image = {...one.image, pixels: new Uint8Array(bytes(one.image.pixels))};
  const output = {...one.output, data: new {float32: Float32Array, uint8: Uint8Array, int8: Int8Array, int64: BigInt64Array}[one.output.dtype](bytes(one.output.data))};
  const mask = toMask(output, one.spec, image.height, image.width);
  out.push({input: text(toInput(image, one.spec)), mask: text(mask), record: await encode("item", "frame", mask, image.height, image.width, one.spec)});
}
console.log(JSON.stringify(out));
"""

BASE = ModelSpec("m", 61, 37, "x", "y")
VARIANTS = [
    {},
    {"color": "bgr", "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
    {"input_layout": "nhwc", "output_layout": "nhwc"},
    {"output_channels": 1, "output_kind": "probabilities"},
    {"output_channels": 1, "output_layout": "nhwc"},
    {"output_channels": 5, "classes": ("a", "b", "c", "d", "e")},
    {"output_channels": 5, "classes": ("a", "b", "c", "d", "e"), "output_layout": "nhwc"},
    {"output_kind": "labels", "output_layout": "nhw"},
    {"input_dtype": "uint8", "input_layout": "nhwc"},
    {"input_stored": Stored(0.0078431, -1), "output_stored": Stored(0.11, 7), "input_layout": "nhwc"},
]
SIZES = [(48, 64), (37, 61), (20, 31), (111, 183), (1, 1)]


def text(array):
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


@pytest.fixture(scope="module")
def cases():
    random = np.random.default_rng(3)
    found = []
    for fields in VARIANTS:
        spec = ModelSpec(
            **{
                **records.to_dict(BASE),
                "states": (),
                "classes": BASE.classes,
                "mean": BASE.mean,
                "std": BASE.std,
                **fields,
            }
        )
        for height, width in SIZES:
            image = random.integers(0, 256, (height, width, 3), np.uint8)
            channels = spec.output_channels
            if spec.output_kind == "labels":
                output = random.integers(0, 2, (1, 37, 61)).astype(np.int64)
            else:
                shape = (1, 37, 61, channels) if spec.output_layout == "nhwc" else (1, channels, 37, 61)
                output = random.normal(0.2, 1, shape).astype(np.float32)
                if spec.output_stored is not None:
                    output = np.clip(output * 40, -128, 127).astype(np.int8)
            found.append((spec, image, output))
    return found


def run(cases, folder, fault=("", "")):
    """What the page's modules make of the cases; `fault` is a text of preprocess.js and what to put in its place."""
    node = shutil.which("node")
    if node is None:
        skip("browser", "no node: apt install nodejs")
    for name in ("preprocess.js", "mask.js"):
        source = (PAGE / name).read_text()
        assert name != "preprocess.js" or fault[0] in source
        (folder / name).write_text(source.replace(*fault) if fault[0] else source)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "run.mjs").write_text(SCRIPT)
    document = [
        {
            "spec": records.to_dict(spec),
            "image": {"height": image.shape[0], "width": image.shape[1], "pixels": text(image)},
            "output": {"height": 37, "width": 61, "dtype": output.dtype.name, "data": text(output)},
        }
        for spec, image, output in cases
    ]
    done = subprocess.run(
        [node, "run.mjs"],
        input=json.dumps(document),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def answers(cases, tmp_path_factory):
    return run(cases, tmp_path_factory.mktemp("js"))


def inputs_differ(cases, answers):
    """In how many cases the input tensor is another one."""
    return sum(
        base64.b64decode(answer["input"]) != to_input(image, spec).tobytes()
        for (spec, image, _), answer in zip(cases, answers, strict=True)
    )


@pytest.mark.parametrize(
    "fault",
    [
        ("(index + 0.5) *", "index *"),
        ("channel : 2 - channel", "2 - channel : channel"),
        ("const round = Math.fround", "const round = (x) => x"),
    ],
)
def test_a_planted_fault_is_seen(cases, tmp_path, fault):
    assert inputs_differ(cases, run(cases, tmp_path, fault)) > len(cases) // 3


def test_input_tensors_are_equal_to_the_last_bit(cases, answers):
    assert inputs_differ(cases, answers) == 0


def test_masks_are_equal(cases, answers):
    for (spec, image, output), answer in zip(cases, answers, strict=True):
        ours = to_mask(output, spec, *image.shape[:2])
        theirs = np.frombuffer(base64.b64decode(answer["mask"]), np.uint8).reshape(ours.shape)
        np.testing.assert_array_equal(theirs, ours, err_msg=f"{spec} {image.shape}")


def test_mask_records_are_read_by_the_host(cases, answers):
    for (spec, image, output), answer in zip(cases, answers, strict=True):
        record = records.from_dict(Mask, answer["record"])
        assert record.bits == (1 if len(spec.classes) == 2 else 8)
        np.testing.assert_array_equal(decode(record), to_mask(output, spec, *image.shape[:2]))
