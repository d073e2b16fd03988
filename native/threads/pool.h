// A small pool that splits one product over the cores. Workers spin for some microseconds after a job, since
// a network's next layer follows at once, then park.
#pragma once

#include <cstdint>

namespace blocksparse {

// Cores this process may use.
int HardwareThreads();

// Calls run(context, i) for i in [0, items), on the calling thread and up to threads - 1 others; returns when
// all are done. When another caller holds the pool, everything runs on the calling thread: async products
// then share the cores by their own threads instead of fighting over the pool.
void ParallelFor(int64_t items, int threads, void (*run)(void* context, int64_t item), void* context);

}  // namespace blocksparse
