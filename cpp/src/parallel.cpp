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

void detail::parallel_run(std::ptrdiff_t n, std::ptrdiff_t grain, int threads,
                          void (*f)(void*, std::ptrdiff_t, std::ptrdiff_t), void* state) {
  if (n <= 0) return;
  const std::ptrdiff_t pieces = (n + grain - 1) / grain;
  if (threads <= 0) threads = get_num_threads();
  if (forked.load() || inside_parallel_region()) threads = 1;
  threads = static_cast<int>(std::min<std::ptrdiff_t>(threads, pieces));
  if (threads <= 1) {
    f(state, 0, n);
    return;
  }
  // One contiguous share a thread, so that a thread seeks into its data once.
  const auto share = [&](int t) {
    return std::min(
        n, pieces / threads * t * grain + std::min<std::ptrdiff_t>(t, pieces % threads) * grain);
  };
#if defined(NOISYCELLS_OPENMP)
#pragma omp parallel num_threads(threads)
  {
    // The runtime may give fewer threads than asked for.
    for (int t = omp_get_thread_num(); t < threads; t += omp_get_num_threads())
      f(state, share(t), share(t + 1));
  }
#elif defined(NOISYCELLS_THREADS)
  std::vector<std::thread> workers;
  workers.reserve(threads - 1);
  for (int t = 1; t < threads; ++t)
    workers.emplace_back([&, t] { f(state, share(t), share(t + 1)); });
  f(state, 0, share(1));
  for (auto& w : workers) w.join();
#else
  for (int t = 0; t < threads; ++t) f(state, share(t), share(t + 1));
#endif
}

}  // namespace noisycells
