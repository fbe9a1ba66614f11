/*
 * A library to be preloaded into agent-server and its supervisors: the calls that change something
 * outside the process go through here, are counted, and one of them (or all of them, for a while)
 * fails, or kills the process right before or after it. The time of day can be set off.
 *
 * What is to happen stands in a small file that is mapped shared, named by AGENT_TESTS_SHIM, so that
 * one counter runs through all processes and a test can change its mind at any time. The layout of
 * `struct control` is known to shim.rs.
 *
 * Counted are calls on files (standard output and error are not), and starts of processes. Reads,
 * sockets and pipes are not, nor what is called past libc.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define VARIABLE "AGENT_TESTS_SHIM"
#define MAX_ENVIRONMENT 4096

enum action { COUNT = 0, FAIL = 1, KILL_BEFORE = 2, KILL_AFTER = 3 };

struct control {
    _Atomic uint64_t calls;    /* so many there have been */
    _Atomic uint64_t at;       /* the call, from 1, that something happens to; 0: none */
    _Atomic uint64_t action;   /* what */
    _Atomic uint64_t error;    /* errno of the failing call */
    _Atomic uint64_t hit;      /* whether it has happened */
    _Atomic uint64_t failing;  /* errno of every call that needs the disk; 0: none fails */
    _Atomic int64_t offset;    /* added to the time of day, in nanoseconds */
    _Atomic int64_t slow_from; /* real time of day in nanoseconds from which it goes slowly */
    _Atomic int64_t slow;      /* how much of each second is lost from then on, in millionths */
    char what[512];            /* what the call was */
};

static struct control *control;
static char setting[PATH_MAX + sizeof VARIABLE + 1];
static char preload[PATH_MAX + 16];

/* Looked up once: after a fork in a process with threads the lookup might wait for ever. */
#define REAL(name)                                                                                                   \
    ({                                                                                                               \
        static __typeof__(&name) found;                                                                              \
        if (!found)                                                                                                  \
            found = (__typeof__(&name))dlsym(RTLD_NEXT, #name);                                                      \
        found;                                                                                                       \
    })

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv(VARIABLE), *own = getenv("LD_PRELOAD");
    if (!path || !own)
        return;
    snprintf(setting, sizeof setting, VARIABLE "=%s", path);
    snprintf(preload, sizeof preload, "LD_PRELOAD=%s", own);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    void *map = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (map != MAP_FAILED)
        control = map;
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

/* Says which call it was; nothing here may be counted itself. */
static void describe(const char *call, const char *path, int fd) {
    char name[256] = "", link[64], role[200] = "";
    if (!path && fd >= 0) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, name, sizeof name - 1);
        name[length < 0 ? 0 : length] = 0;
        path = name;
    }
    int own = (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    if (own >= 0) {
        char line[512];
        ssize_t length = read(own, line, sizeof line - 1);
        line[length < 0 ? 0 : length] = 0;
        /* The arguments, without the program and joined by blanks. */
        size_t from = strlen(line) + 1;
        for (ssize_t at = (ssize_t)from; at + 1 < length; at++)
            if (!line[at])
                line[at] = ' ';
        if ((ssize_t)from < length)
            snprintf(role, sizeof role, "%s", line + from);
        close(own);
    }
    snprintf(control->what, sizeof control->what, "%.200s: %s %.256s", *role ? role : "server",
             call, path ? path : "");
}

/*
 * Counts a call. 0: go on; 1: go on, then die; -1: return -1, errno is set.
 */
static int step(const char *call, const char *path, int fd, int needs_disk) {
    if (!control)
        return 0;
    uint64_t number = ++control->calls;
    uint64_t failing = control->failing;
    if (failing && needs_disk) {
        errno = (int)failing;
        return -1;
    }
    if (number != control->at)
        return 0;
    describe(call, path, fd);
    control->hit = 1;
    switch (control->action) {
    case FAIL:
        errno = needs_disk ? (int)control->error : EAGAIN;
        return -1;
    case KILL_BEFORE:
        die();
        return 0;
    case KILL_AFTER:
        return 1;
    default:
        return 0;
    }
}

static int is_counted(int fd) {
    struct stat found;
    if (fd <= 2 || !control)
        return 0;
    int before = errno;
    int regular = fstat(fd, &found) == 0 && S_ISREG(found.st_mode);
    errno = before;
    return regular;
}

#define AROUND(type, call, path, fd, needs_disk, expression)                                                         \
    do {                                                                                                             \
        int stepped = step(call, path, fd, needs_disk);                                                              \
        if (stepped < 0)                                                                                             \
            return -1;                                                                                               \
        type result = (expression);                                                                                  \
        if (stepped > 0)                                                                                             \
            die();                                                                                                   \
        return result;                                                                                               \
    } while (0)

ssize_t write(int fd, const void *data, size_t length) {
    if (!is_counted(fd))
        return REAL(write)(fd, data, length);
    AROUND(ssize_t, "write", NULL, fd, 1, REAL(write)(fd, data, length));
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (!is_counted(fd))
        return REAL(writev)(fd, parts, count);
    AROUND(ssize_t, "writev", NULL, fd, 1, REAL(writev)(fd, parts, count));
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t at) {
    if (!is_counted(fd))
        return REAL(pwrite)(fd, data, length, at);
    AROUND(ssize_t, "pwrite", NULL, fd, 1, REAL(pwrite)(fd, data, length, at));
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t at) {
    if (!is_counted(fd))
        return REAL(pwrite64)(fd, data, length, at);
    AROUND(ssize_t, "pwrite", NULL, fd, 1, REAL(pwrite64)(fd, data, length, at));
}

int fsync(int fd) {
    AROUND(int, "fsync", NULL, fd, 1, REAL(fsync)(fd));
}

int fdatasync(int fd) {
    AROUND(int, "fdatasync", NULL, fd, 1, REAL(fdatasync)(fd));
}

int ftruncate(int fd, off_t length) {
    AROUND(int, "ftruncate", NULL, fd, 1, REAL(ftruncate)(fd, length));
}

int ftruncate64(int fd, off64_t length) {
    AROUND(int, "ftruncate", NULL, fd, 1, REAL(ftruncate64)(fd, length));
}

#define OPEN(name, arguments, path, ...)                                                                              \
    int name arguments {                                                                                             \
        mode_t mode = 0;                                                                                             \
        if (flags & (O_CREAT | O_TMPFILE)) {                                                                         \
            va_list rest;                                                                                            \
            va_start(rest, flags);                                                                                   \
            mode = va_arg(rest, mode_t);                                                                             \
            va_end(rest);                                                                                            \
        }                                                                                                            \
        if (!(flags & (O_CREAT | O_TRUNC)))                                                                          \
            return REAL(name)(__VA_ARGS__, flags, mode);                                                             \
        AROUND(int, "open", path, -1, 1, REAL(name)(__VA_ARGS__, flags, mode));                                      \
    }

OPEN(open, (const char *path, int flags, ...), path, path)
OPEN(open64, (const char *path, int flags, ...), path, path)
OPEN(openat, (int dir, const char *path, int flags, ...), path, dir, path)
OPEN(openat64, (int dir, const char *path, int flags, ...), path, dir, path)

int rename(const char *from, const char *to) {
    AROUND(int, "rename", to, -1, 1, REAL(rename)(from, to));
}

int renameat(int from_dir, const char *from, int to_dir, const char *to) {
    AROUND(int, "rename", to, -1, 1, REAL(renameat)(from_dir, from, to_dir, to));
}

int unlink(const char *path) {
    AROUND(int, "unlink", path, -1, 0, REAL(unlink)(path));
}

int unlinkat(int dir, const char *path, int flags) {
    AROUND(int, "unlink", path, -1, 0, REAL(unlinkat)(dir, path, flags));
}

int rmdir(const char *path) {
    AROUND(int, "rmdir", path, -1, 0, REAL(rmdir)(path));
}

int mkdir(const char *path, mode_t mode) {
    AROUND(int, "mkdir", path, -1, 1, REAL(mkdir)(path, mode));
}

int mkdirat(int dir, const char *path, mode_t mode) {
    AROUND(int, "mkdir", path, -1, 1, REAL(mkdirat)(dir, path, mode));
}

int link(const char *from, const char *to) {
    AROUND(int, "link", to, -1, 1, REAL(link)(from, to));
}

int symlink(const char *from, const char *to) {
    AROUND(int, "symlink", to, -1, 1, REAL(symlink)(from, to));
}

/* Supervisors start with an empty environment, and the agent's comes from its task. */
static char *const *with_shim(char *const arguments[], char *const environment[], char **room) {
    if (!control || !arguments || !arguments[0] || !arguments[1] || strcmp(arguments[1], "supervise") != 0)
        return environment;
    size_t count = 0;
    while (environment && environment[count] && count < MAX_ENVIRONMENT - 3) {
        room[count] = environment[count];
        count++;
    }
    room[count++] = setting;
    room[count++] = preload;
    room[count] = NULL;
    return room;
}

typedef int spawn_function(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *,
                           char *const[], char *const[]);

static int spawn(spawn_function *start, pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                 const posix_spawnattr_t *attributes, char *const arguments[], char *const environment[]) {
    char *room[MAX_ENVIRONMENT];
    int stepped = step("spawn", path, -1, 0);
    if (stepped < 0)
        return errno;
    int result = start(pid, path, actions, attributes, arguments, with_shim(arguments, environment, room));
    if (stepped > 0)
        die();
    return result;
}

int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                const posix_spawnattr_t *attributes, char *const arguments[], char *const environment[]) {
    return spawn(REAL(posix_spawn), pid, path, actions, attributes, arguments, environment);
}

int posix_spawnp(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                 const posix_spawnattr_t *attributes, char *const arguments[], char *const environment[]) {
    return spawn(REAL(posix_spawnp), pid, path, actions, attributes, arguments, environment);
}

pid_t fork(void) {
    int stepped = step("fork", NULL, -1, 0);
    if (stepped < 0)
        return -1;
    pid_t result = REAL(fork)();
    if (stepped > 0 && result > 0)
        die();
    return result;
}

int execvp(const char *path, char *const arguments[]) {
    char *room[MAX_ENVIRONMENT];
    return execvpe(path, arguments, with_shim(arguments, environ, room));
}

static void set_off(struct timespec *time) {
    int64_t real = (int64_t)time->tv_sec * 1000000000 + time->tv_nsec;
    int64_t shown = real + control->offset;
    if (control->slow)
        shown -= (real - control->slow_from) / 1000000 * control->slow;
    time->tv_sec = shown / 1000000000;
    time->tv_nsec = shown % 1000000000;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = (int)syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && control && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        set_off(time);
    return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0)
        return -1;
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}
