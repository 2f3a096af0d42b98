// What is sent of a file before it travels: all of its headers, or its first bytes where it is compressed as a whole.

const BLOCK = 2880;
const CARD = 80;
const FIRST_BYTES = 256 << 10;
const MAX_BYTES = 4 << 20;

/** {body, headersOnly, size}; reads kilobytes, however large the file is. */
export async function fileStart(file) {
  const headers = await allHeaders(file);
  if (headers.length > 0) return { body: new Blob(headers), headersOnly: true, size: file.size };
  return { body: file.slice(0, FIRST_BYTES), headersOnly: false, size: file.size };
}

async function allHeaders(file) {
  const found = [];
  let taken = 0;
  let offset = 0;
  while (offset < file.size && taken < MAX_BYTES) {
    const header = await headerAt(file, offset, found.length ? "XTENSION=" : "SIMPLE  =");
    if (header === null || taken + header.length > MAX_BYTES) break;
    found.push(header.bytes);
    taken += header.length;
    offset += header.length + Math.ceil(dataBytes(header.text) / BLOCK) * BLOCK;
  }
  return found;
}

async function headerAt(file, start, begin) {
  let length = 0;
  for (let step = 4 * BLOCK; length < MAX_BYTES; step *= 2) {
    const bytes = new Uint8Array(await file.slice(start, start + length + step).arrayBuffer());
    const text = new TextDecoder("latin1").decode(bytes);
    if (!text.startsWith(begin)) return null;
    for (let card = 0; card + CARD <= text.length; card += CARD) {
      if (text.slice(card, card + CARD).trimEnd() === "END") {
        const whole = Math.ceil((card + CARD) / BLOCK) * BLOCK;
        return whole > bytes.length ? null : { bytes: bytes.slice(0, whole), text: text.slice(0, whole), length: whole };
      }
    }
    if (bytes.length < length + step) return null; // the file ends within its header
    length += step;
  }
  return null;
}

/** Length of the data behind a header, as the standard has it. */
function dataBytes(header) {
  const cards = new Map();
  let groups = false;
  for (let start = 0; start < header.length; start += CARD) {
    const card = header.slice(start, start + CARD);
    const match = /^(\w+) *= +([+-]?\d{1,18})(?: |\/|$)/.exec(card);
    if (match && !cards.has(match[1])) cards.set(match[1], Number(match[2]));
    groups ||= /^GROUPS {2}= {20}T/.test(card);
  }
  const number = Math.min(cards.get("NAXIS") ?? 0, 999);
  let axes = Array.from({ length: number }, (_, axis) => cards.get(`NAXIS${axis + 1}`) ?? 0);
  if (axes.length === 0) return 0;
  if (groups && axes[0] === 0) axes = axes.slice(1);
  const count = (cards.get("GCOUNT") ?? 1) * ((cards.get("PCOUNT") ?? 0) + axes.reduce((product, axis) => product * axis, 1));
  return Math.max((Math.abs(cards.get("BITPIX") ?? 8) >> 3) * count, 0);
}
