#include "pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <limits>
#include <memory>
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
    if (!Start(threads - 1)) {
      owned_.store(false, std::memory_order_release);
      return false;
    }
    monitor_.Lock();
    run_ = run;
    context_ = context;
    items_ = items;
    threads_ = threads;
    for (int i = 0; i < threads; ++i) cursors_[i].next.store(i, std::memory_order_relaxed);
    open_ = true;
    ++generation_;
    if (parked_ > 0) monitor_.WakeAll();
    monitor_.Unlock();
    // Not sooner: who waits for it would run into the lock, and sleep there.
    posted_.store(generation_, std::memory_order_release);

    Work(0);

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
  // The next item of a thread, on a line of its own.
  struct alignas(64) Cursor {
    std::atomic<int64_t> next;
  };

  // About the time a core-to-core hand-over takes a hundred times over: longer gaps are not worth a busy
  // core.
  static constexpr std::chrono::microseconds kSpin{50};
  // As long, counted: a pause takes about 10 to 40 ns.
  static constexpr int kSpins = 2000;

  // Threads that the system refuses are done without. False: not even their items could be counted.
  bool Start(int workers) {
    try {
      if (workers >= room_) {
        cursors_ = std::make_unique<Cursor[]>(static_cast<std::size_t>(workers) + 1);
        room_ = workers + 1;
      }
      while (started_ < workers) {
        std::thread([this, self = started_ + 1] { Loop(self); }).detach();
        ++started_;
      }
    } catch (const std::system_error&) {
    } catch (const std::bad_alloc&) {
    }
    return workers < room_;
  }

  // Every thread has items of its own, the same in each job of as many, so that what it wrote in one is in
  // its cache in the next; then it helps the others. Where an item finds no memory, nobody begins another
  // one, and the owner hears of it. Not by an exception_ptr: it would raise the libstdc++ floor to GCC 11's.
  void Work(int self) {
    try {
      for (int i = 0; i < threads_; ++i) {
        std::atomic<int64_t>& next = cursors_[(self + i) % threads_].next;
        for (;;) {
          const int64_t item = next.fetch_add(threads_, std::memory_order_relaxed);
          if (item >= items_ || no_memory_.load(std::memory_order_relaxed)) break;
          run_(context_, item);
        }
      }
    } catch (const std::bad_alloc&) {
      no_memory_.store(true, std::memory_order_relaxed);
    }
  }

  void Loop(int self) {
    uint64_t seen = 0;
    for (;;) {
      const auto until = std::chrono::steady_clock::now() + kSpin;
      while (posted_.load(std::memory_order_acquire) <= seen && std::chrono::steady_clock::now() < until) {
        for (int i = 0; i < 16; ++i) Relax();
      }
      monitor_.Lock();
      while (generation_ == seen) {
        ++parked_;
        monitor_.Wait();
        --parked_;
      }
      seen = generation_;
      const bool enter = open_ && self < threads_;
      if (enter) inside_.fetch_add(1, std::memory_order_relaxed);
      monitor_.Unlock();
      if (enter) {
        Work(self);
        inside_.fetch_sub(1, std::memory_order_release);
      }
    }
  }

  // Not a mutex: try_lock would raise the glibc floor to 2.34.
  std::atomic<bool> owned_{false};
  Monitor monitor_;
  std::atomic<uint64_t> posted_{0};  // the last generation that is ready
  std::atomic<int> inside_{0};
  std::atomic<bool> no_memory_{false};
  // Guarded by monitor_, or written by the owner before the job opens:
  uint64_t generation_ = 0;
  bool open_ = false;
  int threads_ = 0;
  int room_ = 0;
  std::unique_ptr<Cursor[]> cursors_;  // [room_]
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
