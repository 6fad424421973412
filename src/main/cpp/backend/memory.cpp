#include "backend/memory.h"

#include <sys/mman.h>

#include <cstddef>
#include <new>
#include <utility>

namespace comneck {
namespace {
constexpr int64_t kHugePageBytes = int64_t{2} << 20;
}

Memory::Memory(int64_t bytes) : bytes_(bytes) {
  if (bytes < 0) throw std::bad_alloc();
  if (bytes == 0) return;
  const bool huge = bytes >= kHugePageBytes;
  const int64_t unit = huge ? kHugePageBytes : 4096;
  if (bytes > INT64_MAX - 2 * unit) throw std::bad_alloc();
  mapped_ = (bytes + unit - 1) / unit * unit + (huge ? unit : 0);
  void *block = mmap(nullptr, static_cast<size_t>(mapped_), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (block == MAP_FAILED) {
    mapped_ = 0;
    throw std::bad_alloc();
  }
  data_ = static_cast<char *>(block);
  if (huge) {
    // Give back what lies before the first huge page's border.
    const auto misplaced = static_cast<int64_t>(reinterpret_cast<uintptr_t>(data_) % static_cast<uintptr_t>(unit));
    const int64_t head = misplaced == 0 ? 0 : unit - misplaced;
    if (head > 0) munmap(data_, static_cast<size_t>(head));
    if (unit - head > 0) munmap(data_ + mapped_ - (unit - head), static_cast<size_t>(unit - head));
    data_ += head;
    mapped_ -= unit;
    madvise(data_, static_cast<size_t>(mapped_), MADV_HUGEPAGE);
  }
}

Memory::~Memory() {
  if (data_ != nullptr) munmap(data_, static_cast<size_t>(mapped_));
}

Memory &Memory::operator=(Memory &&other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(mapped_, other.mapped_);
  return *this;
}

}  // namespace comneck
