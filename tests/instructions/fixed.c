/* Loaded before libc where instructions are counted: random bytes, and with them the seeds of all hash tables,
   and the time, and with it the bucket of each histogram, are the same in each run. */
#include <stddef.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>

ssize_t getrandom(void *buffer, size_t length, unsigned flags) {
  (void)flags;
  memset(buffer, 0x5a, length);
  return (ssize_t)length;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  (void)clock;
  now->tv_sec = 1700000000;
  now->tv_nsec = 123456789;
  return 0;
}
