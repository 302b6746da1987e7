"""The runtimes that run inside the page: pinned npm packages, and what is served of them."""

from __future__ import annotations

from edgeseg.core.npm import Bundle, Package

BUNDLE = Bundle(
    name="browser",
    packages=(
        Package(
            name="onnxruntime-web",
            version="1.30.0",
            integrity=(
                "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
            ),
            folder="onnx",
            files=(
                "dist/ort.wasm.min.mjs",
                "dist/ort-wasm-simd-threaded.mjs",
                "dist/ort-wasm-simd-threaded.wasm",
                "dist/ort.webgpu.min.mjs",
                "dist/ort-wasm-simd-threaded.asyncify.mjs",
                "dist/ort-wasm-simd-threaded.asyncify.wasm",
            ),
        ),
        Package(
            name="@litertjs/core",
            version="2.5.3",
            integrity=(
                "sha512-PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1kCnN4nzWoyJQ=="
            ),
            folder="tflite",
            files=(
                "dist/index.js",
                "wasm/litert_wasm_internal.js",
                "wasm/litert_wasm_internal.wasm",
                "wasm/litert_wasm_compat_internal.js",
                "wasm/litert_wasm_compat_internal.wasm",
                "wasm/litert_wasm_threaded_internal.js",
                "wasm/litert_wasm_threaded_internal.wasm",
                "wasm/litert_wasm_jspi_internal.js",
                "wasm/litert_wasm_jspi_internal.wasm",
            ),
        ),
        Package(
            name="@litertjs/wasm-utils",
            version="2.5.3",
            integrity=(
                "sha512-4fJiw6tBQnIs+0jH/OQ16nYOiSl8/+zZnn5h2ul8aTKHi05sVqZW580Tmk78pC2kT39A9OYBVdFawteZ/sI1kQ=="
            ),
            folder="wasm-utils",
            files=("dist/index.js",),
        ),
    ),
    install_command="edgeseg doctor --install browser",
    download="45 MB",
)

BACKENDS = ("onnx", "tflite")
"""Artifacts of these backends run in a page."""

VERSIONS = {package.folder: f"{package.name} {package.version}" for package in BUNDLE.packages}
"""What a record calls the runtime of a backend."""

IMPORTS = {"@litertjs/wasm-utils": "wasm-utils/dist/index.js"}
"""Bare names that the packages import, as an import map needs them, below the runtimes' folder."""
