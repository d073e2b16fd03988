// Where a vector is a whole line, AVX2 takes the products that fill halves of it (FillHalves): the same bits
// either way. A choice between calls: included behind the target region, for the sake of its size.
void HalvesOrRowsForward(const RowsForwardArgs& a) {
  return FillHalves(a) ? kAvx2Table.rows_forward(a) : ShortOrRowsForward(a);
}
Tile TileOfHalvesOrRows(const RowsForwardArgs& a) {
  return FillHalves(a) ? kAvx2Table.rows_tile(a) : TileOfShortOrRows(a);
}
