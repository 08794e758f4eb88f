// Tests of the core without Python. Usage: noisycells_tests SOURCE_DIRECTORY
//
// Digests of all outputs go to stdout and are compared with tests/data/core_digests.txt: they
// are the same for every processor, compiler, SIMD level, thread count and threading backend.
#include <fstream>
#include <map>

#include "noisycells/parallel.h"
#include "test.h"

namespace noisycells::tests {

int failures = 0;
long checks = 0;

namespace {
std::map<std::string, std::string> committed;

void read_digests(const std::string& path) {
  std::ifstream file(path);
  std::string name, value;
  while (file >> name >> value) committed[name] = value;
  CHECK(!committed.empty(), path + " could not be read");
}
}  // namespace

void Digest::add(const void* data, std::size_t bytes) {
  crc_ = ~crc_;
  for (std::size_t i = 0; i < bytes; ++i) {
    crc_ ^= static_cast<const unsigned char*>(data)[i];
    for (int k = 0; k < 8; ++k) crc_ = (crc_ >> 1) ^ ((crc_ & 1) != 0 ? 0xEDB88320u : 0);
  }
  crc_ = ~crc_;
}

Digest::~Digest() {
  char value[9];
  std::snprintf(value, sizeof value, "%08x", static_cast<unsigned>(crc_));
  std::printf("%s %s\n", name_.c_str(), value);
  CHECK(committed[name_] == value, name_ + ": committed " + committed[name_] + ", got " + value);
}

std::unique_ptr<Channel> make_channel(const ChannelOptions& o) {
  auto c = std::make_unique<Channel>();
  const int n = o.rows;
  std::vector<float> mean(n), std(n), read(n);
  for (int i = 0; i < n; ++i) {
    const float x = 2.0f * static_cast<float>(i) / static_cast<float>(n - 1) - 1.0f;
    const float size = x < 0 ? -x : x;
    mean[i] = 1.4f * x / (1.0f + size);
    std[i] = 0.05f + 0.1f * (1.0f - x * x) + 0.01f * x;
    read[i] = 0.03f + 0.01f * x;
  }
  const auto next = [n](const std::vector<float>& v, int i) {
    return i + 1 < n ? v[i + 1] - v[i] : 0.0f;
  };
  for (int i = 0; i < n; ++i) {
    for (const float v : {mean[i], next(mean, i), std[i], next(std, i)}) c->table.push_back(v);
    if (o.read)
      for (const float v : {read[i], next(read, i)}) c->read.push_back(v);
  }
  ChannelTables& t = c->tables;
  t.table = c->table.data();
  if (o.columns && n <= kSmallTable) {
    c->columns.assign(4 * kSmallTable, 0.0f);
    for (int i = 0; i < 4 * n; ++i) c->columns[i % 4 * kSmallTable + i / 4] = c->table[i];
    t.columns = c->columns.data();
  }
  t.read = o.read ? c->read.data() : nullptr;
  t.n = n;
  t.x0 = -1.0f;
  t.inv_dx = 0.5f * static_cast<float>(n - 1);
  if (o.adc_levels > 0) {
    const float steps = static_cast<float>(o.adc_levels - 1);
    t.adc = {-0.9f, 1.8f / steps, steps / 1.8f, o.adc_levels};
  }
  t.d2d = o.d2d;
  t.stuck_low = o.stuck_low;
  t.stuck_either = o.stuck_either;
  return c;
}

std::unique_ptr<Codec> make_codec(int ranges, bool sign, bool packed) {
  constexpr int rows = 257;
  constexpr float thresholds[] = {0.02f, 0.05f, 0.1f, 0.2f, 0.3f, 0.5f, 0.7f};
  constexpr int bits[] = {3, 11, 5, 8, 1, 16, 2, 4};
  constexpr int cells[] = {1, 30, 2, 5, 1, 3, 1, 17};
  auto c = std::make_unique<Codec>();
  std::vector<float> x(rows);
  for (int i = 0; i < rows; ++i) {
    const float y = 1.2f * static_cast<float>(i) / (rows - 1) - 0.6f;
    x[i] = y / (1.4f - (y < 0 ? -y : y));
  }
  for (int i = 0; i < rows; ++i) {
    c->inverse.push_back(x[i]);
    c->inverse.push_back(i + 1 < rows ? x[i + 1] - x[i] : 0.0f);
  }
  CodecTables& t = c->tables;
  t.inverse = c->inverse.data();
  t.m = rows;
  t.y0 = -0.6f;
  t.inv_dy = (rows - 1) / 1.2f;
  t.ranges = ranges;
  t.sign = sign;
  t.packed = packed;
  t.side_width = static_cast<int>(sign);
  while (1 << (t.side_width - static_cast<int>(sign)) < ranges) ++t.side_width;
  for (int r = 0; r < ranges; ++r) {
    const bool last = r == ranges - 1;
    const float high = last ? 3.0f : thresholds[r];
    const float low = !sign ? -high : r > 0 ? thresholds[r - 1] : 0.0f;
    const float alpha = 1.2f / (high - low), beta = alpha * low + 0.6f;
    t.threshold[r] = last ? 1e30f : high;
    t.alpha[r] = alpha;
    t.minus_beta[r] = -beta;
    t.inv_alpha[r] = 1.0f / alpha;
    t.shift[r] = beta / alpha;
    t.cells[r] = cells[r];
    t.inv_sqrt_cells[r] = 1.0f / __builtin_sqrtf(static_cast<float>(cells[r]));
    if (packed) {
      const int levels = (1 << bits[r]) - (bits[r] == 5);  // one that is no power of two
      const float top = static_cast<float>(levels - 1);
      t.write_lo[r] = -0.8f;
      t.write_step[r] = 1.6f / top;
      t.write_inv_step[r] = top / 1.6f;
      t.write_top[r] = top;
      t.width[r] = bits[r];
    }
  }
  return c;
}

}  // namespace noisycells::tests

int main(int argc, char** argv) {
  using namespace noisycells;
  using namespace noisycells::tests;
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s SOURCE_DIRECTORY\n", argv[0]);
    return 2;
  }
  const std::string data = std::string(argv[1]) + "/tests/data/";
  read_digests(data + "core_digests.txt");
  std::string levels;
  for (const std::string& level : available_simd_levels()) levels += " " + level;
  std::fprintf(stderr, "levels:%s; default %s; threading by %s\n", levels.c_str(), kernels().level,
               threading_backend());
  random_tests(data + "philox_kat.txt");
  channel_tests();
  codec_tests();
  bitpack_tests();
  device_tests();
  crossbar_tests();
  coding_tests();
  parallel_tests();
  std::fprintf(stderr, "%ld checks, %d failures\n", checks, failures);
  return failures == 0 ? 0 : 1;
}
