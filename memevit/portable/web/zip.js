// A ZIP archive of files as they are (images are compressed already), as a Blob that copies none of them.

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

const MAX_BYTES = 2 ** 32 - 1; // More would need ZIP64.
const UTF8_NAMES = 0x0800;

async function crc32(blob) {
  let crc = 0xffffffff;
  const reader = blob.stream().getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return (crc ^ 0xffffffff) >>> 0;
    for (const byte of value) crc = CRC_TABLE[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  }
}

function record(signature, fields) {
  const bytes = fields.reduce((sum, [size]) => sum + size, 4);
  const view = new DataView(new ArrayBuffer(bytes));
  view.setUint32(0, signature, true);
  let at = 4;
  for (const [size, value] of fields) {
    if (size === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += size;
  }
  return view.buffer;
}

function dosTime(time) {
  const date = new Date(Math.max(time, Date.UTC(1980, 0, 2)));
  const day = ((date.getFullYear() - 1980) << 9) | ((date.getMonth() + 1) << 5) | date.getDate();
  return (((day << 16) >>> 0) | (date.getHours() << 11) | (date.getMinutes() << 5) | (date.getSeconds() >> 1)) >>> 0;
}

/**
 * @param {{path: string, blob: Blob, time: number}[]} entries `path` with forward slashes, `time` in milliseconds
 * @returns {Promise<Blob>}
 */
export async function zip(entries) {
  const parts = [], directory = [];
  let offset = 0, directoryBytes = 0;
  for (const { path, blob, time } of entries) {
    const name = new TextEncoder().encode(path);
    const common = [
      [2, 20], [2, UTF8_NAMES], [2, 0], [4, dosTime(time)], [4, await crc32(blob)], [4, blob.size], [4, blob.size],
      [2, name.length], [2, 0],
    ];
    const local = record(0x04034b50, common);
    const central = record(0x02014b50, [[2, 20], ...common, [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]]);
    parts.push(local, name, blob);
    directory.push(central, name);
    offset += local.byteLength + name.length + blob.size;
    directoryBytes += central.byteLength + name.length;
    if (offset + directoryBytes > MAX_BYTES || directory.length / 2 > 65535) {
      throw new Error("These images are more than one ZIP file can hold (4 GB, 65,535 files). Save fewer at a time.");
    }
  }
  const n = directory.length / 2;
  const end = record(0x06054b50, [[2, 0], [2, 0], [2, n], [2, n], [4, directoryBytes], [4, offset], [2, 0]]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}
