// Large aligned memory with one owner.
#ifndef COMNECK_BACKEND_MEMORY_H
#define COMNECK_BACKEND_MEMORY_H

#include <cstdint>

namespace comneck {

class Memory {
 public:
  Memory() = default;
  // Zero-filled, 64-byte aligned; large blocks ask for huge pages. Throws std::bad_alloc.
  explicit Memory(int64_t bytes);
  ~Memory();
  Memory(Memory &&other) noexcept : data_(other.data_), bytes_(other.bytes_), mapped_(other.mapped_) {
    other.data_ = nullptr;
    other.bytes_ = other.mapped_ = 0;
  }
  Memory &operator=(Memory &&other) noexcept;
  Memory(const Memory &) = delete;
  Memory &operator=(const Memory &) = delete;

  char *data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  char *data_ = nullptr;
  int64_t bytes_ = 0;
  int64_t mapped_ = 0;
};

}  // namespace comneck

#endif
