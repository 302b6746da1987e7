// A mask as a record: one bit a pixel for two classes (most significant bit first), zlib, base64.

export async function encode(item, frame, mask, height, width, spec) {
  const two = spec.output_channels <= 2 && spec.classes.length <= 2;
  const raw = two ? packed(mask) : mask;
  const stream = new Blob([raw]).stream().pipeThrough(new CompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  return {kind: "mask", item, frame, height, width, bits: two ? 1 : 8, data: base64(bytes)};
}

export function packed(mask) {
  const out = new Uint8Array(Math.ceil(mask.length / 8));
  for (let index = 0; index < mask.length; index++) if (mask[index]) out[index >> 3] |= 128 >> (index & 7);
  return out;
}

function base64(bytes) {
  let text = "";
  for (let begin = 0; begin < bytes.length; begin += 0x8000) {
    text += String.fromCharCode(...bytes.subarray(begin, begin + 0x8000));
  }
  return btoa(text);
}
