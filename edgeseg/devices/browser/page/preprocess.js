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
 * @param source {data, begin, step, height, width}: value `index` of the plane is data[begin + index * step].
 * @returns Float32Array of height * width.
 */
function resize({data, begin, step, height: sourceHeight, width: sourceWidth}, height, width) {
  const out = new Float32Array(height * width);
  if (sourceHeight === height && sourceWidth === width) {
    for (let index = 0; index < out.length; index++) out[index] = data[begin + index * step];
    return out;
  }
  const down = taps(sourceHeight, height), across = taps(sourceWidth, width);
  const {low, high, weight} = across;
  const row = new Float32Array(sourceWidth);
  for (let y = 0, place = 0; y < height; y++) {
    const top = begin + down.low[y] * sourceWidth * step, bottom = begin + down.high[y] * sourceWidth * step;
    const share = down.weight[y];
    for (let x = 0, at = 0; x < sourceWidth; x++, at += step) {
      const first = data[top + at];
      row[x] = first + round(round(data[bottom + at] - first) * share);
    }
    for (let x = 0; x < width; x++) {
      const first = row[low[x]];
      out[place++] = first + round(round(row[high[x]] - first) * weight[x]);
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
 * @returns Float32Array, Uint8Array or (with input_stored) Int8Array, in the spec's layout, batch 1.
 */
export function toInput(image, spec) {
  const {height, width} = spec, size = height * width, step = image.step ?? 3;
  const stored = spec.input_stored;
  const kind = spec.input_dtype === "uint8" ? Uint8Array : stored ? Int8Array : Float32Array;
  const out = new kind(3 * size);
  const last = spec.input_layout === "nhwc";
  for (let channel = 0; channel < 3; channel++) {
    const source = {data: image.pixels, begin: spec.color === "rgb" ? channel : 2 - channel, step, height: image.height, width: image.width};
    const plane = resize(source, height, width);
    const scale = round(1 / (255 * spec.std[channel])), shift = round(-spec.mean[channel] / spec.std[channel]);
    const begin = last ? channel : channel * size, stride = last ? 3 : 1;
    if (spec.input_dtype === "uint8") {
      for (let index = 0; index < size; index++) out[begin + index * stride] = rint(plane[index]);
    } else if (stored) {
      const unit = round(stored.scale);
      for (let index = 0; index < size; index++) {
        const real = round(round(plane[index] * scale) + shift);
        out[begin + index * stride] = Math.min(Math.max(rint(round(real / unit)) + stored.zero, -128), 127);
      }
    } else {
      for (let index = 0; index < size; index++) out[begin + index * stride] = round(plane[index] * scale) + shift;
    }
  }
  return out;
}

/** What int8 values stand for, as numpy computes it in float32. */
function real(values, {scale, zero}) {
  const unit = round(scale);
  return Float32Array.from(values, (value) => (value - zero) * unit);
}

/**
 * The mask of one image.
 * @param output The network's output tensor, flat, with its own height and width: {data, height, width}.
 * @returns Uint8Array of height * width class indices.
 */
export function toMask(output, spec, height, width) {
  const data = spec.output_stored ? real(output.data, spec.output_stored) : output.data;
  const mask = new Uint8Array(height * width), size = output.height * output.width;
  if (spec.output_kind === "labels") {
    for (let y = 0, place = 0; y < height; y++) {
      const row = Math.floor((y + 0.5) * (output.height / height)) * output.width;
      for (let x = 0; x < width; x++) mask[place++] = Number(data[row + Math.floor((x + 0.5) * (output.width / width))]);
    }
    return mask;
  }
  const channels = spec.output_channels, nested = spec.output_layout === "nhwc";
  const begin = (channel) => (nested ? channel : channel * size), step = nested ? channels : 1;
  if (channels <= 2) {
    // Two classes are one difference, foreground minus background; one channel is a logit, or a probability minus 0.5.
    const score = new Float32Array(size), half = channels === 1 && spec.output_kind === "probabilities" ? 0.5 : 0;
    for (let index = 0; index < size; index++) {
      score[index] = channels === 2 ? data[begin(1) + index * step] - data[index * step] : data[index] - half;
    }
    const plane = resize({data: score, begin: 0, step: 1, height: output.height, width: output.width}, height, width);
    for (let index = 0; index < mask.length; index++) mask[index] = plane[index] > 0 ? 1 : 0;
    return mask;
  }
  let best = null;
  for (let channel = 0; channel < channels; channel++) {
    const plane = resize({data, begin: begin(channel), step, height: output.height, width: output.width}, height, width);
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
