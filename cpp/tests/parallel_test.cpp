#include "noisycells/parallel.h"

#include <atomic>
#include <chrono>
#include <thread>

#include "noisycells/rng.h"
#include "test.h"

namespace noisycells::tests {
namespace {

// Every index once, in pieces that start at multiples of the grain.
void pieces_cover() {
  for (const int threads : {0, 1, 2, 3, 7, 64})
    for (const std::ptrdiff_t grain : {1, 8, 1024})
      for (const std::ptrdiff_t n : {0, 1, 7, 8, 9, 1023, 1024, 1025, 7 * 1024, 10'000}) {
        std::vector<std::atomic<int>> seen(static_cast<std::size_t>(n));
        std::atomic<bool> aligned{true};
        parallel_for(n, grain, threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
          if (begin % grain != 0 || (end % grain != 0 && end != n)) aligned = false;
          for (std::ptrdiff_t i = begin; i < end; ++i) ++seen[static_cast<std::size_t>(i)];
        });
        bool once = true;
        for (const auto& count : seen) once = once && count == 1;
        CHECK(once && aligned, std::to_string(n) + " by " + std::to_string(grain) + " on " +
                                   std::to_string(threads));
      }
}

void settings() {
  CHECK(get_num_threads() >= 1, "default");
  set_num_threads(3);
  CHECK(get_num_threads() == 3, "set");
  set_num_threads(-5);
  CHECK(get_num_threads() >= 1, "negative means the default");
  set_num_threads(0);
}

void levels() {
  const auto names = available_simd_levels();
  CHECK(!names.empty() && names.front() == "baseline", "levels");
  set_simd_level("baseline");
  CHECK(!set_simd_level("sse9") && !set_simd_level("") && kernels().level == names.front(), "kept");
  for (const std::string& name : names)
    CHECK(set_simd_level(name) && kernels().level == name, name);
}

// Calls from several threads at once, each on threads of its own.
void concurrent_callers() {
  constexpr std::ptrdiff_t n = 100'000;
  std::vector<float> out[4], expected(n);
  std::vector<std::thread> callers;
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    out[seed].resize(n);
    callers.emplace_back([&, seed] {
      for (int k = 0; k < 3; ++k)
        standard_normal(out[seed].data(), n, {seed, 0, kProgram, 0}, 0, 2);
    });
  }
  for (std::thread& t : callers) t.join();
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    standard_normal(expected.data(), n, {seed, 0, kProgram, 0}, 0, 1);
    CHECK(out[seed] == expected, "a caller got another's numbers");
  }
}

// Calls from inside a parallel piece run serially instead of multiplying threads.
void nested() {
  std::atomic<int> total{0};
  parallel_for(8, 1, 4, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    for (std::ptrdiff_t i = begin; i < end; ++i)
      parallel_for(100, 1, 4,
                   [&](std::ptrdiff_t b, std::ptrdiff_t e) { total += static_cast<int>(e - b); });
  });
  CHECK(total == 800, "nested");
}

// A call that is told to stop does so between its pieces, those that it nests too, and says so
// once.
void interrupted() {
  static std::atomic<int> asked;
  static std::atomic<bool> answer;
  const auto wanted = [] {
    ++asked;
    return answer.load();
  };
  const auto slow = [](std::ptrdiff_t, std::ptrdiff_t) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  };
  for (const int threads : {1, 3})
    for (const bool nests : {false, true}) {
      asked = 0;
      answer = false;
      Interruptible call(wanted);
      std::atomic<int> done{0};
      const auto piece = [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        if (nests)
          parallel_for(30, 1, threads, slow);
        else
          slow(begin, end);
        done += static_cast<int>(end - begin);
      };
      parallel_for(3 * 20, 1, threads, piece);
      CHECK(done == 60 && asked > 0, "asked, and went on");
      answer = true;
      bool told = false;
      try {
        parallel_for(1000, 1, threads, piece);
      } catch (const Interrupted&) {
        told = true;
      }
      CHECK(told && done < 400, "stopped early");
    }
  std::atomic<int> total{0};
  parallel_for(100, 1, 2, [&](std::ptrdiff_t b, std::ptrdiff_t e) { total += int(e - b); });
  CHECK(total == 100, "calls without one as before");
}

}  // namespace

void parallel_tests() {
  pieces_cover();
  settings();
  levels();
  concurrent_callers();
  nested();
  interrupted();
  after_fork_in_child();  // cannot be undone: last
  CHECK(get_num_threads() == 1, "after fork");
  pieces_cover();
}

}  // namespace noisycells::tests
