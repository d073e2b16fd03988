import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bytes, duration, factor, percent, significant } from '../../lib/report/numbers.ts';
import { escapeHtml, htmlTable, textTable } from '../../lib/report/table.ts';

describe('numbers', () => {
  it('prints three digits, units and groups', () => {
    expect([1234.5, 123.4, 12.345, 1.2345, 0.012345, 0, Number.NaN].map(significant)).toEqual([
      '1235',
      '123',
      '12.3',
      '1.23',
      '0.012',
      '0.00',
      'NaN',
    ]);
    expect([0.996, 9.996, -9.996, 99.96, 99.94].map(significant)).toEqual([
      '1.00',
      '10.0',
      '-10.0',
      '100',
      '99.9',
    ]);
    expect(percent(0.0867)).toBe('8.67 %');
    expect([0, 999, 1000, 1067432].map(bytes)).toEqual(['0', '999', '1 000', '1 067 432']);
    expect(factor(7.894)).toBe('x7.89');
    expect([3.21, 59.9, 125].map(duration)).toEqual(['3.2 s', '59.9 s', '2 min 5 s']);
  });
});

describe('textTable', () => {
  it('aligns columns', () => {
    const text = textTable({
      columns: [{ title: 'name' }, { title: 'n', align: 'right' }],
      rows: [
        ['a', '1'],
        ['longer', '100'],
      ],
    });
    expect(text.split('\n')).toEqual(['name      n', '──────  ───', 'a         1', 'longer  100']);
  });

  it('refuses a row of another length', () => {
    expect(() => textTable({ columns: [{ title: 'a' }], rows: [['1', '2']] })).toThrow(RangeError);
  });
});

describe('htmlTable', () => {
  it('never lets a cell become markup', () => {
    fc.assert(
      fc.property(fc.string(), (cell) => {
        const html = htmlTable({ columns: [{ title: cell }], rows: [[cell]] });
        expect(html.match(/<[^>]*>/g)).toHaveLength(14);
      }),
    );
    expect(escapeHtml(`<a b="c" d='e'>&`)).toBe('&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;');
  });
});
