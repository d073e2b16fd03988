#include "pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <limits>
#include <new>
#include <system_error>
#include <thread>

#if defined(_WIN32)
#include <condition_variable>
#include <mutex>
#else
#include <pthread.h>
#include <sched.h>
#endif

namespace blocksparse {
namespace {

// std::condition_variable::wait would raise the glibc floor to 2.30; pthread's own does not.
#if defined(_WIN32)
class Monitor {
 public:
  void Lock() { mutex_.lock(); }
  void Unlock() { mutex_.unlock(); }
  void Wait() {
    std::unique_lock<std::mutex> lock(mutex_, std::adopt_lock);
    condition_.wait(lock);
    lock.release();
  }
  void WakeAll() { condition_.notify_all(); }

 private:
  std::mutex mutex_;
  std::condition_variable condition_;
};
#else
class Monitor {
 public:
  void Lock() { pthread_mutex_lock(&mutex_); }
  void Unlock() { pthread_mutex_unlock(&mutex_); }
  void Wait() { pthread_cond_wait(&condition_, &mutex_); }
  void WakeAll() { pthread_cond_broadcast(&condition_); }

 private:
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t condition_ = PTHREAD_COND_INITIALIZER;
};
#endif

inline void Relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// See ThreadLimit.
thread_local int thread_limit = std::numeric_limits<int>::max();

class Pool {
 public:
  // Never destroyed: its threads may be parked in it while the process exits.
  static Pool& Get() {
    static Pool* pool = new Pool();
    return *pool;
  }

  bool TryRun(int64_t items, int threads, void (*run)(void*, int64_t), void* context) {
    if (owned_.exchange(true, std::memory_order_acquire)) return false;
    Start(threads - 1);
    monitor_.Lock();
    run_ = run;
    context_ = context;
    items_ = items;
    next_.store(0, std::memory_order_relaxed);
    seats_ = threads - 1;
    open_ = true;
    generation_.fetch_add(1, std::memory_order_release);
    if (parked_ > 0) monitor_.WakeAll();
    monitor_.Unlock();

    Work();

    // A worker that comes late finds the job closed; one that is inside is waited for.
    monitor_.Lock();
    open_ = false;
    monitor_.Unlock();
    // It may have lost its core to another thread, perhaps for this one.
    for (int spins = 0; inside_.load(std::memory_order_acquire) > 0; ++spins) {
      if (spins < kSpins) {
        Relax();
      } else {
        std::this_thread::yield();
      }
    }
    const bool no_memory = no_memory_.exchange(false, std::memory_order_relaxed);
    owned_.store(false, std::memory_order_release);
    if (no_memory) throw std::bad_alloc();
    return true;
  }

 private:
  // About the time a core-to-core hand-over takes a hundred times over: longer gaps are not worth a busy
  // core.
  static constexpr std::chrono::microseconds kSpin{50};
  // As long, counted: a pause takes about 10 to 40 ns.
  static constexpr int kSpins = 2000;

  // Those that the system refuses are done without.
  void Start(int workers) {
    try {
      while (started_ < workers) {
        std::thread([this] { Loop(); }).detach();
        ++started_;
      }
    } catch (const std::system_error&) {
    }
  }

  // Where an item finds no memory, nobody begins another one, and the owner hears of it. Not by an
  // exception_ptr: it would raise the libstdc++ floor to GCC 11's.
  void Work() {
    try {
      for (;;) {
        const int64_t item = next_.fetch_add(1, std::memory_order_relaxed);
        if (item >= items_) return;
        run_(context_, item);
      }
    } catch (const std::bad_alloc&) {
      next_.store(items_, std::memory_order_relaxed);
      no_memory_.store(true, std::memory_order_relaxed);
    }
  }

  void Loop() {
    uint64_t seen = 0;
    for (;;) {
      const auto until = std::chrono::steady_clock::now() + kSpin;
      while (generation_.load(std::memory_order_acquire) == seen &&
             std::chrono::steady_clock::now() < until) {
        for (int i = 0; i < 16; ++i) Relax();
      }
      monitor_.Lock();
      while (generation_.load(std::memory_order_relaxed) == seen) {
        ++parked_;
        monitor_.Wait();
        --parked_;
      }
      seen = generation_.load(std::memory_order_relaxed);
      const bool enter = open_ && seats_ > 0;
      if (enter) {
        --seats_;
        inside_.fetch_add(1, std::memory_order_relaxed);
      }
      monitor_.Unlock();
      if (enter) {
        Work();
        inside_.fetch_sub(1, std::memory_order_release);
      }
    }
  }

  // Not a mutex: try_lock would raise the glibc floor to 2.34.
  std::atomic<bool> owned_{false};
  Monitor monitor_;
  std::atomic<uint64_t> generation_{0};
  std::atomic<int64_t> next_{0};
  std::atomic<int> inside_{0};
  std::atomic<bool> no_memory_{false};
  // Guarded by monitor_, or written by the owner before the job opens:
  bool open_ = false;
  int seats_ = 0;
  int parked_ = 0;
  int started_ = 0;
  int64_t items_ = 0;
  void (*run_)(void*, int64_t) = nullptr;
  void* context_ = nullptr;
};

}  // namespace

int HardwareThreads() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  const unsigned cores = std::thread::hardware_concurrency();
  return cores == 0 ? 1 : static_cast<int>(cores);
}

ThreadLimit::ThreadLimit(int threads) { thread_limit = threads; }
ThreadLimit::~ThreadLimit() { thread_limit = std::numeric_limits<int>::max(); }

void ParallelFor(int64_t items, int threads, void (*run)(void*, int64_t), void* context) {
  threads = std::min(threads, thread_limit);
  if (threads > 1 && items > 1 && Pool::Get().TryRun(items, threads, run, context)) return;
  for (int64_t i = 0; i < items; ++i) run(context, i);
}

}  // namespace blocksparse
