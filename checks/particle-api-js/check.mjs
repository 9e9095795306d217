// particle-api-js against the cloud at this address. Every promise of the client that is rejected ends the check.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import Particle from 'particle-api-js';

const [baseUrl, auth, outdated, offline, folder] = process.argv.slice(2);
const particle = new Particle({ baseUrl, auth });
// A client that waits for ever says nothing.
setTimeout(() => { throw new Error('it takes too long'); }, 60_000).unref();

async function check(what, run) {
    await run();
    console.log(`ok  ${what}`);
}

/** What the client makes of an error. */
async function refused(promise, status) {
    try {
        await promise;
    } catch (error) {
        assert.equal(error.statusCode, status, String(error));
        return error;
    }
    throw new Error('it was not refused');
}

/** The next event that `wanted` chooses. */
function next(stream, wanted) {
    return new Promise((resolve, reject) => {
        stream.on('event', event => { if (wanted(event)) { resolve(event); } });
        stream.on('error', reject);
    });
}

const until = async (what, ready) => {
    for (let tries = 0; tries < 200; tries++) {
        if (await ready()) { return; }
        await new Promise(resolve => { setTimeout(resolve, 100); });
    }
    throw new Error(`waiting for: ${what}`);
};

/** What the devices of the fleet have printed. */
const lines = name => readFileSync(`${folder}/${name}`, 'utf8').split('\n').filter(Boolean).map(line => {
    try { return JSON.parse(line); } catch { return {}; }
});

let ids;
await check('listDevices', async () => {
    const { body } = await particle.listDevices({});
    assert.equal(body.length, 8);
    ids = body.filter(device => device.functions.includes('brew')).map(device => device.id);
    assert.equal(ids.length, 6);
    assert.equal(body.find(device => device.id === offline).online, false);
});
const [deviceId] = ids;

await check('getDevice', async () => {
    for (const id of ids) {
        const { body } = await particle.getDevice({ deviceId: id });
        assert.deepEqual([body.id, body.connected, body.platform_id], [id, true, 6]);
        assert.deepEqual(body.variables, { ok: 'bool', count: 'int32', temp: 'double', text: 'string' });
        assert.ok(Math.abs(new Date(body.last_heard) - Date.now()) < 60_000);
    }
});

await check('callFunction', async () => {
    for (const id of ids) {
        const called = await particle.callFunction({ deviceId: id, name: 'echo', argument: '-12' });
        assert.deepEqual([called.body.return_value, called.body.id, called.body.connected], [-12, id, true]);
        const { body } = await particle.callFunction({ deviceId: id, name: 'brew', argument: 'coffee & milk' });
        assert.equal(body.return_value, 7);
    }
    const argument = line => line.happening === 'function-called' && line.argument === 'coffee & milk';
    await until('all were called', () => lines('fleet.json').filter(argument).length === ids.length);
});

await check('callFunction: unknown function, offline and unknown device', async () => {
    const { body } = await refused(particle.callFunction({ deviceId, name: 'nothing', argument: '' }), 404);
    assert.match(body.error_description, /no function nothing/);
    await refused(particle.callFunction({ deviceId: offline, name: 'brew', argument: '' }), 408);
    await refused(particle.getDevice({ deviceId: '0123456789abcdef01234567' }), 404);
});

await check('getVariable', async () => {
    for (const id of ids) {
        for (const [name, value] of Object.entries({ ok: true, count: -42, temp: 21.5, text: 'hello' })) {
            const { body } = await particle.getVariable({ deviceId: id, name });
            assert.deepEqual([body.name, body.result, body.coreInfo.deviceID], [name, value, id]);
        }
    }
    await refused(particle.getVariable({ deviceId, name: 'nothing' }), 404);
});

await check('getEventStream and publishEvent', async () => {
    const mine = await particle.getEventStream({ deviceId: 'mine' });
    const alarms = await particle.getEventStream({ deviceId: 'mine', name: 'alarm' });
    const ofDevice = await particle.getEventStream({ deviceId });
    const everything = await particle.getEventStream({});
    const heard = Promise.all([
        next(mine, event => event.name === 'tick'),
        next(ofDevice, event => event.name === 'tick'),
        ...[mine, alarms, everything].map(stream => next(stream, event => event.name === 'alarm/fire')),
    ]);
    const { body } = await particle.publishEvent({ name: 'alarm/fire', data: 'kitchen', isPrivate: true });
    assert.equal(body.ok, true);
    const [tick, own, ...fires] = await heard;
    assert.ok([tick, own].every(event => Number(event.data) > 0 && event.ttl === 60));
    assert.equal(own.coreid, deviceId);
    assert.ok(fires.every(event => event.data === 'kitchen' && !Number.isNaN(Date.parse(event.published_at))));
    [mine, alarms, ofDevice, everything].forEach(stream => stream.abort());
    const alarm = line => line.happening === 'event-received' && line.name === 'alarm/fire' && line.data === 'kitchen';
    await until('all heard it', () => lines('fleet.json').filter(alarm).length === ids.length);
});

await check('signalDevice', async () => {
    for (const signal of [true, false]) {
        await particle.signalDevice({ deviceId, signal });
        const shows = line => line.happening === 'signal' && line.device_id === deviceId && line.on === signal;
        await until('the light show', () => lines('fleet.json').some(shows));
    }
});

await check('renameDevice, setDeviceNotes, use by name', async () => {
    await particle.renameDevice({ deviceId, name: 'kitchen' });
    await particle.setDeviceNotes({ deviceId, notes: 'above the sink' });
    const { body } = await particle.getDevice({ deviceId: 'kitchen' });
    assert.deepEqual([body.id, body.name, body.notes], [deviceId, 'kitchen', 'above the sink']);
});

await check('removeDevice, claimDevice, getClaimCode', async () => {
    await particle.removeDevice({ deviceId });
    assert.ok((await particle.listDevices({})).body.every(device => device.id !== deviceId));
    await refused(particle.getDevice({ deviceId }), 403);
    await particle.claimDevice({ deviceId });
    assert.equal((await particle.getDevice({ deviceId })).body.name, 'kitchen');
    assert.match((await particle.getClaimCode({})).body.claim_code, /^.{63}$/);
});

await check('flashDevice: three modules, in the order that they need', async () => {
    const names = ['system-part2', 'system-part1', 'bootloader'].map(name => `${name}.bin`);
    const files = Object.fromEntries(names.map(name => [name, `${folder}/${name}`]));
    const { body } = await particle.flashDevice({ deviceId: outdated, files });
    assert.equal(body.status, 'Update started');
    const running = line => line.happening === 'started' && line.mode === 'running';
    await until('its application runs again', () => lines('old.json').some(running));
    const taken = lines('old.json').filter(line => line.happening === 'reset' && line.code === 'update');
    assert.equal(taken.length, 3);
    await until('it is back', async () => (await particle.getDevice({ deviceId: outdated })).body.functions.length > 0);
    await refused(particle.flashDevice({ deviceId: outdated, files: { 'no.bin': Buffer.from('no module') } }), 400);
});

await check('a wrong token is an error of its own', async () => {
    await refused(particle.listDevices({ auth: 'wrong' }), 401);
});
process.exit(0);
