#include "noisycells/parallel.h"

#include <algorithm>
#include <atomic>

#if defined(NOISYCELLS_OPENMP)
#include <omp.h>
#elif defined(NOISYCELLS_THREADS)
#include <thread>
#include <vector>
#endif

namespace noisycells {
namespace {

std::atomic<int> setting{0};
std::atomic<bool> forked{false};

using Clock = std::chrono::steady_clock;
constexpr auto kAsked = std::chrono::milliseconds(100);  // from one question to the next
constexpr auto kPiece = std::chrono::milliseconds(5);  // pieces of work grow until they take this

thread_local Interruptible* asks = nullptr;  // what this thread asks for
thread_local Interruptible* serves = nullptr;  // what may stop the work that it is in

using Work = void (*)(void*, std::ptrdiff_t, std::ptrdiff_t);

// A thread's share: at once, or in pieces where it may be stopped between them.
void run_share(Interruptible* call, std::ptrdiff_t begin, std::ptrdiff_t end, std::ptrdiff_t grain,
               Work f, void* state) {
  if (!call) {
    f(state, begin, end);
    return;
  }
  Interruptible* const before = serves;
  serves = call;
  for (std::ptrdiff_t size = grain; begin < end && !call->stopped();) {
    const auto started = Clock::now();
    const std::ptrdiff_t stop = end - begin > size ? begin + size : end;
    f(state, begin, stop);
    begin = stop;
    const auto took = Clock::now() - started;
    if (took < kPiece) size *= took < kPiece / 8 ? 8 : 2;
  }
  serves = before;
}

int runtime_threads() {
#if defined(NOISYCELLS_OPENMP)
  return omp_get_max_threads();
#elif defined(NOISYCELLS_THREADS)
  return std::max(1u, std::thread::hardware_concurrency());
#else
  return 1;
#endif
}

bool inside_parallel_region() {
#if defined(NOISYCELLS_OPENMP)
  return omp_in_parallel();
#else
  return false;
#endif
}

}  // namespace

const char* threading_backend() {
#if defined(NOISYCELLS_OPENMP)
  return "openmp";
#elif defined(NOISYCELLS_THREADS)
  return "threads";
#else
  return "serial";
#endif
}

void set_num_threads(int n) { setting.store(std::max(n, 0)); }

int get_num_threads() {
  if (forked.load()) return 1;
  const int n = setting.load();
  return n > 0 ? n : runtime_threads();
}

void after_fork_in_child() {
  forked.store(true);
#if defined(NOISYCELLS_OPENMP)
  // The runtime is shared with torch and others: its pool is as dead for them as for us.
  omp_set_num_threads(1);
#endif
}

Interruptible::Interruptible(bool (*wanted)())
    : wanted_(wanted), outer_(asks), asked_(Clock::now()) {
  asks = this;
}

Interruptible::~Interruptible() { asks = outer_; }

bool Interruptible::stopped() {
  if (asks == this && !stop_.load(std::memory_order_relaxed)) {
    const auto now = Clock::now();
    if (now - asked_ >= kAsked) {
      asked_ = now;
      if (wanted_()) stop_.store(true, std::memory_order_relaxed);
    }
  }
  return stop_.load(std::memory_order_relaxed);
}

void detail::parallel_run(std::ptrdiff_t n, std::ptrdiff_t grain, int threads, Work f,
                          void* state) {
  if (n <= 0) return;
  if (serves) {  // inside a piece: no more threads
    run_share(serves, 0, n, grain, f, state);
    return;
  }
  Interruptible* const call = asks;
  const std::ptrdiff_t pieces = (n + grain - 1) / grain;
  if (threads <= 0) threads = get_num_threads();
  if (forked.load() || inside_parallel_region()) threads = 1;
  threads = static_cast<int>(std::min<std::ptrdiff_t>(threads, pieces));
  // One contiguous share a thread, so that a thread seeks into its data once.
  const auto run = [&](int t) {
    const auto start = [&](int i) {
      return std::min(
          n, (pieces / threads * i + std::min<std::ptrdiff_t>(i, pieces % threads)) * grain);
    };
    run_share(call, start(t), start(t + 1), grain, f, state);
  };
  if (threads <= 1) {
    run(0);
  } else {
#if defined(NOISYCELLS_OPENMP)
#pragma omp parallel num_threads(threads)
    // The runtime may give fewer threads than asked for.
    for (int t = omp_get_thread_num(); t < threads; t += omp_get_num_threads()) run(t);
#elif defined(NOISYCELLS_THREADS)
    std::vector<std::thread> workers;
    workers.reserve(threads - 1);
    for (int t = 1; t < threads; ++t) workers.emplace_back([&, t] { run(t); });
    run(0);
    for (auto& w : workers) w.join();
#else
    for (int t = 0; t < threads; ++t) run(t);
#endif
  }
  if (call && call->stopped()) throw Interrupted{};
}

}  // namespace noisycells
