// TFLite artifacts by LiteRT.js. Which build is loaded (threads or not) is fixed at the first load: one frame, one setting.

export async function open(place) {
  const {base, threads, accelerator} = place;
  const lite = await import(`${base}tflite/dist/index.js`);
  await lite.loadLiteRt(`${base}tflite/wasm/`, {threads: threads > 1});
  return {
    async load(bytes, spec) {
      const gpu = accelerator === "webgpu";
      const model = await lite.loadAndCompile(bytes, {
        accelerator: gpu ? "webgpu" : "wasm",
        ...(threads > 1 && !gpu ? {cpuOptions: {numThreads: threads}} : {}),
        ...(gpu ? {gpuOptions: {precision: "fp32"}} : {}),
      });
      const inputs = new Map(model.getInputDetails().map((one) => [one.name, one]));
      const outputs = new Map(model.getOutputDetails().map((one) => [one.name, one]));
      for (const [kind, name, found] of [["input", spec.input_name, inputs], ["output", spec.output_name, outputs]]) {
        if (!found.has(name)) throw new Error(`the file has no ${kind} ${name}; it has ${[...found.keys()].join(", ")}`);
      }
      const shape = [...inputs.get(spec.input_name).shape];
      return {
        async run(tensor) {
          const feeds = {[spec.input_name]: new lite.Tensor(tensor, shape)};
          for (const state of spec.states) {
            feeds[state.input_name] = new lite.Tensor(
              new Float32Array(state.shape.reduce((a, b) => a * b, 1)), [...state.shape],
            );
          }
          const found = await model.run(feeds);
          const output = found[spec.output_name];
          const dims = [...output.type.layout.dimensions];
          const data = (await output.data()).slice();
          for (const one of [...Object.values(feeds), ...Object.values(found)]) if (!one.deleted) one.delete();
          return {data, shape: dims};
        },
        close: () => model.delete(),
      };
    },
  };
}
