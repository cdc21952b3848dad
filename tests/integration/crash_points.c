/* Preloaded into a process: counts the changes that it makes below one folder, and kills it before or after one.

   Calls of all libraries are seen, those of native writers and of SQLite too. Not seen are flushes of C's own stdio,
   writes through shared memory maps, and what a library asks of the kernel without the C library: the renaming in
   safetensors, the states before and after which are those after the write before and before the change after it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static char root[PATH_MAX];
static size_t length;
static long fatal;
static atomic_long count;
static int list = -1;

/* Count from now on. `at` is the number, from 1, of the change to die before, or minus that of the one to die after;
   `record` takes a line for each. */
void crash_at(const char *folder, long at, int record) {
    fatal = at;
    list = record;
    count = 0;
    length = snprintf(root, sizeof root, "%s/", folder);
}

static void die_if(int is_time) {
    if (!is_time) return;
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Number of the change; 0 elsewhere. */
static long change(const char *what, const char *path) {
    if (!length || strncmp(path, root, length)) return 0;
    long number = ++count;
    if (list >= 0) dprintf(list, "%s %s\n", what, path + length);
    die_if(number == fatal);
    return number;
}

static void path_of(int descriptor, char *path) {
    char link[64];
    if (descriptor == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
    else snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t size = readlink(link, path, PATH_MAX - 1);
    path[size < 0 ? 0 : size] = 0;
}

static long change_at(const char *what, int folder, const char *name) {
    char path[2 * PATH_MAX];
    if (!length) return 0;
    if (name[0] == '/') return change(what, name);
    path_of(folder, path);
    size_t size = strlen(path);
    snprintf(path + size, sizeof path - size, "/%s", name);
    return change(what, path);
}

static long change_of(const char *what, int descriptor) {
    char path[PATH_MAX];
    if (!length) return 0;
    path_of(descriptor, path);
    return change(what, path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define MODE mode_t mode = 0; \
    if (flags & (O_CREAT | __O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, int); va_end(rest); }
/* An existing file that is opened without being emptied is as it was. */
#define CREATE(folder, path) if (flags & O_TRUNC || (flags & O_CREAT && faccessat(folder, path, F_OK, 0))) \
    change_at("create", folder, path);

#define OPEN(name) int name(const char *path, int flags, ...) { MODE CREATE(AT_FDCWD, path) return REAL(name)(path, flags, mode); }
OPEN(open) OPEN(open64)
#define OPENAT(name) int name(int folder, const char *path, int flags, ...) { MODE CREATE(folder, path) return REAL(name)(folder, path, flags, mode); }
OPENAT(openat) OPENAT(openat64)
#define FOPEN(name) FILE *name(const char *path, const char *how) { \
    if (how[0] == 'w') { change_at("create", AT_FDCWD, path); } return REAL(name)(path, how); }
FOPEN(fopen) FOPEN(fopen64)

/* Parameters and arguments of calls that change what a descriptor or a path stands for. */
#define BY_DESCRIPTOR(result, name, what, parameters, arguments, descriptor) \
    result name parameters { \
        long number = change_of(what, descriptor); \
        result value = REAL(name) arguments; \
        die_if(number && number == -fatal); \
        return value; }
BY_DESCRIPTOR(ssize_t, write, "write", (int fd, const void *data, size_t size), (fd, data, size), fd)
BY_DESCRIPTOR(ssize_t, writev, "write", (int fd, const struct iovec *data, int n), (fd, data, n), fd)
BY_DESCRIPTOR(ssize_t, pwrite, "write", (int fd, const void *data, size_t size, off_t at), (fd, data, size, at), fd)
BY_DESCRIPTOR(ssize_t, pwrite64, "write", (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at), fd)
BY_DESCRIPTOR(ssize_t, sendfile, "write", (int fd, int from, off_t *at, size_t size), (fd, from, at, size), fd)
BY_DESCRIPTOR(ssize_t, sendfile64, "write", (int fd, int from, off64_t *at, size_t size), (fd, from, at, size), fd)
BY_DESCRIPTOR(ssize_t, copy_file_range, "write",
    (int from, off64_t *a, int fd, off64_t *b, size_t size, unsigned flags), (from, a, fd, b, size, flags), fd)
BY_DESCRIPTOR(int, ftruncate, "truncate", (int fd, off_t size), (fd, size), fd)
BY_DESCRIPTOR(int, ftruncate64, "truncate", (int fd, off64_t size), (fd, size), fd)
BY_DESCRIPTOR(int, posix_fallocate, "truncate", (int fd, off_t at, off_t size), (fd, at, size), fd)
BY_DESCRIPTOR(int, posix_fallocate64, "truncate", (int fd, off64_t at, off64_t size), (fd, at, size), fd)
BY_DESCRIPTOR(int, fsync, "fsync", (int fd), (fd), fd)
BY_DESCRIPTOR(int, fdatasync, "fsync", (int fd), (fd), fd)
BY_DESCRIPTOR(int, fchmod, "chmod", (int fd, mode_t mode), (fd, mode), fd)

#define BY_PATH(name, what, parameters, arguments, folder, path) \
    int name parameters { change_at(what, folder, path); return REAL(name) arguments; }
BY_PATH(truncate, "truncate", (const char *path, off_t size), (path, size), AT_FDCWD, path)
BY_PATH(truncate64, "truncate", (const char *path, off64_t size), (path, size), AT_FDCWD, path)
BY_PATH(chmod, "chmod", (const char *path, mode_t mode), (path, mode), AT_FDCWD, path)
BY_PATH(fchmodat, "chmod", (int at, const char *path, mode_t mode, int flags), (at, path, mode, flags), at, path)
BY_PATH(rename, "rename", (const char *from, const char *to), (from, to), AT_FDCWD, from)
BY_PATH(renameat, "rename", (int at, const char *from, int other, const char *to), (at, from, other, to), at, from)
BY_PATH(renameat2, "rename",
    (int at, const char *from, int other, const char *to, unsigned flags), (at, from, other, to, flags), at, from)
BY_PATH(link, "link", (const char *from, const char *to), (from, to), AT_FDCWD, to)
BY_PATH(symlink, "link", (const char *from, const char *to), (from, to), AT_FDCWD, to)
/* Nothing changes where a folder is there already, or a file is not. */
#define IF(condition, name, what, parameters, arguments, folder, path) int name parameters { \
    if (condition !faccessat(folder, path, F_OK, AT_SYMLINK_NOFOLLOW)) change_at(what, folder, path); \
    return REAL(name) arguments; }
IF(, unlink, "unlink", (const char *path), (path), AT_FDCWD, path)
IF(, unlinkat, "unlink", (int at, const char *path, int flags), (at, path, flags), at, path)
IF(, rmdir, "rmdir", (const char *path), (path), AT_FDCWD, path)
IF(!, mkdir, "mkdir", (const char *path, mode_t mode), (path, mode), AT_FDCWD, path)
IF(!, mkdirat, "mkdir", (int at, const char *path, mode_t mode), (at, path, mode), at, path)
