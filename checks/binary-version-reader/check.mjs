// Reads our modules with binary-version-reader, and makes others of them: node check.mjs FOLDER
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import bvr from 'binary-version-reader';

const folder = process.argv[2];
const read = (name) => readFileSync(join(folder, name));
const lines = read('ours.jsonl').toString().trim().split('\n').map((line) => JSON.parse(line));
const theirs = [];
const put = (name, content, about) => {
    writeFileSync(join(folder, name), content);
    theirs.push(JSON.stringify({ file: name, ...about }));
};

const parse = (fileBuffer) => new bvr.HalModuleParser().parseBuffer({ fileBuffer });

async function agree(file, ours) {
    const { crc, prefixInfo: prefix, suffixInfo: suffix } = await parse(file);
    assert.ok(crc.ok);
    assert.equal(crc.storedCrc, ours.crc);
    assert.deepEqual(
        [prefix.moduleStartAddy, prefix.moduleEndAddy, prefix.moduleFlags, prefix.moduleVersion],
        [ours.start, ours.end, ours.flags, ours.version]);
    assert.deepEqual(
        [prefix.platformID, prefix.moduleFunction, prefix.moduleIndex, prefix.prefixOffset],
        [ours.platform, ours.function, ours.index, ours.offset]);
    assert.deepEqual([
        [prefix.depModuleFunction, prefix.depModuleIndex, prefix.depModuleVersion],
        [prefix.dep2ModuleFunction, prefix.dep2ModuleIndex, prefix.dep2ModuleVersion],
    ], ours.needs);
    assert.deepEqual([suffix.suffixSize, suffix.fwUniqueId], [ours.suffix_size, ours.sha256]);
    assert.deepEqual([suffix.productId, suffix.productVersion], ours.product ?? [-1, -1]);
    const raw = (list) => (list ?? []).map((extension) => extension.data.toString('hex'));
    assert.deepEqual(raw(prefix.extensions), ours.prefix_extensions);
    assert.deepEqual(raw(suffix.extensions), ours.suffix_extensions);
    // It takes a signature only for what its own would be.
    assert.deepEqual(bvr.updateModuleCrc32(bvr.updateModuleSha256(Buffer.from(file))), file);
}

const kinds = {
    async plain({ file, module }, at) {
        const content = read(file);
        await agree(content, module);
        const zlib = at % 4 === 0 ? {} : { zlib: { windowBits: 9 + at % 7, level: at % 10 } };
        put(`${file}.compressed`, await bvr.compressModule(content, zlib), { kind: 'compressed', original: file });
    },
    async compressed({ file, module, original }) {
        await agree(read(file), module);
        assert.deepEqual(await bvr.decompressModule(read(file)), read(original));
    },
    async combined({ file, parts }) {
        const contents = parts.map(read);
        assert.deepEqual(await bvr.splitCombinedModules(read(file)), contents);
        const theirs = await bvr.combineModules(contents);
        assert.deepEqual(theirs, read(file));
        put(`${file}.combined`, theirs, { kind: 'combined', parts });
    },
    async asset({ file, module, name, content }, at) {
        await agree(read(file), module);
        assert.deepEqual(await bvr.unwrapAssetModule(read(file)), read(content));
        const wrapped = await bvr.createAssetModule(read(content), name, { compress: at % 4 === 0 });
        put(`${file}.asset`, wrapped, { kind: 'asset', name, content });
    },
    async bundle({ file, module, application, bare, assets }) {
        const { application: app, assets: found } = await bvr.unpackApplicationAndAssetBundle(read(file));
        assert.deepEqual([app.name, app.data], ['app.bin', read(application)]);
        await agree(app.data, module);
        const expected = assets.map(({ name, content }) => ({ name, data: Buffer.from(content, 'hex') }));
        assert.deepEqual(found, expected);
        const { assets: needs } = await parse(app.data);
        assert.equal((needs ?? []).length, expected.length);
        for (const [at, need] of (needs ?? []).entries()) {
            assert.ok(await bvr.isAssetValid(expected[at].data, need));
        }
        const bundle = await bvr.createApplicationAndAssetBundle({ name: 'app.bin', data: read(bare) }, expected);
        put(`${file}.zip`, bundle, { kind: 'bundle', bare });
    },
};

for (const [at, line] of lines.entries()) {
    try {
        await kinds[line.kind](line, at);
    } catch (error) {
        console.error(JSON.stringify(line));
        throw error;
    }
}
writeFileSync(join(folder, 'theirs.jsonl'), `${theirs.join('\n')}\n`);
console.log(`binary-version-reader agrees on ${lines.length} files of ours`);
