// Image → input tensor and output tensor → mask, as a ModelSpec says: edgeseg/data/preprocess.py in JavaScript, to the
// last bit. Every intermediate value is rounded to float32 (Math.fround) where numpy computes in float32.

const round = Math.fround;

/** For each target position: the two source positions that it mixes, and the weight of the second (float32). */
function taps(source, target) {
  const low = new Int32Array(target), high = new Int32Array(target), weight = new Float32Array(target);
  for (let index = 0; index < target; index++) {
    const position = Math.min(Math.max((index + 0.5) * (source / target) - 0.5, 0), source - 1);
    low[index] = Math.floor(position);
    high[index] = Math.min(low[index] + 1, source - 1);
    weight[index] = position - low[index];
  }
  return {low, high, weight};
}

/**
 * Resize one plane, bilinear with half-pixel centres: rows first, then columns.
 * @param at Pixel number to value; a function, so that an interleaved image need not be split first.
 * @returns Float32Array of height * width.
 */
function resize(at, sourceHeight, sourceWidth, height, width) {
  const out = new Float32Array(height * width);
  if (sourceHeight === height && sourceWidth === width) {
    for (let index = 0; index < out.length; index++) out[index] = at(index);
    return out;
  }
  const down = taps(sourceHeight, height), across = taps(sourceWidth, width);
  const row = new Float32Array(sourceWidth);
  for (let y = 0, place = 0; y < height; y++) {
    const top = down.low[y] * sourceWidth, bottom = down.high[y] * sourceWidth, share = down.weight[y];
    for (let x = 0; x < sourceWidth; x++) {
      const first = at(top + x);
      row[x] = first + round(round(at(bottom + x) - first) * share);
    }
    for (let x = 0; x < width; x++) {
      const first = row[across.low[x]];
      out[place++] = first + round(round(row[across.high[x]] - first) * across.weight[x]);
    }
  }
  return out;
}

/**
 * Half to even, as numpy's rint.
 */
function rint(value) {
  const floor = Math.floor(value), rest = value - floor;
  return rest < 0.5 || (rest === 0.5 && floor % 2 === 0) ? floor : floor + 1;
}

/**
 * One image as the network's input tensor.
 * @param image {height, width, pixels: Uint8Array, step}: RGB with `step` bytes a pixel (3; a canvas has 4).
 * @returns Float32Array or Uint8Array, in the spec's layout, batch 1.
 */
export function toInput(image, spec) {
  const {height, width} = spec, size = height * width, step = image.step ?? 3;
  const out = spec.input_dtype === "uint8" ? new Uint8Array(3 * size) : new Float32Array(3 * size);
  const last = spec.input_layout === "nhwc";
  for (let channel = 0; channel < 3; channel++) {
    const source = spec.color === "rgb" ? channel : 2 - channel;
    const pixels = image.pixels;
    const plane = resize((index) => pixels[index * step + source], image.height, image.width, height, width);
    const scale = round(1 / (255 * spec.std[channel])), shift = round(-spec.mean[channel] / spec.std[channel]);
    const begin = last ? channel : channel * size, stride = last ? 3 : 1;
    if (spec.input_dtype === "uint8") {
      for (let index = 0; index < size; index++) out[begin + index * stride] = rint(plane[index]);
    } else {
      for (let index = 0; index < size; index++) out[begin + index * stride] = round(plane[index] * scale) + shift;
    }
  }
  return out;
}


/**
 * The mask of one image.
 * @param output The network's output tensor, flat, with its own height and width: {data, height, width}.
 * @returns Uint8Array of height * width class indices.
 */
export function toMask(output, spec, height, width) {
  const {data} = output, mask = new Uint8Array(height * width), size = output.height * output.width;
  if (spec.output_kind === "labels") {
    for (let y = 0, place = 0; y < height; y++) {
      const row = Math.floor((y + 0.5) * (output.height / height)) * output.width;
      for (let x = 0; x < width; x++) mask[place++] = Number(data[row + Math.floor((x + 0.5) * (output.width / width))]);
    }
    return mask;
  }
  const last = spec.output_layout === "nhwc", channels = spec.output_channels;
  const value = last ? (channel, index) => data[index * channels + channel] : (channel, index) => data[channel * size + index];
  if (channels <= 2) {
    // Two classes are one difference, foreground minus background; one channel is a logit, or a probability minus 0.5.
    const score = new Float32Array(size);
    const half = spec.output_kind === "probabilities" ? 0.5 : 0;
    for (let index = 0; index < size; index++) {
      score[index] = channels === 2 ? value(1, index) - value(0, index) : value(0, index) - half;
    }
    const plane = resize((index) => score[index], output.height, output.width, height, width);
    for (let index = 0; index < mask.length; index++) mask[index] = plane[index] > 0 ? 1 : 0;
    return mask;
  }
  let best = null;
  for (let channel = 0; channel < channels; channel++) {
    const plane = resize((index) => value(channel, index), output.height, output.width, height, width);
    if (best === null) {
      best = plane;
      continue;
    }
    for (let index = 0; index < mask.length; index++) {
      if (plane[index] > best[index]) {
        best[index] = plane[index];
        mask[index] = channel;
      }
    }
  }
  return mask;
}
