// particle-usb writes without leaving and reads back: node particle-usb.mjs

import particle from 'particle-usb';
import { jobs, same } from './common.mjs';

const devices = await particle.getDevices({ includeDfu: true });
if (devices.length !== 1) throw new Error(`${devices.length} devices found`);
const device = devices[0];
await device.open();
if (!device.isInDfuMode) throw new Error('not in DFU mode');
for (const [name, { alternate, address, data }] of Object.entries(jobs)) {
  await device.writeOverDfu(data, { altSetting: alternate, startAddr: address, noErase: false, leave: false });
  const read = await device.readOverDfu({ altSetting: alternate, startAddr: address, size: data.length });
  same(read, data, `particle-usb, ${name}`);
}
await device.close();
process.exit(0);
