// The only door to threads: OpenMP, std::thread or none, chosen when the core is built.
#pragma once

#include <cstddef>
#include <type_traits>

namespace noisycells {

const char* threading_backend();

// 0: follow the threading runtime (OMP_NUM_THREADS, torch.set_num_threads, threadpoolctl).
void set_num_threads(int n);
int get_num_threads();

// A child made by fork has no worker threads: from then on everything runs serially.
void after_fork_in_child();

namespace detail {
void parallel_run(std::ptrdiff_t n, std::ptrdiff_t grain, int threads,
                  void (*f)(void*, std::ptrdiff_t, std::ptrdiff_t), void* state);
}

// Calls f(begin, end) on pieces that cover [0, n), each a multiple of `grain` but the last.
// threads == 0: the package setting. f must not throw.
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
