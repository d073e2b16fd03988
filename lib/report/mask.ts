import { checkInteger } from '../check.ts';
import { typeError } from '../errors.ts';
import { BlockMask } from '../sparse/mask.ts';
import { percent } from './numbers.ts';
import { escapeHtml } from './table.ts';

/** A block grid made small enough to draw: every cell covers `step` x `step` blocks (fewer at the edges). */
interface Shares {
  readonly rows: number;
  readonly cols: number;
  readonly step: number;
  /** [rows * cols], share of kept blocks within each cell, 0 to 1. */
  readonly share: Float64Array;
}

function shrink(mask: BlockMask, maxRows: number, maxCols: number): Shares {
  const { gridRows, gridCols } = mask.grid;
  const step = Math.max(1, Math.ceil(gridRows / maxRows), Math.ceil(gridCols / maxCols));
  const rows = Math.ceil(gridRows / step);
  const cols = Math.ceil(gridCols / step);
  const share = new Float64Array(rows * cols);
  for (let y = 0; y < gridRows; y++)
    for (let x = 0; x < gridCols; x++)
      share[Math.floor(y / step) * cols + Math.floor(x / step)] += mask.kept[y * gridCols + x];
  for (let y = 0; y < rows; y++)
    for (let x = 0; x < cols; x++)
      share[y * cols + x] /= Math.min(step, gridRows - y * step) * Math.min(step, gridCols - x * step);
  return { rows, cols, step, share };
}

/** A braille character holds 2 columns x 4 rows of dots; these are its bits, row by row (Unicode, block U+2800). */
const DOTS = [
  [0x01, 0x08],
  [0x02, 0x10],
  [0x04, 0x20],
  [0x40, 0x80],
];
/** Lines of one drawing in a terminal. */
const MAX_LINES = 64;
const SHADES = ' ░▒▓█';

function braille(mask: BlockMask): string[] {
  const { gridRows, gridCols } = mask.grid;
  const lines: string[] = [];
  for (let top = 0; top < gridRows; top += 4) {
    let line = '';
    for (let left = 0; left < gridCols; left += 2) {
      let bits = 0;
      for (let y = 0; y < Math.min(4, gridRows - top); y++)
        for (let x = 0; x < Math.min(2, gridCols - left); x++)
          if (mask.kept[(top + y) * gridCols + left + x]) bits |= DOTS[y][x];
      line += String.fromCodePoint(0x2800 + bits);
    }
    lines.push(line);
  }
  return lines;
}

/** 0 for an empty cell, 4 for a full one; anything between shows as something between. */
function shadeOf(share: number): number {
  if (share === 0 || share === 1) return share * 4;
  return Math.min(3, 1 + Math.floor(share * 3));
}

function checkBlockMask(mask: unknown): asserts mask is BlockMask {
  if (!(mask instanceof BlockMask)) throw typeError('mask', 'a BlockMask', mask);
}

/**
 * The mask as lines of text at most `width` characters wide, with a caption on the last line. While it fits,
 * one braille dot is one kept block; a larger grid is shown as shades of the share that is kept.
 */
export function maskText(mask: BlockMask, width = 80): string {
  checkBlockMask(mask);
  checkInteger('width', width, 1, 10_000);
  const { gridRows, gridCols } = mask.grid;
  const size = `${gridRows} x ${gridCols} blocks, ${percent(mask.density)} of the weights kept`;
  if (gridRows === 0 || gridCols === 0) return `(${size})`;
  if (gridCols <= width * 2 && gridRows <= MAX_LINES * 4)
    return [...braille(mask), `(${size}; a dot is a kept block)`].join('\n');
  // A character is about twice as tall as wide: two cell rows make one line.
  const { rows, cols, step, share } = shrink(mask, 2 * MAX_LINES, width);
  const lines: string[] = [];
  for (let y = 0; y < rows; y += 2) {
    let line = '';
    for (let x = 0; x < cols; x++) {
      const upper = share[y * cols + x];
      const lower = y + 1 < rows ? share[(y + 1) * cols + x] : upper;
      line += SHADES[shadeOf((upper + lower) / 2)];
    }
    lines.push(line);
  }
  return [...lines, `(${size}; a character covers ${2 * step} x ${step} blocks)`].join('\n');
}

/** Cells a side beyond which a picture is shrunk: more would only make a large file. */
const MAX_CELLS = 512;

/** The mask as one SVG picture, at most `width` user units wide, a cell a kept block (or a shade, when shrunk). */
export function maskSvg(mask: BlockMask, options: { width?: number; title?: string } = {}): string {
  checkBlockMask(mask);
  const { width = 640, title = 'block mask' } = options;
  checkInteger('options.width', width, 1, 100_000);
  const { rows, cols, share } = shrink(mask, MAX_CELLS, MAX_CELLS);
  // Logical proportions: a block is c columns wide and r rows tall.
  const [r, c] = mask.grid.blockShape;
  const height = Math.max(1, Math.min(width, (width * rows * r) / Math.max(1, cols * c)));
  const paths = ['', '', '', '', ''];
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < cols; ) {
      const shade = shadeOf(share[y * cols + x]);
      let end = x + 1;
      while (end < cols && shadeOf(share[y * cols + end]) === shade) end++;
      paths[shade] += `M${x} ${y}h${end - x}v1h${x - end}z`;
      x = end;
    }
  }
  const drawn = paths
    .map((d, shade) => (shade > 0 && d !== '' ? `<path fill-opacity="${shade / 4}" d="${d}"/>` : ''))
    .join('');
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" role="img" width="${width}" height="${height.toFixed(1)}" ` +
    `viewBox="0 0 ${Math.max(1, cols)} ${Math.max(1, rows)}" preserveAspectRatio="none" shape-rendering="crispEdges">` +
    `<title>${escapeHtml(title)}</title>` +
    `<rect width="100%" height="100%" fill="#eef1f4"/><g fill="#1f5fa8">${drawn}</g></svg>`
  );
}
