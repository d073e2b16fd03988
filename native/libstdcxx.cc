// std::allocator of GCC 11 and later calls std::__throw_bad_array_new_length, which libstdc++ has only since
// GLIBCXX_3.4.29. This definition of our own, seen by nobody else, keeps the floor at 3.4.25.
#include <new>

#if defined(__GLIBCXX__)
namespace blocksparse {

[[noreturn]] __attribute__((visibility("hidden"))) void ThrowBadArrayNewLength() asm(
    "_ZSt28__throw_bad_array_new_lengthv");

void ThrowBadArrayNewLength() { throw std::bad_array_new_length(); }

}  // namespace blocksparse
#endif
