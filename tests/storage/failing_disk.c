/* Test aid, loaded with LD_PRELOAD: the N-th change to a file below one folder fails with a chosen errno.
   Counts open-for-writing, write, pwrite, writev, mkdir, rename and fsync, whatever library makes the call. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char below[4096];
static long fails_at, seen;
static int number;

/* From `n` on every change fails, as a full or read-only disk does; n <= 0 counts only. Returns what was counted before. */
long failing_disk_arm(const char *folder, long n, int code) {
    long before = seen;
    snprintf(below, sizeof below, "%s", folder);
    fails_at = n; number = code; seen = 0;
    return before;
}

static int refuse(const char *path) {
    if (!below[0] || strncmp(path, below, strlen(below))) return 0;
    seen++;
    if (fails_at > 0 && seen >= fails_at) { errno = number; return 1; }
    return 0;
}

static int refuse_fd(int fd) {
    char link[64], path[4096];
    if (!below[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return refuse(path);
}

#define REAL(type, name, ...) static type (*real)(__VA_ARGS__); if (!real) real = dlsym(RTLD_NEXT, name)

ssize_t write(int fd, const void *b, size_t n) { REAL(ssize_t, "write", int, const void *, size_t); return refuse_fd(fd) ? -1 : real(fd, b, n); }
ssize_t pwrite(int fd, const void *b, size_t n, off_t o) { REAL(ssize_t, "pwrite", int, const void *, size_t, off_t); return refuse_fd(fd) ? -1 : real(fd, b, n, o); }
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t o) { REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t); return refuse_fd(fd) ? -1 : real(fd, b, n, o); }
ssize_t writev(int fd, const struct iovec *v, int n) { REAL(ssize_t, "writev", int, const struct iovec *, int); return refuse_fd(fd) ? -1 : real(fd, v, n); }
int fsync(int fd) { REAL(int, "fsync", int); return refuse_fd(fd) ? -1 : real(fd); }
int mkdir(const char *p, mode_t m) { REAL(int, "mkdir", const char *, mode_t); return refuse(p) ? -1 : real(p, m); }
int rename(const char *a, const char *b) { REAL(int, "rename", const char *, const char *); return refuse(b) ? -1 : real(a, b); }

static int writes(int flags) { return (flags & O_ACCMODE) != O_RDONLY; }
int open(const char *p, int f, ...) {
    REAL(int, "open", const char *, int, ...);
    va_list a; va_start(a, f); mode_t m = va_arg(a, mode_t); va_end(a);
    return writes(f) && refuse(p) ? -1 : real(p, f, m);
}
int open64(const char *p, int f, ...) {
    REAL(int, "open64", const char *, int, ...);
    va_list a; va_start(a, f); mode_t m = va_arg(a, mode_t); va_end(a);
    return writes(f) && refuse(p) ? -1 : real(p, f, m);
}
