// A layer's weights as the forward kernels read them, and the choice between the two designs.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "packing.h"
#include "table.h"

namespace blocksparse {

class PackedLayer {
 public:
  // Copies everything. `bias` may be null; `batch_hint` as for Pack.
  PackedLayer(const KernelTable& table, const BsrView& matrix, const float* bias, Activation activation,
              int threads, int64_t batch_hint);

  int64_t n() const { return n_; }
  int64_t k() const { return k_; }
  // Of the blocks it holds: those of the matrix, strips of them, or others that hold all weights.
  int64_t r() const { return blocks_.r; }
  int64_t c() const { return blocks_.c; }
  bool regrouped() const { return blocks_.all; }
  int64_t bytes() const;

  // Whether a batch of m goes through the row-major design where the layer is alone, and in a chain of so
  // much work, which has so many features of x and y to transpose for panels.
  bool UsesRows(int64_t m) const;
  bool UsesRows(int64_t m, double work, int64_t features) const;
  // Why it goes by `rows` or by panels, alone or in a chain, and by which tile, m rows at a time.
  std::string Reason(int64_t m, bool rows) const;
  Tile TileFor(int64_t m, bool rows) const;
  // How many threads compute it, alone and in a chain.
  int ThreadsFor(int64_t m) const;
  int ThreadsInChain(int64_t m) const;  // where they share this layer of a chain, not the batch
  // Multiply-adds of a batch, those of small blocks counted as the more of dense that take as long.
  double Work(int64_t m) const;
  // Batch rows that its tiles take at a time in the panel design; and those of a panel of a layer alone,
  // whose x is what scratch holds.
  int64_t TileBatch() const { return table_->panel_tile(r(), kPanel).batch; }
  int64_t PanelRows() const { return ScratchRows(k_, std::max(kLanes, TileBatch())); }

  // Row-major x[m][k] to y[m][n]; neither may overlap the other.
  void Forward(const float* x, int64_t m, float* y) const;
  // Lines: 0, or the lines that x lies by, or y is to lie by (table.h).
  void ForwardRows(const float* x, int64_t m, int64_t x_lines, float* y, int64_t y_lines, int threads) const;
  bool TakesLines(int64_t m) const;
  bool InGroups(int64_t m) const;  // TakesGroups of table.h
  bool GivesLines() const { return r() == kLanes; }
  // The first block row of part `part` of `parts`; and one panel, x[k][width] to y[n][width], for block rows
  // [begin, end).
  int64_t PartBegin(int64_t part, int64_t parts) const;
  void ForwardPanel(const float* x, float* y, int64_t width, int64_t begin, int64_t end) const;

  const KernelTable& table() const { return *table_; }

 private:
  const char* ReasonOfDesign(int64_t m, bool rows) const;
  double WorkOrMemory(int64_t m) const;  // the longer of the two, as work
  BlockView View() const;
  RowsForwardArgs RowsArgs(const float* x, int64_t m, float* y) const;

  const KernelTable* table_;
  int64_t n_, k_;
  Packing blocks_;
  bool hinted_;
  std::vector<float> bias_;
  bool has_bias_;
  Activation activation_;
  int threads_;
};

// How a chain goes: all its layers row-major or by panels, how many batch rows it takes at a time, and with
// how many threads.
struct ChainPlan {
  bool rows;
  int64_t batch;
  int threads;
};
ChainPlan PlanChain(const PackedLayer* const* layers, int64_t count, int64_t m);

// Runs layers one after the other on a row-major batch; between them activations stay in panels, or
// row-major, as planned. A layer alone is a chain of one.
void ForwardChain(const PackedLayer* const* layers, int64_t count, const float* x, int64_t m, float* y);

}  // namespace blocksparse
