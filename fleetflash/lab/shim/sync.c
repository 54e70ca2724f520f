/* fsync, fdatasync, sync and syncfs: done by the kernel, and then noted in the record of what is durable.
 *
 * POSIX (fsync, Rationale) promises no more than the file itself: a file's name is durable when its directory was
 * synced, a directory's own name when the directory above it was.
 */

#define _GNU_SOURCE
#include "durable.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void note(int fd, int owner)
{
    char link[40], path[PATH_MAX];
    struct roots roots;
    int before = errno, record;
    ssize_t length;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof(path) - 1);
    if (length > 0 && path[0] == '/') {
        path[length] = 0;
        record = durable_open(&roots);
        if (record >= 0) {
            if (durable_watch(&roots, path) != ELSEWHERE)
                durable_record(record, &roots, fd, path, owner);
            close(record);
        }
    }
    errno = before;
}

/* Every watched root, or those on the file system of fd. */
static void note_roots(int fd)
{
    struct roots roots;
    struct stat wanted, found;
    int before = errno, record = durable_open(&roots);
    char *root, *rest;

    if (record >= 0 && (fd < 0 || !fstat(fd, &wanted))) {
        struct roots names = roots;
        for (root = strtok_r(names.text, "\n", &rest); root; root = strtok_r(NULL, "\n", &rest)) {
            char *name = strrchr(root, '/');
            int holder;
            *name = 0;
            holder = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            if (holder < 0)
                continue;
            if (!fstat(holder, &found) && (fd < 0 || found.st_dev == wanted.st_dev))
                durable_record_below(record, &roots, holder, root);
            close(holder);
        }
    }
    if (record >= 0)
        close(record);
    errno = before;
}

int fsync(int fd)
{
    int result = (int)syscall(SYS_fsync, fd);
    if (!result)
        note(fd, 1);
    return result;
}

int fdatasync(int fd)
{
    int result = (int)syscall(SYS_fdatasync, fd);
    if (!result)
        note(fd, 0);
    return result;
}

int syncfs(int fd)
{
    int result = (int)syscall(SYS_syncfs, fd);
    if (!result)
        note_roots(fd);
    return result;
}

void sync(void)
{
    syscall(SYS_sync);
    note_roots(-1);
}
