// The pool and the shared layers' reference count under many callers at once, for ThreadSanitizer. Ends with
// 0 when every item of every job ran once.
#include "../../native/threads/pool.h"

#include <atomic>
#include <cstdio>
#include <thread>
#include <vector>

#include "../../native/binding/shared.h"

namespace {

constexpr int kItems = 37;

struct Job {
  // Plain ints: two runs of one item, or a job that returns early, are races that the sanitizer sees.
  int runs[kItems] = {};
};

void Count(void* context, int64_t item) { ++static_cast<Job*>(context)->runs[item]; }

struct Tracked {
  explicit Tracked(std::atomic<int>* alive) : alive(alive) { ++*alive; }
  Tracked(const Tracked&) = delete;
  ~Tracked() { --*alive; }
  std::atomic<int>* alive;
};

bool Run(int rounds) {
  for (int round = 0; round < rounds; ++round) {
    Job job;
    blocksparse::ParallelFor(kItems, 2 + round % 3, Count, &job);
    for (int runs : job.runs) {
      if (runs != 1) return false;
    }
  }
  return true;
}

}  // namespace

int main() {
  std::atomic<int> wrong{0}, alive{0};
  {
    const auto shared = blocksparse::Shared<Tracked>::Make(&alive);
    std::vector<std::thread> callers;
    for (int i = 0; i < 4; ++i) {
      callers.emplace_back([&wrong, shared] {
        for (int round = 0; round < 200; ++round) {
          auto copy = shared;
          auto moved = std::move(copy);
          if (moved->alive->load() != 1 || !Run(5)) ++wrong;
        }
      });
    }
    for (auto& caller : callers) caller.join();
  }
  std::printf("wrong: %d, alive: %d\n", wrong.load(), alive.load());
  return wrong.load() == 0 && alive.load() == 0 ? 0 : 1;
}
