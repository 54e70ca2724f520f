/* What the lab remembers of the watched roots; see durable.c. */

#ifndef DURABLE_H
#define DURABLE_H

#define HIDDEN __attribute__((visibility("hidden")))

enum watch {
    ELSEWHERE,
    HOLDS_ROOT, /* the directory that a watched root lies in: of its entries, only roots count */
    INSIDE,     /* a watched root, or below one */
};

/* The watched roots, one absolute path a line. */
struct roots {
    char text[1024];
};

/* Open the record and wait until nobody else writes it; -1 when the lab keeps none. Closing ends the turn. */
HIDDEN int durable_open(struct roots *roots);
HIDDEN enum watch durable_watch(const struct roots *roots, const char *path);

/* Record the file or directory behind fd as it is now; without its owner and mode when `owner` is 0. */
HIDDEN void durable_record(int record, const struct roots *roots, int fd, const char *path, int owner);
/* The same with everything below it. */
HIDDEN void durable_record_below(int record, const struct roots *roots, int fd, const char *path);

#endif
