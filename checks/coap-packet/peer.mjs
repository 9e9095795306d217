// coap-packet's half: see run. One JSON object a line in both directions.
import assert from 'node:assert/strict';
import { createInterface } from 'node:readline';
import packet from 'coap-packet';

// Option names of RFC 7252, 7641, 7959, since coap-packet shows names.
const numbers = {
  'If-Match': 1, 'Uri-Host': 3, ETag: 4, 'If-None-Match': 5, Observe: 6, 'Uri-Port': 7, 'Location-Path': 8,
  'Uri-Path': 11, 'Content-Format': 12, 'Max-Age': 14, 'Uri-Query': 15, Accept: 17, 'Location-Query': 20, Block2: 23,
  Block1: 27, 'Proxy-Uri': 35, 'Proxy-Scheme': 39, Size1: 60,
};
const names = Object.fromEntries(Object.entries(numbers).map(([name, number]) => [number, name]));
const hex = (buffer) => buffer.toString('hex');
const bytes = (text) => Buffer.from(text, 'hex');

const dotted = (code) => `${code >> 5}.${String(code & 31).padStart(2, '0')}`;
const byte = (code) => {
  const [high, low] = code.split('.').map(Number);
  return (high << 5) | low;
};

// What coap-packet understands, in the fields of both programs.
const fields = (buffer) => {
  const message = packet.parse(buffer);
  const kind = message.confirmable ? 0 : message.ack ? 2 : message.reset ? 3 : 1;
  return {
    kind, code: byte(message.code), id: message.messageId, token: hex(message.token),
    options: message.options.map(({ name, value }) => [numbers[name] ?? Number(name), hex(value)]),
    payload: hex(message.payload),
  };
};

const lines = async (handle) => {
  let count = 0;
  for await (const line of createInterface({ input: process.stdin })) {
    count += 1;
    handle(JSON.parse(line));
  }
  return count;
};

const decode = async () => {
  const seen = { whole: 0, damaged: 0, lenient: 0 };
  await lines(({ hex: text, expected, source }) => {
    if (expected) {
      assert.deepEqual(fields(bytes(text)), expected, `${source}: ${text}`);
      seen[source === 'cut' ? 'damaged' : 'whole'] += 1;
      return;
    }
    // Cut anywhere: we refuse it by the letter. Where coap-packet takes it, it invents a shorter option or token.
    seen.damaged += 1;
    try {
      fields(bytes(text));
      seen.lenient += 1;
    } catch { /* both refuse */ }
  });
  console.log(`coap-packet reads ${seen.whole} messages of ours alike; of ${seen.damaged} cut ones it takes ` +
    `${seen.lenient} that we refuse`);
  assert(seen.whole > 0);
};

// mulberry32
const generator = (seed) => () => {
  seed = (seed + 0x6d2b79f5) | 0;
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
};

const generate = (count, seed) => {
  const random = generator(seed);
  const below = (limit) => Math.floor(random() * limit);
  const some = (length) => Buffer.from(Array.from({ length }, () => below(256)));
  const word = (length) => Array.from({ length }, () => 'abcxyz019_'[below(10)]).join('');
  const pick = (list) => list[below(list.length)];
  // 0 is replaced by a random id: see quirks.
  const id = () => 1 + below(65535);
  const make = ({ kind, code, id, token, options, payload }) => packet.generate({
    confirmable: kind === 0, ack: kind === 2, reset: kind === 3, code: dotted(code), messageId: id, token, payload,
    options: options.map(([number, value]) => ({ name: names[number] ?? String(number), value: Buffer.from(value) })),
  });
  const print = (message, typed) => {
    const expected = {
      kind: message.kind, code: message.code, id: message.id, token: hex(message.token),
      options: message.options.map(([number, value]) => [number, hex(Buffer.from(value))]),
      payload: hex(message.payload),
    };
    console.log(JSON.stringify({ hex: hex(make(message)), expected, typed }));
  };

  const raw = () => {
    const code = below(256);
    if (code === 0) {
      // By RFC 7252 nothing may follow: coap-packet leaves it to its caller.
      return print({ kind: below(4), code, id: id(), token: Buffer.alloc(0), options: [], payload: Buffer.alloc(0) });
    }
    let number = 0;
    const options = Array.from({ length: below(6) }, () => {
      number += pick([below(13), below(13), 13 + below(256), 269 + below(9000)]);
      return [Math.min(number, 65535), some(pick([below(13), below(13), 13 + below(60), 269 + below(20)]))];
    });
    const payload = some(pick([0, below(20), below(100)]));
    if (options.reduce((sum, [, value]) => sum + value.length + 5, payload.length) > 1200) return raw();
    return print({ kind: below(4), code, id: id(), token: some(below(9)), options, payload });
  };

  const typed = () => {
    const message = { kind: 0, code: 2, id: id(), token: some(1), options: [], payload: Buffer.alloc(0) };
    const path = (...parts) => parts.forEach((part) => message.options.push([11, part]));
    const query = (value) => message.options.push([15, value]);
    const name = word(1 + below(12));
    const from = { server: () => ({ from: 'server' }), device: () => ({ from: 'device' }) };
    const kinds = {
      function() {
        const argument = word(below(64));
        path('f', name);
        query(argument);
        return { ...from.server(), name, argument };
      },
      variable() {
        message.code = 1;
        path('v', name);
        return { ...from.server(), name };
      },
      describe() {
        message.code = 1;
        const flags = below(8);
        path('d');
        query([flags]);
        return { ...from.server(), flags };
      },
      signal() {
        message.code = 3;
        const on = below(2) === 1;
        path('s');
        query([on ? 1 : 0]);
        return { ...from.server(), on };
      },
      // As the Brewskey server does: segments, and Max-Age in four bytes.
      publish() {
        const segments = Array.from({ length: 1 + below(4) }, () => word(1 + below(9)));
        const [age, open] = [below(0x1000000), below(2) === 1];
        Object.assign(message, { kind: 1, token: Buffer.alloc(0), payload: Buffer.from(word(below(40))) });
        path(open ? 'e' : 'E', ...segments);
        message.options.push([14, [0, age >> 16, (age >> 8) & 255, age & 255]]);
        return { ...from.server(), name: segments.join('/'), open, age, data: hex(message.payload) };
      },
      // As devices do: one option.
      event() {
        const [full, open] = [`${word(5)}/${name}`, below(2) === 1];
        Object.assign(message, { kind: below(2), token: Buffer.alloc(0), payload: Buffer.from(word(1 + below(40))) });
        path(open ? 'e' : 'E', full);
        return { ...from.device(), name: full, open, data: hex(message.payload) };
      },
      subscribe() {
        Object.assign(message, { code: 1, token: Buffer.alloc(0) });
        path('e', name);
        query('u');
        return { ...from.device(), name };
      },
      hello() {
        Object.assign(message, { kind: 1, token: Buffer.alloc(0), payload: some(8) });
        message.payload[4] = 0;
        path('h');
        return { ...from.device(), payload: hex(message.payload) };
      },
      time() {
        message.code = 1;
        path('t');
        return from.device();
      },
    };
    const kind = pick(Object.keys(kinds));
    const content = kinds[kind]();
    return print(message, { kind, ...content });
  };

  for (let i = 0; i < count; i += 1) (i % 2 ? typed : raw)();
};

// What coap-packet 0.1.14 does that RFC 7252 does not, so that what we say of it stays true.
const quirks = async () => {
  const ids = Array.from({ length: 8 }, () => packet.parse(packet.generate({ messageId: 0 })).messageId);
  assert(new Set(ids).size > 1, 'message id 0 is kept now');
  console.log('quirk: generate replaces message id 0 by another one');

  assert.equal(packet.generate({ code: 4, messageId: 1 })[1], 0x04);
  assert.equal(packet.generate({ code: '4.00', messageId: 1 })[1], 0x80);
  console.log('quirk: the number 4 as a code becomes byte 04, only the text 4.00 becomes 80');

  await lines(({ quirk, hex: text, expected }) => {
    switch (quirk) {
      case 'id-0':
        assert.deepEqual(fields(bytes(text)), expected);
        console.log('no quirk: parse takes message id 0');
        break;
      case 'empty-with-token':
        assert.throws(() => fields(bytes(text)), /Empty messages must be empty/);
        console.log('quirk: parse refuses the empty acknowledgement with a token that the older server sends');
        break;
      case 'bare-marker':
        assert.equal(fields(bytes(text)).payload, '');
        console.log('quirk: parse takes a payload marker without a payload');
        break;
      case 'cut-option': {
        const [[, value]] = fields(bytes(text)).options;
        assert(value.length / 2 < (bytes(text)[4] & 15), 'a cut option is refused now');
        console.log('quirk: parse takes an option that ends behind the message, and cuts it');
        break;
      }
      case 'code-04':
        assert.equal(fields(bytes(text)).code, 4);
        break;
      default: assert.fail(quirk);
    }
  });
  assert.throws(() => packet.generate({ payload: Buffer.alloc(1280) }), /Max packet size is 1280/);
  console.log('quirk: generate makes no message above 1280 bytes');
};

const [command, count, seed] = process.argv.slice(2);
switch (command) {
  case 'decode': await decode(); break;
  case 'generate': generate(Number(count), Number(seed)); break;
  case 'quirks': await quirks(); break;
  default: assert.fail(`unknown command ${command}`);
}
