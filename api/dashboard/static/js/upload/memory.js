// Unfinished uploads, remembered by this browser: what is needed to know the same file again after a reload.

const KEY = "visitcal.uploads";
const SAMPLE = 16 << 10;

function read() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY));
    return Array.isArray(kept) ? kept : [];
  } catch {
    return [];
  }
}

function write(entries) {
  try {
    localStorage.setItem(KEY, JSON.stringify(entries.slice(-50)));
  } catch { /* private windows keep nothing: the upload itself does not need it */ }
}

export const remembered = () => read();
export const remember = (id, mark) => write([...read().filter((entry) => entry.id !== id), { id, ...mark }]);
export const forget = (id) => write(read().filter((entry) => entry.id !== id));

/** What a file is known by: name, size, time of change and a sum over its first and last bytes. */
export async function markOf(file) {
  const ends = [file.slice(0, SAMPLE), file.slice(Math.max(file.size - SAMPLE, 0))];
  let sum = 0x811c9dc5; // FNV-1a: it tells files apart, it need not withstand anybody
  for (const end of ends) {
    for (const byte of new Uint8Array(await end.arrayBuffer())) sum = Math.imul(sum ^ byte, 0x01000193) >>> 0;
  }
  return { name: file.name, size: file.size, modified: file.lastModified, sum };
}

export function find(mark) {
  return read().find((entry) => ["name", "size", "modified", "sum"].every((part) => entry[part] === mark[part]));
}
