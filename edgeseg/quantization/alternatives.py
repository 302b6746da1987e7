"""Other people's quantisers behind the same command, to compare with: ONNX Runtime's and NNCF's."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeseg.core import plugins
from edgeseg.core.arrays import Array
from edgeseg.core.errors import GraphError

if TYPE_CHECKING:
    import onnx


def ort_static(model: onnx.ModelProto, feeds: Iterable[Mapping[str, Array]], *, signed: bool) -> onnx.ModelProto:
    """ONNX Runtime's `quantize_static` with its defaults: QDQ, min-max, weights per channel.

    Args:
        model: fp32.
        feeds: The calibration inputs.
        signed: Activations in int8, which TFLite needs, in place of uint8.
    """
    quantization = plugins.require("onnxruntime.quantization", extra="", what="--method ort")

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self._feeds: Iterator[Mapping[str, Array]] = iter(feeds)

        def get_next(self) -> dict[str, Array] | None:
            feed = next(self._feeds, None)
            return None if feed is None else dict(feed)

    activation = quantization.QuantType.QInt8 if signed else quantization.QuantType.QUInt8

    def run(before: Path, after: Path) -> None:
        quantization.quantize_static(
            str(before), str(after), Reader(), per_channel=True, activation_type=activation,
            weight_type=quantization.QuantType.QInt8,
        )  # fmt: skip

    return _through_files(model, run, "quantize_static")


def ort_dynamic(model: onnx.ModelProto) -> onnx.ModelProto:
    """ONNX Runtime's `quantize_dynamic`: int8 weights, the range of every activation looked for at run time."""
    quantization = plugins.require("onnxruntime.quantization", extra="", what="--method dynamic")

    def run(before: Path, after: Path) -> None:
        # Signed weights have no kernel in ConvInteger on the CPU.
        quantization.quantize_dynamic(str(before), str(after), weight_type=quantization.QuantType.QUInt8)

    return _through_files(model, run, "quantize_dynamic")


def nncf_static(model: onnx.ModelProto, feeds: Iterable[Mapping[str, Array]], count: int) -> Any:
    """NNCF's post-training quantisation with its defaults.

    Returns:
        An `openvino.Model`.
    """
    nncf = plugins.require("nncf", extra="nncf", what="--method nncf")
    ov = plugins.require("openvino", extra="openvino", what="--method nncf")
    network = ov.Core().read_model(model.SerializeToString())
    return nncf.quantize(network, nncf.Dataset(list(feeds)), subset_size=count)


def _through_files(model: onnx.ModelProto, run: Any, what: str) -> onnx.ModelProto:
    import logging

    import onnx

    level = logging.getLogger().level
    with tempfile.TemporaryDirectory(prefix="edgeseg-") as folder:
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        onnx.save(model, before)
        logging.getLogger().setLevel(logging.ERROR)  # it advises pre-processing steps that have been done
        try:
            run(before, after)
            return onnx.load(after)
        except Exception as error:  # whatever the tool stumbles over
            raise GraphError(
                f"ONNX Runtime's {what} cannot quantise this network: {error}", "--method edgeseg"
            ) from error
        finally:
            logging.getLogger().setLevel(level)
