import { execFileSync } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { checkWritable, writeFileAtomic } from '../../lib/format/atomic.ts';

const bytes = (...values: number[]) => Uint8Array.from(values);
let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'blocksparse-'));
});
afterEach(async () => {
  await chmod(folder, 0o755);
  await rm(folder, { recursive: true });
});

describe('writeFileAtomic', () => {
  test('writes all chunks in order, and leaves nothing else', async () => {
    await writeFileAtomic(join(folder, 'a'), [bytes(1, 2), bytes(), bytes(3)]);
    expect([...(await readFile(join(folder, 'a')))]).toEqual([1, 2, 3]);
    expect(await readdir(folder)).toEqual(['a']);
  });

  test('takes a URL, replaces an old file and keeps its permissions', async () => {
    const file = join(folder, 'a b');
    await writeFile(file, 'old', { mode: 0o640 });
    await writeFileAtomic(pathToFileURL(file), [bytes(7)]);
    expect([...(await readFile(file))]).toEqual([7]);
    if (process.platform !== 'win32') expect((await stat(file)).mode & 0o777).toBe(0o640);
  });

  test('follows a symbolic link', async () => {
    await writeFile(join(folder, 'real'), 'old');
    await symlink(join(folder, 'real'), join(folder, 'link'));
    await writeFileAtomic(join(folder, 'link'), [bytes(9)]);
    expect([...(await readFile(join(folder, 'real')))]).toEqual([9]);
    expect((await readdir(folder)).sort()).toEqual(['link', 'real']);
  });

  test('of two writers at once one wins whole', async () => {
    const file = join(folder, 'a');
    const content = [1, 2, 3, 4].map((value) => new Uint8Array(100_000).fill(value));
    await Promise.all(content.map((chunk) => writeFileAtomic(file, [chunk])));
    const written = new Uint8Array(await readFile(file));
    expect(written).toEqual(new Uint8Array(100_000).fill(written[0]));
    expect(await readdir(folder)).toEqual(['a']);
  });

  test('names a missing folder, a file in place of one, and a folder in place of a file', async () => {
    await writeFile(join(folder, 'file'), 'old');
    await mkdir(join(folder, 'folder'));
    for (const path of ['none/a', 'file/a', 'folder']) {
      const wanted = {
        name: 'BlocksparseError',
        code: 'WRITE_FAILED',
        message: expect.stringContaining(path),
      };
      await expect(writeFileAtomic(join(folder, path), [bytes(1)])).rejects.toMatchObject(wanted);
    }
    expect((await readdir(folder)).sort()).toEqual(['file', 'folder']);
    expect(await readFile(join(folder, 'file'), 'utf8')).toBe('old');
  });

  test.skipIf(process.platform === 'win32')('keeps the old file in an unwritable folder', async () => {
    await writeFile(join(folder, 'a'), 'old');
    await chmod(folder, 0o555);
    // Permissions do not bind root: be somebody else meanwhile.
    const root = process.getuid?.() === 0;
    if (root) process.seteuid?.(65534);
    try {
      await expect(writeFileAtomic(join(folder, 'a'), [bytes(1)])).rejects.toMatchObject({
        code: 'WRITE_FAILED',
        cause: { code: 'EACCES' },
      });
    } finally {
      if (root) process.seteuid?.(0);
    }
    expect(await readFile(join(folder, 'a'), 'utf8')).toBe('old');
    expect(await readdir(folder)).toEqual(['a']);
  });

  test.skipIf(process.platform !== 'linux')('refuses a device instead of replacing it', async () => {
    await expect(writeFileAtomic('/dev/full', [bytes(1)])).rejects.toMatchObject({ code: 'WRITE_FAILED' });
    expect((await stat('/dev/full')).isCharacterDevice()).toBe(true);
  });

  // A limit on file size makes the system refuse a write half-way, as a full disk does.
  test.skipIf(!canLimit())(
    'keeps the old file when the disk takes no more, and removes the new one',
    async () => {
      await writeFile(join(folder, 'a'), 'old');
      limitFileSize('200000');
      try {
        const writing = writeFileAtomic(join(folder, 'a'), [
          new Uint8Array(150_000),
          new Uint8Array(150_000),
        ]);
        await expect(writing).rejects.toMatchObject({ code: 'WRITE_FAILED', cause: { code: 'EFBIG' } });
      } finally {
        limitFileSize('unlimited');
      }
      expect(await readFile(join(folder, 'a'), 'utf8')).toBe('old');
      expect(await readdir(folder)).toEqual(['a']);
    },
  );

  test('wrong arguments', async () => {
    for (const path of [undefined, null, 5, '', 'a\0b', new URL('http://localhost/a'), {}])
      await expect(writeFileAtomic(path as string, [])).rejects.toThrow(TypeError);
  });
});

function limitFileSize(soft: string): void {
  execFileSync('prlimit', ['--pid', String(process.pid), `--fsize=${soft}:`], { stdio: 'ignore' });
}

function canLimit(): boolean {
  try {
    limitFileSize('unlimited');
    return true;
  } catch {
    return false;
  }
}

test('checkWritable rejects as a write would, and leaves nothing', async () => {
  const file = join(folder, 'a');
  await checkWritable(file);
  await writeFile(file, 'old');
  await checkWritable(file);
  expect(await readdir(folder)).toEqual(['a']);
  expect(await readFile(file, 'utf8')).toBe('old');
  for (const bad of [join(folder, 'no', 'such'), join(file, 'below'), folder])
    await expect(checkWritable(bad)).rejects.toMatchObject({ code: 'WRITE_FAILED' });
});
