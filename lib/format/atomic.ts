import { randomBytes } from 'node:crypto';
import { type FileHandle, open, realpath, rename, stat, unlink } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { BlocksparseError, typeError } from '../errors.ts';

/** A path or a file: URL, as an absolute path. Throws TypeError. */
export function checkPath(name: string, value: unknown): string {
  if (value instanceof URL && value.protocol === 'file:') return fileURLToPath(value);
  if (typeof value !== 'string' || value === '' || value.includes('\0'))
    throw typeError(name, 'a path or a file: URL', value);
  return resolve(value);
}

/**
 * Writes `chunks` one after the other to `path` so that at every moment the file there is either the old one or
 * the new one, whole: a temporary file in the same folder is written, flushed to the disk and renamed. A
 * symbolic link is followed, and an existing file's permissions are kept. On any failure (full disk, unwritable
 * folder) the temporary file is removed and BlocksparseError WRITE_FAILED says why; `cause` is the system's error.
 */
export async function writeFileAtomic(path: string | URL, chunks: readonly Uint8Array[]): Promise<void> {
  await withTemporary(path, async (file, name, target) => {
    for (const chunk of chunks) await writeAll(file, chunk);
    await file.sync();
    await file.close();
    await rename(name, target);
    await syncFolder(dirname(target));
  });
}

/** Rejects as `writeFileAtomic` would for this place, and leaves nothing: to be known before long work, not after. */
export async function checkWritable(path: string | URL): Promise<void> {
  await withTemporary(path, async () => {});
}

/** Gives `work` a new file beside the one at `path`; what is left of it afterwards is removed. */
async function withTemporary(
  path: string | URL,
  work: (file: FileHandle, name: string, target: string) => Promise<void>,
): Promise<void> {
  const given = checkPath('path', path);
  let temporary: string | undefined;
  let file: FileHandle | undefined;
  try {
    const { target, mode } = await findTarget(given);
    const name = join(dirname(target), `.${basename(target)}.${randomBytes(6).toString('hex')}.tmp`);
    file = await open(name, 'wx', mode ?? 0o666);
    temporary = name;
    if (mode !== undefined) await file.chmod(mode);
    await work(file, name, target);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new BlocksparseError('WRITE_FAILED', `cannot write ${given}: ${why}`, { cause });
  } finally {
    await file?.close().catch(() => {});
    if (temporary !== undefined) await unlink(temporary).catch(() => {});
  }
}

/** The file behind a symbolic link, and its permissions. Renaming over a device or a pipe would destroy it. */
async function findTarget(path: string): Promise<{ target: string; mode: number | undefined }> {
  let target: string;
  try {
    target = await realpath(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { target: path, mode: undefined };
    throw error;
  }
  const found = await stat(target);
  if (!found.isFile()) throw new Error('it exists and is not a regular file');
  return { target, mode: found.mode & 0o7777 };
}

/** The system may take fewer bytes than offered (a nearly full disk, a 2 GiB limit a call). */
async function writeAll(file: FileHandle, chunk: Uint8Array): Promise<void> {
  const step = 1 << 30;
  for (let at = 0; at < chunk.byteLength; ) {
    const { bytesWritten } = await file.write(chunk, at, Math.min(step, chunk.byteLength - at));
    if (bytesWritten === 0) throw new Error('the system takes no more bytes');
    at += bytesWritten;
  }
}

/** Makes the rename itself survive a power cut, where the system can flush a folder (Windows cannot). */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r').catch(() => undefined);
  await handle?.sync().catch(() => {});
  await handle?.close().catch(() => {});
}
