// The files in a zip, opened in the browser, so that each becomes a case with its name (PKWARE's APPNOTE, 4.3).
// What this does not know (encrypted, zip64, other methods than stored and deflate) is said, not guessed.

const LITTER = /(?:^|\/)(?:__MACOSX\/|\.DS_Store$|\._|Thumbs\.db$|desktop\.ini$|DICOMDIR$)/i;
const END = 0x06054b50, ENTRY = 0x02014b50, TAIL = 22 + 65_535;

/** Whether a file begins as zips do. */
export async function isZip(file) {
  const head = new DataView(await file.slice(0, 4).arrayBuffer());
  return head.byteLength === 4 && [0x04034b50, END].includes(head.getUint32(0, true));
}

/** The files in ``archive``, at most ``most`` of at most ``bytes`` in all. */
export async function unzipped(archive, most, bytes) {
  const start = Math.max(0, archive.size - TAIL);
  const tail = new DataView(await archive.slice(start).arrayBuffer());
  let at = tail.byteLength - 22;
  while (at >= 0 && tail.getUint32(at, true) !== END) at -= 1;
  if (at < 0) throw new Error(`${archive.name}: the archive is damaged: its end is missing.`);
  const count = tail.getUint16(at + 10, true), size = tail.getUint32(at + 12, true), where = tail.getUint32(at + 16, true);
  if (count === 0xffff || where === 0xffffffff) throw new Error(`${archive.name}: the archive is too large to be opened in the browser. Unpack it, and drop the folder.`);
  const directory = new DataView(await archive.slice(where, where + size).arrayBuffer());
  const entries = [...listed(directory, count)].filter(({ name }) => !name.endsWith("/") && !LITTER.test(name));
  if (entries.length > most) throw new Error(`${archive.name}: ${entries.length} files are more than the limit of ${most}.`);
  if (entries.reduce((sum, each) => sum + each.full, 0) > bytes) throw new Error(`${archive.name}: its files are larger than the limit of ${Math.round(bytes / 1e6)} MB.`);
  entries.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
  const files = [];
  for (const entry of entries) files.push(await member(archive, entry));
  if (!files.length) throw new Error(`${archive.name}: the archive holds no file.`);
  return files;
}

function* listed(directory, count) {
  for (let at = 0, number = 0; number < count; number += 1) {
    if (at + 46 > directory.byteLength || directory.getUint32(at, true) !== ENTRY) throw new Error("The archive is damaged: its list of files is cut.");
    const short = (offset) => directory.getUint16(at + offset, true), long = (offset) => directory.getUint32(at + offset, true);
    const name = new TextDecoder().decode(new Uint8Array(directory.buffer, directory.byteOffset + at + 46, short(28)));
    yield { name, flags: short(8), method: short(10), packed: long(20), full: long(24), offset: long(42) };
    at += 46 + short(28) + short(30) + short(32);
  }
}

async function member(archive, entry) {
  if (entry.flags & 1) throw new Error(`${archive.name}: the archive is encrypted. Unpack it first.`);
  if (![0, 8].includes(entry.method)) throw new Error(`${archive.name}: the archive is packed in a way that the browser does not know. Unpack it first.`);
  const head = new DataView(await archive.slice(entry.offset, entry.offset + 30).arrayBuffer());
  const begin = entry.offset + 30 + head.getUint16(26, true) + head.getUint16(28, true);
  const packed = archive.slice(begin, begin + entry.packed);
  const data = entry.method === 0 ? packed : await inflated(packed, entry.full, archive.name);
  return new File([data], entry.name.split("/").pop());
}

/** Not more than the list of files says: what inflates beyond it is a trap. */
async function inflated(packed, full, name) {
  const reader = packed.stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader(), parts = [];
  for (let size = 0; ;) {
    const { done, value } = await reader.read().catch(() => { throw new Error(`${name}: the archive is damaged.`); });
    if (done) return new Blob(parts);
    size += value.length;
    if (size > full) { reader.cancel(); throw new Error(`${name}: the archive inflates to more than it says.`); }
    parts.push(value);
  }
}
