"""Networks of other kinds than ConnectNet, with random weights: no rewrite may slow or change them."""

from __future__ import annotations

import onnx

from tests.unit.graph.rewrites.sketch import Sketch


def unet(
    height: int = 96, width: int = 128, base: int = 16, *, window: int = 2, pads: int = 0
) -> tuple[onnx.ModelProto, str]:
    """A U-Net (Ronneberger et al., 2015) with three levels and transposed convolutions; returns the output's name too."""
    sketch = Sketch(1, height=height, width=width)
    x, skips = "image", []
    for level in range(3):
        for _ in range(2):
            x = sketch.relu(sketch.conv(x, base << level))
        if level < 2:
            skips.append(x)
            x = sketch.op("MaxPool", [x], base << level, kernel_shape=[2, 2], strides=[2, 2])
    for skip in reversed(skips):
        out = sketch.widths[skip]
        shape = (sketch.widths[x], out, window, window)
        weight = sketch.constant((sketch.random.normal(size=shape) / 8).astype("float32"))
        x = sketch.concat(skip, sketch.op("ConvTranspose", [x, weight], out, strides=[2, 2], pads=[pads] * 4))
        for _ in range(2):
            x = sketch.relu(sketch.conv(x, out))
    x = sketch.conv(x, 2, kernel=1)
    return sketch.model(x), x


def overlapping(height: int = 96, width: int = 128) -> tuple[onnx.ModelProto, str]:
    """The U-Net with transposed convolutions whose windows of 4 overlap at stride 2, as most decoders have them."""
    return unet(height, width, window=4, pads=1)


def mobilenet(height: int = 96, width: int = 128) -> tuple[onnx.ModelProto, str]:
    """Inverted residuals with squeeze-and-excite and hard swish (MobileNetV3, arXiv 1905.02244) and a light decoder."""
    sketch = Sketch(2, height=height, width=width)
    x = _swish(sketch, sketch.conv("image", 16, strides=[2, 2]))
    shortcut = x
    for out, expand, stride in ((16, 16, 1), (24, 64, 2), (24, 72, 1), (40, 96, 2), (40, 120, 1)):
        y = _swish(sketch, sketch.conv(x, expand, kernel=1))
        y = _swish(sketch, sketch.depthwise(y, strides=[stride, stride]))
        gate = sketch.op("GlobalAveragePool", [y], expand)
        gate = sketch.relu(sketch.conv(gate, max(8, expand // 4), kernel=1))
        gate = sketch.op("HardSigmoid", [sketch.conv(gate, expand, kernel=1)], expand, alpha=1 / 6, beta=0.5)
        y = sketch.conv(sketch.op("Mul", [y, gate], expand), out, kernel=1)
        x = sketch.op("Add", [x, y], out) if stride == 1 and sketch.widths[x] == out else y
    x = sketch.resize(sketch.relu(sketch.conv(x, 32, kernel=1)), height // 2, width // 2)
    x = sketch.concat(x, sketch.relu(sketch.conv(shortcut, 12, kernel=1)))
    x = sketch.relu(sketch.conv(sketch.depthwise(x), 32, kernel=1))
    x = sketch.resize(sketch.conv(x, 2, kernel=1), height, width)
    return sketch.model(x), x


def _swish(sketch: Sketch, x: str) -> str:
    return sketch.op("HardSwish", [x], sketch.widths[x])
