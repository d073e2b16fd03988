import { scaleBand, scaleLinear, scaleLog } from 'd3-scale';
import { line } from 'd3-shape';
import { rangeError } from '../errors.ts';
import { significant } from './numbers.ts';
import { escapeHtml } from './table.ts';

const COLORS = ['#1f5fa8', '#c2571a', '#2e8b57', '#8a4fa3', '#a8872b', '#4a6a78'];
const WIDTH = 640;
const HEIGHT = 360;
const MARGIN = { top: 40, right: 20, bottom: 50, left: 78 };
const LEFT = MARGIN.left;
const RIGHT = WIDTH - MARGIN.right;
const TOP = MARGIN.top;
const BOTTOM = HEIGHT - MARGIN.bottom;

interface Labels {
  readonly title: string;
  readonly x: string;
  readonly y: string;
}

export interface LineChart extends Labels {
  readonly series: readonly {
    readonly name: string;
    readonly points: readonly (readonly [number, number])[];
    /** Draw a level line across the whole width, as for a reference value; `points` gives its height. */
    readonly level?: boolean;
    /** Dashed and without marks: a curve to compare with, which nobody measured. */
    readonly dashed?: boolean;
  }[];
  readonly logX?: boolean;
  readonly logY?: boolean;
  /** Where the x axis carries numbers; round ones where this is not given. */
  readonly ticksX?: readonly number[];
  readonly formatX?: (value: number) => string;
  readonly formatY?: (value: number) => string;
}

function text(x: number, y: number, content: string, attributes = ''): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${attributes}>${escapeHtml(content)}</text>`;
}

function frame(labels: Labels, body: string): string {
  const middle = (LEFT + RIGHT) / 2;
  const height = (TOP + BOTTOM) / 2;
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" role="img" width="${WIDTH}" height="${HEIGHT}" viewBox="0 0 ${WIDTH} ${HEIGHT}" ` +
    `font-family="system-ui, sans-serif" font-size="12" fill="#333"><title>${escapeHtml(labels.title)}</title>` +
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>` +
    text(middle, 18, labels.title, 'text-anchor="middle" font-weight="600" font-size="14"') +
    text(middle, HEIGHT - 10, labels.x, 'text-anchor="middle"') +
    text(14, height, labels.y, `text-anchor="middle" transform="rotate(-90 14 ${height})"`) +
    `${body}</svg>`
  );
}

function gridLine(y: number, label: string): string {
  return (
    `<path d="M${LEFT} ${y.toFixed(1)}H${RIGHT}" stroke="#e3e6ea"/>` +
    text(LEFT - 8, y + 4, label, 'text-anchor="end"')
  );
}

function legend(names: readonly string[]): string {
  let x = LEFT;
  return names
    .map((name, i) => {
      const entry = `<rect x="${x}" y="26" width="10" height="10" fill="${COLORS[i % COLORS.length]}"/>${text(x + 14, 35, name)}`;
      x += 24 + name.length * 6.4;
      return entry;
    })
    .join('');
}

/** Lines, with a mark at each point. Points that are not finite (or not positive, on a log axis) are an error. */
export function lineChart(chart: LineChart): string {
  const { series, logX = false, logY = false, formatX = significant, formatY = significant } = chart;
  const points = series.flatMap((one) => one.points.map((point) => point));
  for (const [x, y] of points)
    if (!Number.isFinite(x) || !Number.isFinite(y) || (logX && x <= 0) || (logY && y <= 0))
      throw rangeError('points', logX || logY ? 'finite, and above 0 on a log axis' : 'finite', [x, y]);
  const xs = points.map(([x]) => x);
  const ys = points.map(([, y]) => y);
  const xDomain = points.length === 0 ? [1, 10] : widen(Math.min(...xs), Math.max(...xs));
  const yDomain = points.length === 0 ? [logY ? 0.1 : 0, 1] : widen(Math.min(...ys), Math.max(...ys));
  const xScale = (logX ? scaleLog : scaleLinear)(xDomain, [LEFT, RIGHT]);
  const [low, high] = logY ? toSteps(yDomain[0], yDomain[1]) : yDomain;
  const yScale = logY ? scaleLog([low, high], [BOTTOM, TOP]) : scaleLinear([low, high], [BOTTOM, TOP]).nice();
  const horizontal = (logY ? logTicks(low, high) : yScale.ticks(6))
    .map((tick) => gridLine(yScale(tick), formatY(tick)))
    .join('');
  const ticks = chart.ticksX ?? (logX ? logTicks(xDomain[0], xDomain[1]) : xScale.ticks(8));
  const vertical = ticks
    .map(
      (tick) =>
        `<path d="M${xScale(tick).toFixed(1)} ${BOTTOM}v5" stroke="#888"/>` +
        text(xScale(tick), BOTTOM + 18, formatX(tick), 'text-anchor="middle"'),
    )
    .join('');
  const path = line<readonly [number, number]>(
    (point) => xScale(point[0]),
    (point) => yScale(point[1]),
  );
  const drawn = series
    .map((one, i) => {
      const color = COLORS[i % COLORS.length];
      if (one.level && one.points.length > 0) {
        const y = yScale(one.points[0][1]).toFixed(1);
        return `<path d="M${LEFT} ${y}H${RIGHT}" stroke="${color}" stroke-width="1.5" stroke-dasharray="6 4"/>`;
      }
      const d = path(one.points) ?? '';
      if (one.dashed)
        return `<path d="${d}" fill="none" stroke="${color}" stroke-width="1.5" stroke-dasharray="6 4"/>`;
      const marks = one.points
        .map(
          ([x, y]) =>
            `<circle cx="${xScale(x).toFixed(1)}" cy="${yScale(y).toFixed(1)}" r="3" fill="${color}"/>`,
        )
        .join('');
      return `<path d="${d}" fill="none" stroke="${color}" stroke-width="2"/>${marks}`;
    })
    .join('');
  const axis = `<path d="M${LEFT} ${BOTTOM}H${RIGHT}" stroke="#888"/>`;
  return frame(chart, horizontal + vertical + axis + drawn + legend(series.map((one) => one.name)));
}

/** A range that is never empty: one point alone would have no scale. */
function widen(low: number, high: number): [number, number] {
  if (low < high) return [low, high];
  const margin = Math.abs(low) * 0.1 || 1;
  return [low - margin, high + margin];
}

/** 1, 2 and 5 times each power of ten, from one at or below the range to one at or above. */
function logSteps(low: number, high: number): number[] {
  const steps: number[] = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
    for (const step of [1, 2, 5]) steps.push(step * 10 ** power);
  return steps;
}

/** Those within the range. Half a per cent: the ends themselves should carry a number in spite of rounding. */
function logTicks(low: number, high: number): number[] {
  return logSteps(low, high).filter((tick) => tick >= low * 0.995 && tick <= high * 1.005);
}

/** The range from step to step: what lies below the last one has a number on the axis, too. */
function toSteps(low: number, high: number): [number, number] {
  const steps = logSteps(low, high);
  return [steps.findLast((step) => step <= low) ?? low, steps.find((step) => step >= high) ?? high];
}

export interface BarChart extends Labels {
  /** One group of bars a category. */
  readonly categories: readonly string[];
  /** `values[i]` belongs to `categories[i]`. */
  readonly series: readonly { readonly name: string; readonly values: readonly number[] }[];
  /** A horizontal line to compare with, such as 1 for a speed-up. */
  readonly reference?: number;
}

/** Grouped bars from zero, each with its number above it. */
export function barChart(chart: BarChart): string {
  const { categories, series, reference } = chart;
  for (const one of series) {
    if (one.values.length !== categories.length)
      throw rangeError('values', `an array of ${categories.length} numbers`, one.values);
    for (const value of one.values)
      if (!Number.isFinite(value) || value < 0) throw rangeError('values', 'finite and at least 0', value);
  }
  const top = Math.max(reference ?? 0, ...series.flatMap((one) => one.values), 0) || 1;
  const yScale = scaleLinear([0, top * 1.1], [BOTTOM, TOP]).nice();
  const groups = scaleBand([...categories.keys()], [LEFT, RIGHT]).padding(0.25);
  const bars = scaleBand([...series.keys()], [0, groups.bandwidth()]).padding(0.1);
  const formatY = yScale.tickFormat(6);
  // Small enough that the numbers of narrow bars do not run into each other.
  const size = Math.min(11, 0.5 * bars.bandwidth()).toFixed(1);
  const horizontal = yScale
    .ticks(6)
    .map((tick) => gridLine(yScale(tick), formatY(tick)))
    .join('');
  const drawn = categories
    .map((category, g) => {
      const left = groups(g) ?? LEFT;
      const name = text(left + groups.bandwidth() / 2, BOTTOM + 18, category, 'text-anchor="middle"');
      const inGroup = series.map((one, s) => {
        const x = left + (bars(s) ?? 0);
        const y = yScale(one.values[g]);
        return (
          `<rect x="${x.toFixed(1)}" y="${y.toFixed(1)}" width="${bars.bandwidth().toFixed(1)}" ` +
          `height="${(BOTTOM - y).toFixed(1)}" fill="${COLORS[s % COLORS.length]}"/>` +
          text(
            x + bars.bandwidth() / 2,
            y - 4,
            significant(one.values[g]),
            `text-anchor="middle" font-size="${size}"`,
          )
        );
      });
      return name + inGroup.join('');
    })
    .join('');
  const level =
    reference === undefined
      ? ''
      : `<path d="M${LEFT} ${yScale(reference).toFixed(1)}H${RIGHT}" stroke="#555" stroke-dasharray="6 4"/>`;
  const axis = `<path d="M${LEFT} ${BOTTOM}H${RIGHT}" stroke="#888"/>`;
  return frame(chart, horizontal + drawn + level + axis + legend(series.map((one) => one.name)));
}
