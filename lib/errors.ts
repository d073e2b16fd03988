/** Why an operation failed, for programs that decide by it. */
export type BlocksparseErrorCode =
  | 'INVALID_FILE'
  | 'INVALID_DATA'
  | 'DATA_NOT_FOUND'
  | 'INVALID_STATE'
  | 'NATIVE_UNAVAILABLE'
  | 'WRITE_FAILED';

/** A failure that is not a wrong argument: a damaged file, missing data, an unusable addon. */
export class BlocksparseError extends Error {
  readonly code: BlocksparseErrorCode;
  constructor(code: BlocksparseErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'BlocksparseError';
    this.code = code;
  }
}

/** A short description of any value, for error messages. */
export function describe(value: unknown): string {
  if (value === null) return 'null';
  if (typeof value === 'string')
    return JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}...` : value);
  if (Array.isArray(value))
    return value.length <= 4 ? `[${value.map(describe).join(', ')}]` : `Array of ${value.length}`;
  if (ArrayBuffer.isView(value)) {
    const length = 'length' in value ? (value as Float32Array).length : value.byteLength;
    return `${value.constructor.name} of ${length}`;
  }
  if (typeof value === 'object') return value.constructor?.name ?? 'object';
  if (typeof value === 'function') return 'function';
  return String(value);
}

/** `name` has the wrong type. */
export function typeError(name: string, expected: string, given: unknown): TypeError {
  return new TypeError(`${name} must be ${expected}, but is ${describe(given)}`);
}

/** `name` has the right type and a value that is not allowed. */
export function rangeError(name: string, expected: string, given: unknown): RangeError {
  return new RangeError(`${name} must be ${expected}, but is ${describe(given)}`);
}
