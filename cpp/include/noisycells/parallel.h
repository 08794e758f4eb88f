// The only door to threads: OpenMP, std::thread or none, chosen when the core is built.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <exception>
#include <type_traits>

namespace noisycells {

const char* threading_backend();

// 0: follow the threading runtime (OMP_NUM_THREADS, torch.set_num_threads, threadpoolctl).
void set_num_threads(int n);
int get_num_threads();

// A child made by fork has no worker threads: from then on everything runs serially.
void after_fork_in_child();

// How a call ends that was told to stop; what it was to write is then written in part.
struct Interrupted : std::exception {
  const char* what() const noexcept override { return "interrupted"; }
};

// While one lives, the calls of its thread stop early once `wanted` says so. Only that thread asks,
// between pieces of its own work, about ten times a second.
class Interruptible {
 public:
  explicit Interruptible(bool (*wanted)());
  ~Interruptible();
  Interruptible(const Interruptible&) = delete;
  Interruptible& operator=(const Interruptible&) = delete;

  // Whether to stop; asks if this is its thread and it is time.
  bool stopped();

 private:
  bool (*wanted_)();
  Interruptible* outer_;
  std::chrono::steady_clock::time_point asked_;
  std::atomic<bool> stop_{false};
};

namespace detail {
void parallel_run(std::ptrdiff_t n, std::ptrdiff_t grain, int threads,
                  void (*f)(void*, std::ptrdiff_t, std::ptrdiff_t), void* state);
}

// Calls f(begin, end) on pieces that cover [0, n), each a multiple of `grain` but the last.
// threads == 0: the package setting. f must not throw. Throws Interrupted where an Interruptible
// says to stop, unless it is called from inside a piece: that one returns early.
template <class F>
void parallel_for(std::ptrdiff_t n, std::ptrdiff_t grain, int threads, F&& f) {
  using Fn = std::remove_reference_t<F>;
  detail::parallel_run(
      n, grain, threads,
      [](void* state, std::ptrdiff_t begin, std::ptrdiff_t end) {
        (*static_cast<Fn*>(state))(begin, end);
      },
      const_cast<void*>(static_cast<const void*>(&f)));
}

}  // namespace noisycells
