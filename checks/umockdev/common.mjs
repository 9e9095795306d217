// What both hosts write and read: the device key of a Photon, and an application that is not a multiple of a block.

/** Byte i = (a*i+b) mod 256. */
export const pattern = (a, b, length) => Buffer.from(Array.from({ length }, (_, i) => (a * i + b) & 255));

export const jobs = {
  key: { alternate: 1, address: 34, data: pattern(31, 7, 612) },
  application: { alternate: 0, address: 0x080a0000, data: pattern(13, 5, 20000) },
};

export function same(read, expected, what) {
  if (Buffer.compare(Buffer.from(read), expected) !== 0) {
    throw new Error(`${what}: ${read.byteLength} bytes read are not those written`);
  }
  console.log(`${what}: ${expected.length} bytes are equal`);
}
