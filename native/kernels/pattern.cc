#include "pattern.h"

#include <cstddef>

#include "../threads/partition.h"
#include "../threads/pool.h"

namespace blocksparse {
namespace {

constexpr int64_t kParallelWork = 500 * 1000;  // multiply-adds; see packed_layer.cc

struct PanelJob {
  const KernelTable* table;
  BlockView view;
  const float* bias;
  Activation activation;
  const float* x;
  float* y;
  int64_t m;
  int64_t rows;   // block rows of the view
  int64_t parts;  // of the block rows of one panel
};

void RunPanels(PanelJob job, int threads) {
  const int64_t panels = PanelCount(job.m);
  job.parts = panels >= threads ? 1 : threads;
  ParallelFor(
      panels * job.parts, threads,
      [](void* context, int64_t item) {
        const PanelJob& job = *static_cast<const PanelJob*>(context);
        const int64_t panel = item / job.parts;
        const int64_t part = item % job.parts;
        job.table->panel_forward({job.view, job.bias, job.activation, job.x + panel * kPanel * job.view.in,
                                  job.y + panel * kPanel * job.view.out, PanelWidth(job.m, panel),
                                  RowSplit(job.view.ptr, job.rows, part, job.parts),
                                  RowSplit(job.view.ptr, job.rows, part + 1, job.parts)});
      },
      &job);
}

}  // namespace

Pattern::Pattern(const KernelTable& table, int64_t n, int64_t k, int64_t r, int64_t c, const int32_t* crow,
                 const int32_t* col, int threads)
    : table_(&table), n_(n), k_(k), r_(r), c_(c), threads_(threads) {
  const int64_t rows = (n + r - 1) / r;
  const int64_t cols = (k + c - 1) / c;
  crow_.assign(crow, crow + rows + 1);
  col_.assign(col, col + crow_.back());
  ccol_.assign(static_cast<std::size_t>(cols + 1), 0);
  row_.resize(col_.size());
  block_.resize(col_.size());
  for (int32_t column : col_) ++ccol_[static_cast<std::size_t>(column) + 1];
  for (std::size_t i = 1; i < ccol_.size(); ++i) ccol_[i] += ccol_[i - 1];
  std::vector<int32_t> next(ccol_.begin(), ccol_.end() - 1);
  for (int64_t row = 0; row < rows; ++row) {
    for (int32_t e = crow_[static_cast<std::size_t>(row)]; e < crow_[static_cast<std::size_t>(row) + 1];
         ++e) {
      const int32_t at = next[static_cast<std::size_t>(col_[static_cast<std::size_t>(e)])]++;
      row_[static_cast<std::size_t>(at)] = static_cast<int32_t>(row);
      block_[static_cast<std::size_t>(at)] = e;
    }
  }
}

int Pattern::ThreadsFor(int64_t m) const { return value_count() * m < kParallelWork ? 1 : threads_; }

void Pattern::Forward(const float* values, const float* bias, Activation activation, const float* x,
                      int64_t m, float* y) const {
  const BlockView view{crow_.data(), col_.data(), nullptr, values, r_, c_, c_, 1, n_, k_};
  RunPanels({table_, view, bias, activation, x, y, m, static_cast<int64_t>(crow_.size()) - 1, 1},
            ThreadsFor(m));
}

void Pattern::InputGradient(const float* values, const float* dy, int64_t m, float* dx) const {
  const BlockView view{ccol_.data(), row_.data(), block_.data(), values, c_, r_, 1, c_, k_, n_};
  RunPanels({table_, view, nullptr, Activation::kNone, dy, dx, m, static_cast<int64_t>(ccol_.size()) - 1, 1},
            ThreadsFor(m));
}

void Pattern::WeightGradient(const float* dy, const float* x, int64_t m, float* gradient,
                             float* bias_gradient) const {
  struct Job {
    const Pattern* pattern;
    WeightGradientArgs args;
    int64_t parts;
  };
  const int threads = ThreadsFor(m);
  Job job{
      this, {crow_.data(), col_.data(), r_, c_, n_, k_, dy, x, m, gradient, bias_gradient, 0, 0}, threads};
  ParallelFor(
      job.parts, threads,
      [](void* context, int64_t part) {
        const Job& job = *static_cast<const Job*>(context);
        const auto& crow = job.pattern->crow_;
        const int64_t rows = static_cast<int64_t>(crow.size()) - 1;
        WeightGradientArgs args = job.args;
        args.begin = RowSplit(crow.data(), rows, part, job.parts);
        args.end = RowSplit(crow.data(), rows, part + 1, job.parts);
        job.pattern->table_->weight_gradient(args);
      },
      &job);
}

}  // namespace blocksparse
