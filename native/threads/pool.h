// A small pool that splits one product over the cores. Workers spin for some microseconds after a job, since
// a network's next layer follows at once, then park.
#pragma once

#include <cstdint>

namespace blocksparse {

// Cores this process may use.
int HardwareThreads();

// While it lives, products of this thread use at most so many threads.
class ThreadLimit {
 public:
  explicit ThreadLimit(int threads);
  ~ThreadLimit();
  ThreadLimit(const ThreadLimit&) = delete;
  ThreadLimit& operator=(const ThreadLimit&) = delete;
};

// Calls run(context, i) for i in [0, items), on the calling thread and up to threads - 1 others; returns when
// all are done. When another caller holds the pool, everything runs on the calling thread. The only
// exception that `run` may throw is std::bad_alloc: the caller gets it, once no thread is in it any more.
void ParallelFor(int64_t items, int threads, void (*run)(void* context, int64_t item), void* context);

}  // namespace blocksparse
