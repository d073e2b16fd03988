import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { maskSvg, maskText } from '../../lib/report/mask.ts';
import { BlockGrid } from '../../lib/sparse/grid.ts';
import { BlockMask } from '../../lib/sparse/mask.ts';

function randomMask(rows: number, cols: number, kept: (i: number) => boolean): BlockMask {
  const grid = new BlockGrid([rows * 2, cols * 3], [2, 3]);
  return new BlockMask(
    grid,
    Uint8Array.from({ length: rows * cols }, (_, i) => Number(kept(i))),
  );
}

const masks = fc
  .tuple(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 0, max: 40 }), fc.func(fc.boolean()))
  .map(([rows, cols, kept]) => randomMask(rows, cols, kept));

/** Number of dots in braille text. */
function dots(text: string): number {
  let count = 0;
  for (const character of text) {
    let bits = Math.max(0, (character.codePointAt(0) ?? 0) - 0x2800);
    if (bits > 255) bits = 0;
    for (; bits > 0; bits >>= 1) count += bits & 1;
  }
  return count;
}

/** Area of the rectangles in a path of `M x y h w v 1 h -w z`. */
function area(svg: string): number {
  return [...svg.matchAll(/M\d+ \d+h(\d+)v1/g)].reduce((sum, match) => sum + Number(match[1]), 0);
}

describe('maskText', () => {
  it('draws one dot for each kept block', () => {
    const mask = randomMask(4, 4, (i) => i % 5 === 0);
    expect(maskText(mask)).toBe('⠑⢄\n(4 x 4 blocks, 25.00 % of the weights kept; a dot is a kept block)');
  });

  it('has as many dots as kept blocks, whatever the mask', () => {
    fc.assert(
      fc.property(masks, (mask) => {
        expect(dots(maskText(mask, 80))).toBe(mask.nnzb);
      }),
    );
  });

  it('shades a grid that is wider than the text, within the width', () => {
    const lines = maskText(
      randomMask(100, 500, (i) => i % 500 < 250),
      60,
    ).split('\n');
    for (const line of lines.slice(0, -1)) {
      expect(line.length).toBeLessThanOrEqual(60);
      expect(line).toMatch(/^█+[░▒▓]? +$/);
    }
    expect(lines.at(-1)).toMatch(/a character covers/);
  });

  it('stays short for a tall grid', () => {
    expect(maskText(randomMask(5000, 2, () => true)).split('\n').length).toBeLessThan(70);
  });

  it('refuses what is no mask, and a width that is none', () => {
    expect(() => maskText({} as BlockMask)).toThrow(TypeError);
    expect(() =>
      maskText(
        randomMask(1, 1, () => true),
        0,
      ),
    ).toThrow(RangeError);
  });
});

describe('maskSvg', () => {
  it('covers exactly the kept blocks', () => {
    fc.assert(
      fc.property(masks, (mask) => {
        expect(area(maskSvg(mask))).toBe(mask.nnzb);
      }),
    );
  });

  it('shrinks a large grid', () => {
    const svg = maskSvg(randomMask(2000, 2000, (i) => i % 2 === 0));
    expect(svg.length).toBeLessThan(200_000);
    expect(svg).toContain('fill-opacity');
  });

  it('escapes its title', () => {
    expect(
      maskSvg(
        randomMask(1, 1, () => true),
        { title: '</title><script>' },
      ),
    ).not.toContain('<script');
  });
});
