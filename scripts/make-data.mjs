/**
 * Makes bench/data: the first 10,000 training and 2,000 test images of Fashion-MNIST, from Debian's package
 * dataset-fashion-mnist (MIT licence, also called Expat).
 *
 *   sudo apt install dataset-fashion-mnist && node scripts/make-data.mjs [FROM] [TO]
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync, gzipSync } from 'node:zlib';

const from = process.argv[2] ?? '/usr/share/datasets/fashion-mnist';
const to = process.argv[3] ?? fileURLToPath(new URL('../bench/data', import.meta.url));

const COUNTS = { train: 10_000, t10k: 2_000 };
const FILES = ['images-idx3-ubyte', 'labels-idx1-ubyte'];

/** The first `count` items of an IDX file: its first size becomes `count`. */
function firstItems(bytes, count) {
  const start = 4 + 4 * bytes[3];
  const items = bytes.readUInt32BE(4);
  if (items < count) throw new Error(`only ${items} items`);
  const size = (bytes.length - start) / items;
  const cut = Buffer.from(bytes.subarray(0, start + count * size));
  cut.writeUInt32BE(count, 4);
  return cut;
}

const DESCRIPTION = {
  name: 'Fashion-MNIST, first 10,000 + 2,000',
  classes: [
    'T-shirt/top',
    'Trouser',
    'Pullover',
    'Dress',
    'Coat',
    'Sandal',
    'Shirt',
    'Sneaker',
    'Bag',
    'Ankle boot',
  ],
};

const LICENSE = `The files in this folder are the first 10,000 training and the first 2,000 test images of Fashion-MNIST
(https://github.com/zalandoresearch/fashion-mnist), made by scripts/make-data.mjs from Debian's package
dataset-fashion-mnist. Fashion-MNIST comes under this licence:

The MIT License (MIT)

Copyright (c) 2017 Zalando SE, https://tech.zalando.com

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in
all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN
THE SOFTWARE.
`;

await mkdir(to, { recursive: true });
for (const [part, count] of Object.entries(COUNTS)) {
  for (const file of FILES) {
    const name = `${part}-${file}.gz`;
    const cut = firstItems(gunzipSync(await readFile(join(from, name))), count);
    await writeFile(join(to, name), gzipSync(cut, { level: 9 }));
    console.log(`${name}: ${count} items`);
  }
}
await writeFile(join(to, 'dataset.json'), `${JSON.stringify(DESCRIPTION, null, 2)}\n`);
await writeFile(join(to, 'LICENSE'), LICENSE);
