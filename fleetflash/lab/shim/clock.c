/* The wall clock of a lab's host, which the lab may move while the machine's stays.
 *
 * The lab shows every host a file with one signed 64-bit number, the nanoseconds by which its wall clock is ahead.
 * A process maps it once, when it starts; from then on reading the clock costs one load more than without the lab.
 * Clocks that do not follow the time of day, such as CLOCK_MONOTONIC, are the kernel's.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define AHEAD "/run/fleetflash-clock/ahead"
#define SECOND 1000000000LL

static const volatile int64_t none;
static const volatile int64_t *ahead = &none;
/* libc's own, which asks the kernel's page of clocks and makes no system call. */
static int (*kernel_clock)(clockid_t, struct timespec *);

__attribute__((constructor)) static void map_clock(void)
{
    int file = open(AHEAD, O_RDONLY | O_CLOEXEC);
    if (file >= 0) {
        void *page = mmap(NULL, sizeof(*ahead), PROT_READ, MAP_SHARED, file, 0);
        close(file);
        if (page != MAP_FAILED)
            ahead = page;
    }
    kernel_clock = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    /* Another library's constructor may ask before ours has run. */
    int result = kernel_clock ? kernel_clock(clock, time) : (int)syscall(SYS_clock_gettime, clock, time);
    if (!result && *ahead && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI)) {
        int64_t moved = (int64_t)time->tv_sec * SECOND + time->tv_nsec + *ahead;
        time->tv_sec = moved / SECOND;
        time->tv_nsec = moved % SECOND;
        if (time->tv_nsec < 0) {
            time->tv_nsec += SECOND;
            time->tv_sec--;
        }
    }
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec time;
    int result = clock_gettime(CLOCK_REALTIME, &time);
    if (!result) {
        now->tv_sec = time.tv_sec;
        now->tv_usec = time.tv_nsec / 1000;
    }
    if (zone)
        *(struct timezone *)zone = (struct timezone){ 0 };
    return result;
}

time_t time(time_t *result)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result)
        *result = now.tv_sec;
    return now.tv_sec;
}
