import { rangeError } from '../errors.ts';

/** A heading and how its cells are aligned; numbers read best to the right. */
export interface Column {
  readonly title: string;
  readonly align?: 'left' | 'right';
}

export interface Table {
  readonly columns: readonly Column[];
  readonly rows: readonly (readonly string[])[];
}

function checkRows(table: Table): void {
  table.rows.forEach((row, i) => {
    if (row.length !== table.columns.length)
      throw rangeError(`rows[${i}]`, `an array of ${table.columns.length} cells`, row);
  });
}

/** Lines of equal columns, with a rule below the headings, for a terminal. */
export function textTable(table: Table): string {
  checkRows(table);
  const widths = table.columns.map((column, i) =>
    Math.max(column.title.length, ...table.rows.map((row) => row[i].length)),
  );
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, i) =>
        table.columns[i].align === 'right' ? cell.padStart(widths[i]) : cell.padEnd(widths[i]),
      )
      .join('  ')
      .trimEnd();
  return [
    line(table.columns.map((column) => column.title)),
    widths.map((width) => '─'.repeat(width)).join('  '),
    ...table.rows.map(line),
  ].join('\n');
}

/** Text that is safe between tags and inside a quoted attribute. */
export function escapeHtml(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&#39;');
}

/** The same table for a page. Cells are text, never markup. */
export function htmlTable(table: Table): string {
  checkRows(table);
  const cells = (tag: string, texts: readonly string[]): string =>
    texts
      .map((text, i) => {
        const side = table.columns[i].align === 'right' ? ' class="number"' : '';
        return `<${tag}${side}>${escapeHtml(text)}</${tag}>`;
      })
      .join('');
  const head = cells(
    'th',
    table.columns.map((column) => column.title),
  );
  const body = table.rows.map((row) => `<tr>${cells('td', row)}</tr>`).join('\n');
  return `<table>\n<thead><tr>${head}</tr></thead>\n<tbody>\n${body}\n</tbody>\n</table>`;
}
