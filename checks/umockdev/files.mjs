// The jobs as files, for programs that read files: node files.mjs

import { writeFileSync } from 'node:fs';
import { jobs } from './common.mjs';

for (const [name, { data }] of Object.entries(jobs)) writeFileSync(`${name}.bin`, data);
