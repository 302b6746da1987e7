"""INT8 from one calibration, for every runtime.

In the order of the work: `contract` looks at the calibration pictures before anything is computed, `placement` decides
which tensors of a graph share a scale, `equalisation` gives the channels of a tensor one range, `ranges` watches the
float network on the pictures, `simulation` runs the network as if it were quantised, `selection` chooses ranges and the
layers that stay in float by what they do to the mask, and `qdq` writes the choice down as an ONNX graph with Q/DQ pairs.
`alternatives` are other people's quantisers behind the same call.
"""
