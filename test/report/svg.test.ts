import { describe, expect, it } from 'vitest';
import { figure, htmlPage } from '../../lib/report/html.ts';
import { barChart, lineChart } from '../../lib/report/svg.ts';

const labels = { title: 'a < b', x: 'density', y: 'accuracy' };

/** Tags in order, and whether each one is closed. */
function wellFormed(svg: string): boolean {
  const open: string[] = [];
  for (const [, closing, name, selfClosing] of svg.matchAll(/<(\/?)([a-z]+)[^>]*?(\/?)>/g)) {
    if (closing) {
      if (open.pop() !== name) return false;
    } else if (!selfClosing) open.push(name);
  }
  return open.length === 0;
}

describe('lineChart', () => {
  const series = [
    {
      name: 'pruned',
      points: [
        [0.8, 0.89],
        [0.09, 0.88],
        [0.03, 0.85],
      ] as [number, number][],
    },
    { name: 'dense', points: [[1, 0.9]] as [number, number][], level: true },
  ];

  it('draws a mark for each point, within the picture', () => {
    const svg = lineChart({ ...labels, logX: true, series });
    expect(wellFormed(svg)).toBe(true);
    const marks = [...svg.matchAll(/<circle cx="([\d.]+)" cy="([\d.]+)"/g)];
    expect(marks).toHaveLength(3);
    for (const [, x, y] of marks) {
      expect(Number(x)).toBeGreaterThan(0);
      expect(Number(x)).toBeLessThan(640);
      expect(Number(y)).toBeGreaterThan(0);
      expect(Number(y)).toBeLessThan(360);
    }
    expect(svg).not.toMatch(/NaN|undefined|a < b/);
  });

  it('orders logarithmic axes by the logarithm', () => {
    const points = [0.01, 0.1, 1].map((x): [number, number] => [x, x]);
    const svg = lineChart({ ...labels, logX: true, logY: true, series: [{ name: 's', points }] });
    for (const axis of ['x', 'y']) {
      const marks = [...svg.matchAll(new RegExp(`<circle.*? c${axis}="([\\d.]+)"`, 'g'))];
      const [a, b, c] = marks.map((match) => Number(match[1]));
      expect(b - a).toBeCloseTo(c - b, 0);
    }
  });

  it('draws a dashed line without marks, numbers where they are asked for, and a log axis from step to step', () => {
    const points: [number, number][] = [
      [0, 0.9],
      [95, 12],
    ];
    const svg = lineChart({
      ...{ ...labels, logY: true, ticksX: [0, 95], formatX: String },
      series: [
        { name: 'measured', points },
        { name: 'ideal', points, dashed: true },
      ],
    });
    expect(wellFormed(svg)).toBe(true);
    expect(svg.match(/<circle/g)).toHaveLength(2);
    expect(svg.match(/stroke-dasharray/g)).toHaveLength(1);
    const numbers = [...svg.matchAll(/>([\d.]+)<\/text>/g)].map((match) => match[1]);
    expect(numbers).toEqual(['0.50', '1.00', '2.00', '5.00', '10.0', '20.0', '0', '95']);
  });

  it('copes with one point, none, and equal ones', () => {
    for (const points of [
      [],
      [[1, 1]],
      [
        [1, 1],
        [1, 1],
      ],
    ] as [number, number][][]) {
      const svg = lineChart({ ...labels, series: [{ name: 's', points }] });
      expect(svg).not.toMatch(/NaN|Infinity/);
    }
  });

  it('refuses what it cannot place', () => {
    for (const point of [
      [Number.NaN, 1],
      [1, Number.POSITIVE_INFINITY],
      [0, 1],
    ] as [number, number][])
      expect(() => lineChart({ ...labels, logX: true, series: [{ name: 's', points: [point] }] })).toThrow(
        RangeError,
      );
  });
});

describe('barChart', () => {
  it('draws bars in proportion', () => {
    const svg = barChart({
      ...labels,
      categories: ['1', '32'],
      series: [{ name: 's', values: [2, 4] }],
      reference: 1,
    });
    expect(wellFormed(svg)).toBe(true);
    const heights = [...svg.matchAll(/height="([\d.]+)" fill="#1f5fa8"\/><text/g)].map((match) =>
      Number(match[1]),
    );
    const bars = heights.filter((height) => height !== 10);
    expect(bars[1] / bars[0]).toBeCloseTo(2, 1);
  });

  it('refuses other counts and values', () => {
    const chart = (values: number[]) => () =>
      barChart({ ...labels, categories: ['1'], series: [{ name: 's', values }] });
    for (const values of [[], [1, 2], [Number.NaN], [-1]]) expect(chart(values)).toThrow(RangeError);
  });
});

describe('htmlPage', () => {
  it('is one file: no script, and nothing to fetch', () => {
    const picture = barChart({ ...labels, categories: ['1'], series: [{ name: 's', values: [1] }] });
    const html = htmlPage('title <b>', 'intro', [{ heading: '<i>', body: figure(picture, 'caption') }]);
    expect(html).not.toMatch(/<script|<link|<img|@import|url\(|\ssrc=|\shref=/);
    expect(html.replaceAll('http://www.w3.org/2000/svg', '')).not.toMatch(/https?:/);
    expect(html).toContain('title &lt;b&gt;');
    expect(html).toContain('<h2>&lt;i&gt;</h2>');
  });
});
