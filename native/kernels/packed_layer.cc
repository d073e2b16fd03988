#include "packed_layer.h"

#include <algorithm>
#include <cstddef>

#include "../threads/partition.h"
#include "../threads/pool.h"

namespace blocksparse {
namespace {

// Work below which one thread is fastest: about 5 us, ten times a core-to-core round trip. Fewer batch rows
// than kMemoryRows run at the speed of memory and take as long as that many.
constexpr int64_t kParallelWork = 500 * 1000;
constexpr int64_t kMemoryRows = 3;

// The same for a layer within a chain whose threads share each layer: half of what one core reads another has
// just written, which takes as long as so many more for each number of it, and 4 us to begin with. Measured
// on chains of six, 768 x 768 at 90 to 98 %, 4 to 32 batch rows.
constexpr int64_t kParallelLayerWork = 400 * 1000;
constexpr int64_t kExchangeWork = 80;

// Batch rows that a chain of row-major layers takes at a time on one thread: whole tiles, and so few that
// what they read and write leaves weights half of an L2 of a megabyte. Threads that share the batch take a
// part of it each, of kPanel rows at most. Of wide layers as many as that L2 holds; but fewer than
// kLeastChainRows would read weights, which are from beyond it then, so often that they wait for them:
// 8192 x 8192 at 90 % takes a tenth longer by 16 rows than by 48, by 32 as long, with AVX2 on Zen 3.
constexpr int64_t kChainRows = 48;
constexpr int64_t kLeastChainRows = 32;

// Panels repay transposing a number of x or y where there is so much work for a batch row: they save about a
// fifth of it.
constexpr int64_t kTransposeWork = 32;

// Outputs of a layer alone that scratch holds at a time, in floats: half of the smallest L2 there is, or one
// block row.
constexpr int64_t kOutFloats = 32 * 1024;

// Scratch of the calling thread, kept for its next call.
thread_local AlignedFloats scratch_in;
thread_local AlignedFloats scratch_out;
thread_local AlignedFloats scratch_x;

}  // namespace

PackedLayer::PackedLayer(const KernelTable& table, const BsrView& matrix, const float* bias,
                         Activation activation, int threads, int64_t batch_hint)
    : table_(&table),
      n_(matrix.n),
      k_(matrix.k),
      blocks_(Pack(matrix, table.row_tile, batch_hint)),
      hinted_(batch_hint != 0),
      has_bias_(bias != nullptr),
      activation_(activation),
      threads_(threads) {
  if (has_bias_) bias_.assign(bias, bias + n_);
}

int64_t PackedLayer::bytes() const {
  return static_cast<int64_t>((blocks_.ptr.size() + blocks_.index.size() + bias_.size()) * sizeof(float)) +
         blocks_.values.size() * static_cast<int64_t>(sizeof(float));
}

BlockView PackedLayer::View() const {
  return {blocks_.ptr.data(), blocks_.index.data(), nullptr, blocks_.values.data(), r(), c(), 1, r(), n_, k_};
}

// The row-major design pays for each batch row, panels for every kLanes, and for transposing. Below
// kRowsInOrder the two give other bits, and groups do at any batch, so there the choice depends on what every
// instruction set knows: blocks of fewer than eight rows leave half a vector empty and are ahead up to four
// batch rows. Elsewhere it may depend on the set. Blocks whose rows are whole lines
// have nothing to transpose and, by tiles of two vectors or of many batch rows, few loads; those that only
// fill single vectors gain up to 12 rows. Without registers for wide tiles panels are faster. One vector of
// AVX-512 is a line, but asks for more loads than panels do: these are faster where the batch fills their
// tiles, the processor transposes fast, and the weights repay it. Where the designs meet was measured by
// bench/kernels, 768 x 768 at 80 and 95 %, AVX2 and AVX-512, and for single vectors of AVX-512 also 300 x 784
// to 4096 x 4096 at 70 to 98 %, Zen 5.
bool PackedLayer::UsesRows(int64_t m) const { return UsesRows(m, Work(m), n_ + k_); }

bool PackedLayer::UsesRows(int64_t m, double work, int64_t features) const {
  if (InGroups(m)) return true;
  if (m < kRowsInOrder) return m < (r() >= 8 ? kRowsInOrder : 5);
  if (table_->row_tile == 0 || r() % table_->lanes != 0) return false;
  if (r() < kLanes) return m <= 12;
  // Several tiles, or whole ones of which a quarter is empty at most, in panels that hold them.
  const bool fills =
      PanelRows() >= TileBatch() && (m >= kPanel || (m > 3 * kLanes / 2 && PadBatch(m) % TileBatch() == 0));
  const bool repays = work >= static_cast<double>(kTransposeWork * features * m);
  return r() >= table_->row_tile || !fills || !repays || !ShufflesFast();
}

std::string PackedLayer::Reason(int64_t m, bool rows) const {
  std::string reason;
  if (blocks_.all) {
    reason = hinted_
                 ? "so many blocks are kept that at about the hinted batch all of them, regrouped, can be "
                   "faster; "
                 : "so many blocks are kept that at some batch or size of layer all of them, regrouped, are "
                   "faster (batchHint says which batch counts); ";
  }
  return reason += ReasonOfDesign(m, rows);
}

const char* PackedLayer::ReasonOfDesign(int64_t m, bool rows) const {
  if (rows != UsesRows(m)) {
    return rows ? "the network does not repay transposing what it is given and gives, so all of it goes by "
                  "rows"
                : "the network goes by panels, and between its layers nothing is transposed";
  }
  if (InGroups(m))
    return "columns of a block fill a vector side by side, which is fastest for so few batch rows";
  if (rows) {
    return m >= kRowsInOrder ? "the rows of a block fill vectors, and nothing is to be transposed"
                             : "the batch is too small to fill vectors along it";
  }
  if (FillsGroups(r(), c()) && m <= kShortBatch && IsFar(View()))
    return "vectors along the batch read weights from beyond L2 once";
  if (r() % table_->lanes != 0)
    return "the rows of a block do not fill whole vectors, so these go along the batch";
  return "vectors along the batch ask for fewer loads than the rows of a block do";
}

Tile PackedLayer::TileFor(int64_t m, bool rows) const {
  if (n_ == 0 || m == 0) return {0, 0};
  if (rows) return table_->rows_tile(RowsArgs(nullptr, m, nullptr));
  return table_->panel_tile(std::min(r(), n_), PadBatch(m));
}

double PackedLayer::Work(int64_t m) const {
  return static_cast<double>(int64_t{blocks_.ptr.back()} * r() * c() * m) * WeightTime(r(), c(), m);
}

double PackedLayer::WorkOrMemory(int64_t m) const {
  return m < kMemoryRows ? Work(m) * kMemoryRows / static_cast<double>(m) : Work(m);
}

int PackedLayer::ThreadsFor(int64_t m) const { return WorkOrMemory(m) < kParallelWork ? 1 : threads_; }

int PackedLayer::ThreadsInChain(int64_t m) const {
  const auto least = static_cast<double>(kParallelLayerWork + kExchangeWork * m * n_);
  return WorkOrMemory(m) < least ? 1 : threads_;
}

RowsForwardArgs PackedLayer::RowsArgs(const float* x, int64_t m, float* y) const {
  const int64_t rows = static_cast<int64_t>(blocks_.ptr.size()) - 1;
  return {
      View(), blocks_.strips, has_bias_ ? bias_.data() : nullptr, activation_, x, y, m, 0, rows, nullptr, 0,
      0};
}

bool PackedLayer::InGroups(int64_t m) const { return TakesGroups(View(), m); }

bool PackedLayer::TakesLines(int64_t m) const { return table_->takes_lines(RowsArgs(nullptr, m, nullptr)); }

void PackedLayer::ForwardRows(const float* x, int64_t m, int64_t x_lines, float* y, int64_t y_lines,
                              int threads) const {
  struct Job {
    const PackedLayer* layer;
    RowsForwardArgs args;
    float* scratch;  // for each part `copied` floats of x by lines; or null
    int64_t copied;
    int64_t parts;
  };
  Job job{this, RowsArgs(x, m, y), nullptr, 0, threads};
  job.args.x_lines = x_lines;
  job.args.y_lines = y_lines;
  if (x_lines == 0 && TakesLines(m)) {
    job.copied = LinesFloats(k_, std::min(m, CopiedRows(k_)));
    job.scratch = scratch_x.Reserve(job.copied * job.parts);
  }
  ParallelFor(
      job.parts, threads,
      [](void* context, int64_t part) {
        const Job& job = *static_cast<const Job*>(context);
        const auto& ptr = job.layer->blocks_.ptr;
        RowsForwardArgs args = job.args;
        args.begin = RowSplit(ptr.data(), job.args.end, part, job.parts);
        args.end = RowSplit(ptr.data(), job.args.end, part + 1, job.parts);
        if (job.scratch != nullptr) args.scratch = job.scratch + part * job.copied;
        job.layer->table_->rows_forward(args);
      },
      &job);
}

int64_t PackedLayer::PartBegin(int64_t part, int64_t parts) const {
  return RowSplit(blocks_.ptr.data(), static_cast<int64_t>(blocks_.ptr.size()) - 1, part, parts);
}

void PackedLayer::ForwardPanel(const float* x, float* y, int64_t width, int64_t begin, int64_t end) const {
  table_->panel_forward({View(), has_bias_ ? bias_.data() : nullptr, activation_, x, y, width, begin, end});
}

void PackedLayer::Forward(const float* x, int64_t m, float* y) const {
  const PackedLayer* self = this;
  ForwardChain(&self, 1, x, m, y);
}

namespace {

struct ChainJob {
  const PackedLayer* const* layers;
  int64_t count;
  const float* x;
  int64_t m;
  float* y;
  int64_t widest;  // of the activations that scratch holds
  int64_t rows;    // a panel
  int threads;
};

struct LayerPart {
  const PackedLayer* layer;
  const float* x;
  float* y;
  int64_t width;
  int64_t parts;
};

// Batch rows of a panel, and where they begin.
struct PanelRows {
  int64_t row, count, width;
};

PanelRows RowsOfPanel(const ChainJob& job, int64_t panel) {
  const int64_t row = panel * job.rows;
  const int64_t count = std::min(job.rows, job.m - row);
  return {row, count, PadBatch(count)};
}

// The panel of x in this thread's scratch.
float* PanelOf(const ChainJob& job, const PanelRows& at) {
  const int64_t k = job.layers[0]->k();
  float* panel = scratch_in.Reserve(job.widest * job.rows);
  const float* pointers[kPanel];
  for (int64_t i = 0; i < at.count; ++i) pointers[i] = job.x + (at.row + i) * k;
  job.layers[0]->table().to_panel(pointers, at.count, k, panel, at.width);
  return panel;
}

// One panel through a layer alone, a part of its block rows from x to y: a core that copies all of x by
// itself waits less than for panels that another core has just written. Outputs leave for y as they come:
// kernels write each at its own place of y, so theirs begins as far before scratch as `begin` is from the
// first.
void RunPanelPart(const ChainJob& job, int64_t panel, int64_t part, int64_t parts) {
  const PackedLayer& layer = *job.layers[0];
  const PanelRows at = RowsOfPanel(job, panel);
  const float* in = PanelOf(job, at);
  const int64_t fits = kOutFloats / (job.rows * layer.r());
  const int64_t step = std::max<int64_t>(1, fits - fits % kMostBlockRows);
  float* out = scratch_out.Reserve(std::min(step * layer.r(), layer.n()) * job.rows);
  const int64_t end = layer.PartBegin(part + 1, parts);
  for (int64_t begin = layer.PartBegin(part, parts); begin < end; begin += step) {
    const int64_t next = std::min(begin + step, end);
    const int64_t first = begin * layer.r();
    layer.ForwardPanel(in, out - first * at.width, at.width, begin, next);
    layer.table().from_panel(out, at.width, at.count, std::min(next * layer.r(), layer.n()) - first,
                             job.y + at.row * layer.n() + first, layer.n());
  }
}

// One panel through every layer. `threads` split a layer's block rows; with several panels they split those.
void RunPanel(const ChainJob& job, int64_t panel, int threads) {
  if (job.count == 1) return RunPanelPart(job, panel, 0, 1);
  const PackedLayer& last = *job.layers[job.count - 1];
  const PanelRows at = RowsOfPanel(job, panel);
  float* in = PanelOf(job, at);
  float* out = scratch_out.Reserve(job.widest * job.rows);
  for (int64_t i = 0; i < job.count; ++i) {
    LayerPart part{job.layers[i], in, out, at.width, job.layers[i]->ThreadsInChain(job.m) > 1 ? threads : 1};
    ParallelFor(
        part.parts, threads,
        [](void* context, int64_t index) {
          const LayerPart& p = *static_cast<const LayerPart*>(context);
          p.layer->ForwardPanel(p.x, p.y, p.width, p.layer->PartBegin(index, p.parts),
                                p.layer->PartBegin(index + 1, p.parts));
        },
        &part);
    std::swap(in, out);
  }
  last.table().from_panel(in, at.width, at.count, last.n(), job.y + at.row * last.n(), last.n());
}

// Row-major layers one after the other, on so many batch rows at a time that activations stay in the cache,
// or on all of them (`parts` 1); the last part has what is left, of larger batches never fewer than
// kRowsInOrder, for the bits of the whole batch. Between layers they lie by lines where the next one wants
// them so. `split`: threads may share a layer's block rows.
void RunRows(const ChainJob& job, int64_t part, int64_t parts, bool split) {
  const int64_t row = part * job.rows;
  const int64_t rows = part == parts - 1 ? job.m - row : job.rows;
  const float* from = job.x + row * job.layers[0]->k();
  int64_t from_lines = 0;
  for (int64_t i = 0; i < job.count; ++i) {
    const PackedLayer& layer = *job.layers[i];
    const bool last = i == job.count - 1;
    AlignedFloats& buffer = i % 2 == 0 ? scratch_in : scratch_out;
    float* to = last ? job.y + row * layer.n() : buffer.Reserve(LinesFloats(job.widest, rows));
    const bool by_lines = !last && layer.GivesLines() && job.layers[i + 1]->TakesLines(rows);
    const int64_t to_lines = by_lines ? Lines(rows) : 0;
    const int threads = job.count == 1 ? layer.ThreadsFor(rows) : layer.ThreadsInChain(rows);
    layer.ForwardRows(from, rows, from_lines, to, to_lines, split ? threads : 1);
    from = to;
    from_lines = to_lines;
  }
}

// Whether every layer goes row-major.
bool ChainUsesRows(const PackedLayer* const* layers, int64_t count, int64_t m) {
  const auto end = layers + count;
  // Whether the other layers use rows depends on the instruction set from here on, the order of groups does
  // not: panels, for the same bits on each.
  const auto in_groups = std::count_if(layers, end, [m](auto* layer) { return layer->InGroups(m); });
  if (m >= kRowsInOrder && in_groups > 0 && in_groups < count) return false;
  double work = 0;
  for (auto layer = layers; layer < end; ++layer) work += (*layer)->Work(m);
  const int64_t features = layers[0]->k() + layers[count - 1]->n();
  return std::all_of(layers, end, [=](auto* layer) { return layer->UsesRows(m, work, features); });
}

// Batch rows for each of the threads that share those of a chain: they wait for one another less than by
// sharing each layer, of which a core writes what another reads.
int64_t ShareOf(int64_t m, int threads, int64_t least, int64_t most) {
  return std::clamp((m + threads - 1) / threads, least, most);
}

}  // namespace

ChainPlan PlanChain(const PackedLayer* const* layers, int64_t count, int64_t m) {
  ChainPlan plan{ChainUsesRows(layers, count, m), 0, 1};
  int64_t both = 0;  // the most of a layer's x and y together
  for (int64_t i = 0; i < count; ++i) {
    both = std::max(both, layers[i]->n() + layers[i]->k());
    plan.threads = std::max(plan.threads, layers[i]->ThreadsFor(m));
  }
  if (plan.rows) {
    // A layer alone has nothing to keep in the cache.
    const int64_t most = count == 1 ? kPanel : std::max(kLeastChainRows, ScratchRows(both, kPanel));
    plan.batch = count == 1          ? (plan.threads == 1 ? m : most)
                 : plan.threads == 1 ? std::min(kChainRows, most)
                                     : ShareOf(m, plan.threads, 2 * kRowsInOrder, most);
    return plan;
  }
  // Panels as wide as tiles: the fewer rows, the more of x and y stays in the caches, and threads have panels
  // to share.
  plan.batch = layers[0]->PanelRows();
  if (count > 1) {
    for (int64_t i = 0; i < count; ++i) plan.batch = std::max(plan.batch, layers[i]->TileBatch());
    plan.batch = ScratchRows(both, plan.batch);
    if (plan.threads > 1)
      plan.batch = PadBatch(ShareOf(m, plan.threads, std::min(2 * kLanes, plan.batch), plan.batch));
  }
  plan.batch = std::min(plan.batch, PadBatch(m));
  return plan;
}

void ForwardChain(const PackedLayer* const* layers, int64_t count, const float* x, int64_t m, float* y) {
  if (m == 0) return;
  const ChainPlan plan = PlanChain(layers, count, m);
  ChainJob job{layers, count, x, m, y, layers[0]->k(), plan.batch, plan.threads};
  for (int64_t i = 0; i < count && count > 1; ++i)
    job.widest = std::max({job.widest, layers[i]->n(), layers[i]->k()});
  if (plan.rows) {
    int64_t parts = std::max<int64_t>(1, (m + job.rows - kRowsInOrder) / job.rows);
    // The threads of a layer alone share the batch where it comes out even, and its block rows otherwise.
    if (count == 1 && parts % job.threads != 0) parts = 1;
    if (parts == 1 || job.threads == 1) {
      for (int64_t part = 0; part < parts; ++part) RunRows(job, part, parts, true);
      return;
    }
    struct Parts {
      const ChainJob* job;
      int64_t count;
    } context{&job, parts};
    ParallelFor(
        parts, job.threads,
        [](void* context, int64_t part) {
          const Parts& parts = *static_cast<const Parts*>(context);
          RunRows(*parts.job, part, parts.count, false);
        },
        &context);
    return;
  }
  const int64_t panels = (m + job.rows - 1) / job.rows;
  // Threads share the panels of a layer alone where they come out even, and its block rows otherwise.
  if (count == 1 && job.threads > 1 && panels % job.threads != 0) {
    ParallelFor(
        job.threads, job.threads,
        [](void* context, int64_t part) {
          const ChainJob& job = *static_cast<const ChainJob*>(context);
          for (int64_t row = 0; row < job.m; row += job.rows)
            RunPanelPart(job, row / job.rows, part, job.threads);
        },
        &job);
    return;
  }
  if (panels == 1 || job.threads == 1) {
    for (int64_t panel = 0; panel < panels; ++panel) RunPanel(job, panel, job.threads);
    return;
  }
  ParallelFor(
      panels, job.threads,
      [](void* context, int64_t panel) { RunPanel(*static_cast<const ChainJob*>(context), panel, 1); }, &job);
}

}  // namespace blocksparse
