// ONNX artifacts by onnxruntime-web. The number of threads is fixed when the module is first used: one frame, one setting.

export async function open(place) {
  const {base, threads, accelerator} = place;
  const ort = await import(`${base}onnx/dist/ort.${accelerator === "webgpu" ? "webgpu" : "wasm"}.min.mjs`);
  ort.env.wasm.wasmPaths = new URL(`${base}onnx/dist/`, location.origin).href;
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
  return {
    async load(bytes, spec) {
      const session = await ort.InferenceSession.create(bytes, {
        executionProviders: [accelerator === "webgpu" ? "webgpu" : "wasm"],
        graphOptimizationLevel: "all",
      });
      const channels = spec.input_layout === "nchw";
      const shape = channels ? [1, 3, spec.height, spec.width] : [1, spec.height, spec.width, 3];
      const states = Object.fromEntries(spec.states.map((state) => [
        state.input_name, new ort.Tensor("float32", new Float32Array(state.shape.reduce((a, b) => a * b, 1)), state.shape),
      ]));
      const wanted = [spec.output_name];
      return {
        async run(tensor) {
          const input = new ort.Tensor(spec.input_dtype, tensor, shape);
          const found = await session.run({[spec.input_name]: input, ...states}, wanted);
          const output = found[spec.output_name];
          const data = await output.getData();
          output.dispose();
          return {data, shape: output.dims};
        },
        close: () => session.release(),
      };
    },
  };
}
