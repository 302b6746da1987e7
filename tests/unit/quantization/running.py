"""Converted networks run on the pictures of a test, in whatever layout the runtime has."""

import numpy as np


def run_converted(backend, conversion, folder, pictures):
    """The output [N, C, H, W] of each picture, which are [N, C, H, W] too."""
    spec = conversion.spec
    session = backend.load(folder / conversion.files[0], spec, threads=1, options=conversion.runtime_options)
    found = []
    for picture in pictures:
        given = picture if spec.input_layout == "nchw" else np.ascontiguousarray(picture.transpose(0, 2, 3, 1))
        out = session.run({spec.input_name: given})[spec.output_name]
        found.append(out if spec.output_layout == "nchw" else out.transpose(0, 3, 1, 2))
    return found
