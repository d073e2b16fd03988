/** Numbers and tables as the report writes them. */

export const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
export const median = (values) => {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length / 2;
  return (sorted[Math.ceil(half) - 1] + sorted[Math.floor(half)]) / 2;
};
/** Standard deviation of a sample; NaN for one value. */
export const deviation = (values) => {
  const middle = mean(values);
  return Math.sqrt(values.reduce((sum, v) => sum + (v - middle) ** 2, 0) / (values.length - 1));
};
/** "88.31 ± 0.20" (mean and standard deviation), or the one value. */
export const spread = (values, digits = 2) =>
  values.length === 0
    ? '–'
    : mean(values).toFixed(digits) + (values.length > 1 ? ` ± ${deviation(values).toFixed(digits)}` : '');
export const signed = (value, digits = 2) => (value >= 0 ? '+' : '−') + Math.abs(value).toFixed(digits);
export const markdown = (head, rows) =>
  [head, head.map((_, i) => (i === 0 ? '---' : '---:')), ...rows]
    .map((row) => `| ${row.join(' | ')} |`)
    .join('\n');

/** "+1.02 ± 0.11": mean and standard error of paired differences. */
export const gainText = (gains) =>
  gains.length === 0
    ? '–'
    : signed(mean(gains)) +
      (gains.length > 1 ? ` ± ${(deviation(gains) / Math.sqrt(gains.length)).toFixed(2)}` : '');
