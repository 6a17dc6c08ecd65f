// LD_PRELOADed into a process by test_worker_discipline.py: counts, per thread, the calls that a
// worker must not make: memory from the C library or DPDK, locks, log lines. Counts stand in a file
// shared with the test, so that reading them asks nothing of the process.
//
// A thread gets its slot with its first call; from then on counting is an addition to memory of its
// own. The function called last and where it was called from are kept, to name the culprit.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { kThreads = 128 };

// The test reads this layout: struct.unpack('=QQQQQ24s').
struct slot {
  uint64_t tid;
  uint64_t allocations;
  uint64_t locks;
  uint64_t logs;
  uint64_t caller;  // return address of the last call
  char function[24];
};

static struct slot* table;
static unsigned taken;
static __thread struct slot* mine;

__attribute__((constructor)) static void OpenTable(void) {
  const char* path = getenv("COUNT_CALLS_FILE");
  const int fd = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) _exit(97);  // a blind instrument would find nothing wrong
  table = mmap(NULL, kThreads * sizeof(struct slot), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (table == MAP_FAILED) _exit(98);
  close(fd);
}

static struct slot* Slot(const char* function, void* caller) {
  if (mine == NULL) {
    static struct slot early;  // before the constructor there is one thread, and no table
    if (table == NULL) return &early;
    const unsigned number = __atomic_fetch_add(&taken, 1, __ATOMIC_RELAXED);
    if (number >= kThreads) _exit(99);
    mine = &table[number];
    mine->tid = (uint64_t)syscall(SYS_gettid);
  }
  mine->caller = (uint64_t)caller;
  for (size_t i = 0; i + 1 < sizeof mine->function; ++i) {
    if ((mine->function[i] = function[i]) == 0) break;
  }
  return mine;
}

// DEFINE(counter, result, name, (parameters), (arguments)): a function that counts and calls the
// next one of its name.
#define DEFINE(counter, result, name, parameters, arguments)                \
  result name parameters {                                                  \
    static result(*next) parameters;                                        \
    if (next == NULL) next = (result(*) parameters)dlsym(RTLD_NEXT, #name); \
    ++Slot(#name, __builtin_return_address(0))->counter;                    \
    return next arguments;                                                  \
  }

// glibc's own names: dlsym itself allocates.
#define DEFINE_LIBC(result, name, parameters, arguments)     \
  extern result __libc_##name parameters;                    \
  result name parameters {                                   \
    ++Slot(#name, __builtin_return_address(0))->allocations; \
    return __libc_##name arguments;                          \
  }

DEFINE_LIBC(void*, malloc, (size_t size), (size))
DEFINE_LIBC(void*, calloc, (size_t count, size_t size), (count, size))
DEFINE_LIBC(void*, realloc, (void* old, size_t size), (old, size))
DEFINE_LIBC(void*, memalign, (size_t align, size_t size), (align, size))
// What operator new and delete of the C++ library end in.
DEFINE_LIBC(void, free, (void* old), (old))
DEFINE(allocations, void*, aligned_alloc, (size_t align, size_t size), (align, size))
DEFINE(allocations, int, posix_memalign, (void** out, size_t align, size_t size),
       (out, align, size))

#define RTE_NEW (const char* type, size_t size, unsigned align)
#define RTE_NEW_ON (const char* type, size_t size, unsigned align, int socket)
DEFINE(allocations, void*, rte_malloc, RTE_NEW, (type, size, align))
DEFINE(allocations, void*, rte_zmalloc, RTE_NEW, (type, size, align))
DEFINE(allocations, void*, rte_malloc_socket, RTE_NEW_ON, (type, size, align, socket))
DEFINE(allocations, void*, rte_zmalloc_socket, RTE_NEW_ON, (type, size, align, socket))
DEFINE(allocations, void*, rte_realloc, (void* old, size_t size, unsigned align),
       (old, size, align))
DEFINE(allocations, void, rte_free, (void* old), (old))

DEFINE(locks, int, pthread_mutex_lock, (pthread_mutex_t * mutex), (mutex))
DEFINE(locks, int, pthread_mutex_trylock, (pthread_mutex_t * mutex), (mutex))
DEFINE(locks, int, pthread_rwlock_rdlock, (pthread_rwlock_t * lock), (lock))
DEFINE(locks, int, pthread_rwlock_wrlock, (pthread_rwlock_t * lock), (lock))
DEFINE(locks, int, pthread_rwlock_tryrdlock, (pthread_rwlock_t * lock), (lock))
DEFINE(locks, int, pthread_rwlock_trywrlock, (pthread_rwlock_t * lock), (lock))
DEFINE(locks, int, pthread_spin_lock, (pthread_spinlock_t * lock), (lock))
DEFINE(locks, int, sem_wait, (sem_t * semaphore), (semaphore))
DEFINE(locks, int, sem_trywait, (sem_t * semaphore), (semaphore))
DEFINE(locks, int, sem_post, (sem_t * semaphore), (semaphore))

DEFINE(logs, int, rte_vlog, (uint32_t level, uint32_t type, const char* format, va_list arguments),
       (level, type, format, arguments))

int rte_log(uint32_t level, uint32_t type, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const int written = rte_vlog(level, type, format, arguments);
  va_end(arguments);
  return written;
}
