// webdfu over the WebUSB of npm's usb: node webdfu.mjs key|application
// One job a process: webdfu does not select alternate 0 again after alternate 1.

import { WebUSB } from 'usb';
import webdfu from 'webdfu';
import { jobs, same } from './common.mjs';

console.debug = () => {};
console.info = () => {};
const name = process.argv[2];
const { alternate, address, data } = jobs[name];
const usb = new WebUSB({ allowAllDevices: true });
const [plugged] = await usb.getDevices();
const settings = webdfu.DFU.findDeviceDfuInterfaces(plugged);
const chosen = settings.find((setting) => setting.alternate.alternateSetting === alternate);
const names = new webdfu.DFU.Device(plugged, chosen);
await plugged.open();
const all = await names.readInterfaceNames();
await plugged.close();
chosen.name = all[1][0][alternate];
const device = new webdfu.DFUse.Device(plugged, chosen);
await device.open();
device.startAddress = address;
const size = 4096;
// webdfu leaves behind its download; its own steps without that.
await device.erase(address, data.length);
for (let sent = 0; sent < data.length; sent += size) {
  await device.dfuseCommand(webdfu.DFUse.SET_ADDRESS, address + sent, 4);
  await device.download(data.subarray(sent, sent + size), 2);
  const status = await device.poll_until_idle(webdfu.DFU.dfuDNLOAD_IDLE);
  if (status.status !== webdfu.DFU.STATUS_OK) throw new Error(`state ${status.state}, status ${status.status}`);
}
const read = await device.do_upload(size, data.length);
same(await read.arrayBuffer(), data, `webdfu, ${name}`);
await device.close();
process.exit(0);
