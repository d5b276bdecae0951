/* Test aid, loaded with LD_PRELOAD: the N-th change to a file below one folder fails with a chosen errno.
   Counts open-for-writing, write, pwrite, writev, fwrite, mkdir, rename and fsync, whatever library makes the call; with
   FAILING_DISK_STATE=FILE in the environment all processes that have it count together, and FAILING_DISK_LOG=FILE gets a
   line for each change: what and where. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

struct state { char below[4096]; long fails_at, seen; int number; };
static struct state own, *shared = &own;
static int log_fd = -1;

__attribute__((constructor)) static void share(void) {
    const char *name = getenv("FAILING_DISK_LOG");
    if (name) log_fd = open(name, O_WRONLY | O_CREAT | O_APPEND, 0644);
    name = getenv("FAILING_DISK_STATE");
    int fd = name ? open(name, O_RDWR) : -1;
    if (fd < 0) return;
    void *found = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (found != MAP_FAILED) shared = found;
}

/* From `n` on every change fails, as a full or read-only disk does; n <= 0 counts only. Returns what was counted before. */
long failing_disk_arm(const char *folder, long n, int code) {
    long before = shared->seen;
    snprintf(shared->below, sizeof shared->below, "%s", folder);
    shared->fails_at = n; shared->number = code; shared->seen = 0;
    return before;
}

static int refuse(const char *what, const char *path) {
    if (!shared->below[0] || strncmp(path, shared->below, strlen(shared->below))) return 0;
    long seen = __atomic_add_fetch(&shared->seen, 1, __ATOMIC_SEQ_CST);
    char line[4200];
    if (log_fd >= 0) syscall(SYS_write, log_fd, line, snprintf(line, sizeof line, "%s %s\n", what, path));
    if (shared->fails_at > 0 && seen >= shared->fails_at) { errno = shared->number; return 1; }
    return 0;
}

static int refuse_fd(const char *what, int fd) {
    char link[64], path[4096];
    if (!shared->below[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return refuse(what, path);
}

#define REAL(type, name, ...) static type (*real)(__VA_ARGS__); if (!real) real = dlsym(RTLD_NEXT, name)

ssize_t write(int fd, const void *b, size_t n) { REAL(ssize_t, "write", int, const void *, size_t); return refuse_fd("write", fd) ? -1 : real(fd, b, n); }
ssize_t pwrite(int fd, const void *b, size_t n, off_t o) { REAL(ssize_t, "pwrite", int, const void *, size_t, off_t); return refuse_fd("pwrite", fd) ? -1 : real(fd, b, n, o); }
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t o) { REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t); return refuse_fd("pwrite64", fd) ? -1 : real(fd, b, n, o); }
ssize_t writev(int fd, const struct iovec *v, int n) { REAL(ssize_t, "writev", int, const struct iovec *, int); return refuse_fd("writev", fd) ? -1 : real(fd, v, n); }
size_t fwrite(const void *b, size_t w, size_t n, FILE *f) { REAL(size_t, "fwrite", const void *, size_t, size_t, FILE *); return refuse_fd("fwrite", fileno(f)) ? 0 : real(b, w, n, f); }
int fsync(int fd) { REAL(int, "fsync", int); return refuse_fd("fsync", fd) ? -1 : real(fd); }
int mkdir(const char *p, mode_t m) { REAL(int, "mkdir", const char *, mode_t); return refuse("mkdir", p) ? -1 : real(p, m); }
int rename(const char *a, const char *b) { REAL(int, "rename", const char *, const char *); return refuse("rename", b) ? -1 : real(a, b); }

static int writes(int flags) { return (flags & O_ACCMODE) != O_RDONLY; }
int open(const char *p, int f, ...) {
    REAL(int, "open", const char *, int, ...);
    va_list a; va_start(a, f); mode_t m = va_arg(a, mode_t); va_end(a);
    return writes(f) && refuse("open", p) ? -1 : real(p, f, m);
}
int open64(const char *p, int f, ...) {
    REAL(int, "open64", const char *, int, ...);
    va_list a; va_start(a, f); mode_t m = va_arg(a, mode_t); va_end(a);
    return writes(f) && refuse("open", p) ? -1 : real(p, f, m);
}
