/* The record of what would survive a power cut, in the lab's hosts only.
 *
 * The kernel under a lab's host stays up when the host's power is cut, so what was written without a sync would
 * survive. The lab takes it away: it rebuilds some directories ("roots") from this record. The record is a directory
 * that the lab shows the host, laid out as follows; a key is an inode's number and its birth in nanoseconds,
 * both in hexadecimal, since numbers are used again:
 *
 *   roots           the watched directories, one a line
 *   data-<key>      a regular file's content
 *   entries-<key>   a directory's entries, each: "<kind> <key> <mode> <uid> <gid>", NUL, name, NUL, target, NUL;
 *                   kind is f, d or l, mode is octal, the target is that of a symbolic link
 *   owner-<key>     "<mode> <uid> <gid>" of either
 *
 * Everything is written beside and renamed, by one process at a time.
 */

#define _GNU_SOURCE
#include "durable.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define RECORD "/run/fleetflash-durable"
#define DRAFT "draft"

struct key {
    char text[40];
};

int durable_open(struct roots *roots)
{
    int record = open(RECORD, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int list;
    ssize_t size = -1;

    if (record < 0)
        return -1;
    while (flock(record, LOCK_EX) && errno == EINTR)
        ;
    list = openat(record, "roots", O_RDONLY | O_CLOEXEC);
    if (list >= 0) {
        size = read(list, roots->text, sizeof(roots->text) - 1);
        close(list);
    }
    if (size <= 0) {
        close(record);
        return -1;
    }
    roots->text[size] = 0;
    return record;
}

enum watch durable_watch(const struct roots *roots, const char *path)
{
    size_t length = strlen(path);
    enum watch found = ELSEWHERE;

    for (const char *root = roots->text; *root; root += strcspn(root, "\n") + 1) {
        size_t size = strcspn(root, "\n");
        if (length >= size && !strncmp(path, root, size) && (path[size] == '/' || !path[size]))
            return INSIDE;
        if (length < size && !strncmp(path, root, length) && root[length] == '/'
            && !memchr(root + length + 1, '/', size - length - 1))
            found = HOLDS_ROOT;
        if (!root[size])
            break;
    }
    return found;
}

static int look(int directory, const char *name, struct statx *status, struct key *key)
{
    int flags = AT_SYMLINK_NOFOLLOW | (*name ? 0 : AT_EMPTY_PATH);
    if (statx(directory, name, flags, STATX_BASIC_STATS | STATX_BTIME, status))
        return -1;
    snprintf(key->text, sizeof(key->text), "%llx-%llx", (unsigned long long)status->stx_ino,
             status->stx_btime.tv_sec * 1000000000ULL + status->stx_btime.tv_nsec);
    return 0;
}

static FILE *begin(int record)
{
    int draft;
    unlinkat(record, DRAFT, 0); /* somebody else's, who was killed */
    draft = openat(record, DRAFT, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    return draft < 0 ? NULL : fdopen(draft, "w");
}

static void publish(int record, FILE *draft, const char *what, const struct key *key)
{
    char name[64];
    int failed = ferror(draft);
    snprintf(name, sizeof(name), "%s-%s", what, key->text);
    if (!fclose(draft) && !failed)
        renameat(record, DRAFT, record, name);
}

static void record_owner(int record, const struct statx *status, const struct key *key)
{
    FILE *draft = begin(record);
    if (!draft)
        return;
    fprintf(draft, "%o %u %u", status->stx_mode & 07777u, status->stx_uid, status->stx_gid);
    publish(record, draft, "owner", key);
}

static void record_content(int record, int fd, const struct key *key)
{
    char piece[8192], again[40];
    FILE *draft;
    int file;
    ssize_t size;

    /* Opened anew: fd may be for writing only, and its position is the program's. */
    snprintf(again, sizeof(again), "/proc/self/fd/%d", fd);
    file = open(again, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return;
    draft = begin(record);
    if (draft) {
        while ((size = read(file, piece, sizeof(piece))) > 0)
            fwrite(piece, 1, (size_t)size, draft);
        publish(record, draft, "data", key);
    }
    close(file);
}

static void record_entry(FILE *draft, int directory, const char *name)
{
    struct statx status;
    struct key key;
    char target[PATH_MAX] = "";
    char kind;

    if (look(directory, name, &status, &key))
        return;
    if (S_ISREG(status.stx_mode)) {
        kind = 'f';
    } else if (S_ISDIR(status.stx_mode)) {
        kind = 'd';
    } else if (S_ISLNK(status.stx_mode)) {
        kind = 'l';
        if (readlinkat(directory, name, target, sizeof(target) - 1) < 0)
            return;
    } else {
        return;
    }
    fprintf(draft, "%c %s %o %u %u", kind, key.text, status.stx_mode & 07777u, status.stx_uid, status.stx_gid);
    fputc(0, draft);
    fwrite(name, 1, strlen(name) + 1, draft);
    fwrite(target, 1, strlen(target) + 1, draft);
}

/* The directory behind fd, with a position of its own. */
static DIR *list(int fd)
{
    int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return again < 0 ? NULL : fdopendir(again);
}

/* The next entry that counts, with its path; NULL at the end. */
static const char *next(DIR *directory, const struct roots *roots, const char *path, char below[PATH_MAX])
{
    struct dirent *entry;
    while ((entry = readdir(directory))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        if (snprintf(below, PATH_MAX, "%s/%s", path, entry->d_name) < PATH_MAX
            && durable_watch(roots, below) == INSIDE)
            return entry->d_name;
    }
    return NULL;
}

static void record_entries(int record, const struct roots *roots, int fd, const char *path, const struct key *key)
{
    char below[PATH_MAX];
    const char *name;
    FILE *draft;
    DIR *directory = list(fd);

    if (!directory)
        return;
    draft = begin(record);
    if (draft) {
        while ((name = next(directory, roots, path, below)))
            record_entry(draft, fd, name);
        publish(record, draft, "entries", key);
    }
    closedir(directory);
}

void durable_record(int record, const struct roots *roots, int fd, const char *path, int owner)
{
    struct statx status;
    struct key key;

    if (look(fd, "", &status, &key) || !status.stx_nlink)
        return;
    if (S_ISREG(status.stx_mode))
        record_content(record, fd, &key);
    else if (S_ISDIR(status.stx_mode))
        record_entries(record, roots, fd, path, &key);
    else
        return;
    if (owner)
        record_owner(record, &status, &key);
}

void durable_record_below(int record, const struct roots *roots, int fd, const char *path)
{
    char below[PATH_MAX];
    const char *name;
    DIR *directory = list(fd);

    durable_record(record, roots, fd, path, 1);
    if (!directory)
        return;
    while ((name = next(directory, roots, path, below))) {
        int child = openat(fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (child >= 0) {
            durable_record_below(record, roots, child, below);
            close(child);
        }
    }
    closedir(directory);
}
