// The first image of a small FITS file, as cut-outs are.

const BLOCK = 2880;
const READERS = { "-32": ["getFloat32", 4], "-64": ["getFloat64", 8], 32: ["getInt32", 4], 16: ["getInt16", 2] };

function header(bytes, start) {
  const cards = {};
  for (let place = start; place + 80 <= bytes.length; place += 80) {
    const card = String.fromCharCode(...bytes.subarray(place, place + 80));
    const key = card.slice(0, 8).trim();
    if (key === "END") return { cards, next: start + Math.ceil((place + 80 - start) / BLOCK) * BLOCK };
    if (card[8] === "=") cards[key] ??= card.slice(10).split("/")[0].trim();
  }
  throw new Error("the file ends inside a header");
}

/** @returns {width, height, values: Float64Array (rows upwards), x0, y0: parent pixels of the first one} */
export function readImage(buffer) {
  const bytes = new Uint8Array(buffer), view = new DataView(buffer);
  for (let place = 0; place < bytes.length;) {
    const { cards, next } = header(bytes, place);
    const axes = Number(cards.NAXIS), shape = Array.from({ length: axes }, (_, i) => Number(cards[`NAXIS${i + 1}`]));
    const [method, size] = READERS[cards.BITPIX] ?? ["getUint8", 1];
    const count = axes ? shape.reduce((a, b) => a * b, 1) : 0;
    if (axes === 2 && count) {
      const values = Float64Array.from({ length: count }, (_, i) => view[method](next + i * size, false));
      return { width: shape[0], height: shape[1], values, x0: -Math.round(Number(cards.LTV1 ?? 0)), y0: -Math.round(Number(cards.LTV2 ?? 0)) };
    }
    place = next + Math.ceil((count * size) / BLOCK) * BLOCK;
  }
  throw new Error("the file has no image");
}

export async function fetchImage(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`the service answered ${answer.status}`);
  return readImage(await answer.arrayBuffer());
}
