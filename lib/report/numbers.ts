/** Numbers as people read them; every table and picture uses these. */

/** A share as a percentage: 0.0867 is "8.67 %". */
export function percent(share: number, digits = 2): string {
  return `${(share * 100).toFixed(digits)} %`;
}

/** Three significant digits without an exponent: 1234.5 is "1235", 12.345 is "12.3". */
export function significant(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  // Rounded first: 9.996 has two digits before the point.
  const size = Math.abs(Number(value.toPrecision(Math.abs(value) < 1 ? 2 : 3)));
  if (size >= 100) return value.toFixed(0);
  if (size >= 10) return value.toFixed(1);
  return size >= 1 || size === 0 ? value.toFixed(2) : value.toPrecision(2);
}

/** Whole bytes with a space between thousands: 1067432 is "1 067 432". */
export function bytes(count: number): string {
  return String(Math.round(count)).replace(/\B(?=(\d{3})+$)/g, ' ');
}

/** A factor: 7.894 is "x7.89". */
export function factor(value: number): string {
  return `x${significant(value)}`;
}

/** A duration given in seconds. */
export function duration(seconds: number): string {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)} min ${whole % 60} s`;
}
