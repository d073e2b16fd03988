import { escapeHtml } from './table.ts';

export interface Section {
  readonly heading: string;
  /** Markup, trusted: made by htmlTable, lineChart, maskSvg and the like. */
  readonly body: string;
}

const STYLE = `
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 0.9rem; }
th, td { text-align: left; padding: 0.3rem 0.8rem; border-bottom: 1px solid #e3e6ea; white-space: nowrap; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
svg { max-width: 100%; display: block; }
figure { margin: 1rem 0; } figcaption { font-size: 0.85rem; color: #555; }
.scroll { overflow-x: auto; }
`;

/** One page that needs no other file: styles inside, pictures as SVG, no script. */
export function htmlPage(title: string, intro: string, sections: readonly Section[]): string {
  const body = sections.map(
    (one) => `<section>\n<h2>${escapeHtml(one.heading)}</h2>\n${one.body}\n</section>`,
  );
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title>
<style>${STYLE}</style>
</head>
<body>
<h1>${escapeHtml(title)}</h1>
<p>${escapeHtml(intro)}</p>
${body.join('\n')}
</body>
</html>
`;
}

/** A picture with words below it. */
export function figure(picture: string, caption: string): string {
  return `<figure>${picture}<figcaption>${escapeHtml(caption)}</figcaption></figure>`;
}

/** A paragraph of plain text. */
export function paragraph(content: string): string {
  return `<p>${escapeHtml(content)}</p>`;
}
