import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { root, succeed } from './tools.ts';

/**
 * A registry on this machine that holds the packed package, as if it were published, and sends whoever asks for
 * another one to the real registry. npm trusts a package less that it is given as a file.
 */
export async function registry(tarball: string, integrity: string): Promise<{ url: string; close(): void }> {
  const real = (await succeed('npm', ['config', 'get', 'registry'], { cwd: root })).stdout.trim();
  const manifest = JSON.parse(readFileSync(`${root}/package.json`, 'utf8'));
  const server = createServer((request, response) => {
    const file = `/${manifest.name}/-/${manifest.name}-${manifest.version}.tgz`;
    if (request.url === file) {
      response.end(readFileSync(tarball));
    } else if (request.url === `/${manifest.name}`) {
      const dist = { tarball: `http://${request.headers.host}${file}`, integrity };
      response.end(
        JSON.stringify({
          name: manifest.name,
          'dist-tags': { latest: manifest.version },
          versions: { [manifest.version]: { ...manifest, dist } },
        }),
      );
    } else {
      response.writeHead(302, { location: new URL(`.${request.url}`, real).href }).end();
    }
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    close: () => server.close().closeAllConnections(),
  };
}
