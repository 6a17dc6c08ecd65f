// Keys pass through HTTP buffers, JSON values and protobuf messages, which free their memory
// without wiping it and copy it where nobody looks. So in this process every block that C++ frees
// is wiped first: one place instead of an allocator in each library. It costs a memset per free.
#include <malloc.h>
#include <openssl/crypto.h>

#include <cstddef>
#include <cstdlib>
#include <new>

namespace {

void WipeAndFree(void* block) noexcept {
  if (block == nullptr) return;
  OPENSSL_cleanse(block, malloc_usable_size(block));
  std::free(block);
}

void* Allocate(std::size_t size, std::size_t alignment) {
  const std::size_t wanted = size == 0 ? 1 : size;
  for (;;) {
    void* block = nullptr;
    if (alignment <= alignof(std::max_align_t)) {
      block = std::malloc(wanted);
    } else {
      block = std::aligned_alloc(alignment, (wanted + alignment - 1) / alignment * alignment);
    }
    if (block != nullptr) return block;
    const std::new_handler handler = std::get_new_handler();
    if (handler == nullptr) throw std::bad_alloc();
    handler();
  }
}

}  // namespace

// The other forms of new and delete call these (C++20 [new.delete]).
void* operator new(std::size_t size) {
  return Allocate(size, 0);
}
void* operator new(std::size_t size, std::align_val_t alignment) {
  return Allocate(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* block) noexcept {
  WipeAndFree(block);
}
void operator delete(void* block, std::size_t) noexcept {
  WipeAndFree(block);
}
void operator delete(void* block, std::align_val_t) noexcept {
  WipeAndFree(block);
}
void operator delete(void* block, std::size_t, std::align_val_t) noexcept {
  WipeAndFree(block);
}
