/** The bytes of an ONNX model y = x . W^T (one Gemm, transB), written by the protobuf wire format. */

const encoder = new TextEncoder();

function varint(value) {
  const bytes = [];
  let rest = BigInt(value);
  while (rest > 127n) {
    bytes.push(Number(rest & 127n) | 128);
    rest >>= 7n;
  }
  bytes.push(Number(rest));
  return bytes;
}

const number = (field, value) => Uint8Array.from([...varint(field << 3), ...varint(value)]);
const bytes = (field, content) => {
  const head = [...varint((field << 3) | 2), ...varint(content.length)];
  const all = new Uint8Array(head.length + content.length);
  all.set(head);
  all.set(content, head.length);
  return all;
};
const text = (field, value) => bytes(field, encoder.encode(value));
const message = (field, ...parts) => bytes(field, Buffer.concat(parts));

const FLOAT = 1;
const INT_ATTRIBUTE = 2;

function tensorType(field, name, dimensions) {
  const shape = message(
    2,
    ...dimensions.map((size) => message(1, size === null ? text(2, 'M') : number(1, size))),
  );
  return message(field, text(1, name), message(2, message(1, number(1, FLOAT), shape)));
}

/** weight: row-major [n, k]. */
export function gemmModel(weight, n, k) {
  const node = message(
    1,
    text(1, 'x'),
    text(1, 'w'),
    text(2, 'y'),
    text(4, 'Gemm'),
    message(5, text(1, 'transB'), number(3, 1), number(20, INT_ATTRIBUTE)),
  );
  const raw = new Uint8Array(weight.buffer, weight.byteOffset, weight.byteLength);
  const initializer = message(5, number(1, n), number(1, k), number(2, FLOAT), text(8, 'w'), bytes(9, raw));
  const graph = message(
    7,
    node,
    text(2, 'gemm'),
    initializer,
    tensorType(11, 'x', [null, k]),
    tensorType(12, 'y', [null, n]),
  );
  return Buffer.concat([number(1, 8), graph, message(8, number(2, 13))]);
}
