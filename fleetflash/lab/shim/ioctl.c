/* Modem lines for pseudo-terminals, in the lab's hosts only.
 *
 * A pseudo-terminal has no DTR or RTS: the kernel answers ENOTTY. This library, named in /etc/ld.so.preload,
 * takes those requests on a terminal that belongs to a simulated board and carries them to the board before it
 * returns, as a USB serial adapter would. The board is found by the terminal's own identity: the host sees
 * a directory of sockets named <st_dev>-<st_rdev>. For everything else, and whenever a board
 * does not answer, the request goes to the kernel unchanged.
 *
 * Wire: two little-endian uint32 out (request, bits), one back (the lines as they are now).
 */

#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define LINES "/run/fleetflash-lines"
#define ANSWER_SECONDS 2

static int is_line_request(unsigned long request)
{
    switch (request) {
    case TIOCMGET:
    case TIOCMSET:
    case TIOCMBIS:
    case TIOCMBIC:
    case TIOCSBRK:
    case TIOCCBRK:
        return 1;
    default:
        return 0;
    }
}

static int has_bits(unsigned long request)
{
    return request == TIOCMSET || request == TIOCMBIS || request == TIOCMBIC;
}

static void put32(unsigned char *to, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        to[i] = (unsigned char)(value >> (8 * i));
}

static uint32_t get32(const unsigned char *from)
{
    return from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

/* Ask the board behind fd; 0 when it answered. */
static int ask_board(int fd, unsigned long request, uint32_t bits, uint32_t *lines)
{
    struct stat st;
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct timeval patience = { .tv_sec = ANSWER_SECONDS };
    unsigned char message[8], answer[4];
    size_t have = 0;
    int board, answered = -1;

    if (fstat(fd, &st) || !S_ISCHR(st.st_mode) || major(st.st_rdev) < 136 || major(st.st_rdev) > 143)
        return -1;
    snprintf(address.sun_path, sizeof(address.sun_path), LINES "/%lx-%lx", (unsigned long)st.st_dev,
             (unsigned long)st.st_rdev);
    board = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (board < 0)
        return -1;
    setsockopt(board, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    setsockopt(board, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    put32(message, (uint32_t)request);
    put32(message + 4, bits);
    if (!connect(board, (struct sockaddr *)&address, sizeof(address))
        && send(board, message, sizeof(message), MSG_NOSIGNAL) == (ssize_t)sizeof(message)) {
        while (have < sizeof(answer)) {
            ssize_t got = recv(board, answer + have, sizeof(answer) - have, 0);
            if (got < 0 && errno == EINTR)
                continue;
            if (got <= 0)
                break;
            have += (size_t)got;
        }
        if (have == sizeof(answer)) {
            *lines = get32(answer);
            answered = 0;
        }
    }
    close(board);
    return answered;
}

int ioctl(int fd, unsigned long request, ...)
{
    va_list rest;
    void *argument;

    va_start(rest, request);
    argument = va_arg(rest, void *);
    va_end(rest);
    if (is_line_request(request) && (argument || !(has_bits(request) || request == TIOCMGET))) {
        int before = errno;
        uint32_t lines = 0;
        int answered = ask_board(fd, request, has_bits(request) ? *(uint32_t *)argument : 0, &lines);
        errno = before;
        if (!answered) {
            if (request == TIOCMGET)
                *(int *)argument = (int)lines;
            return 0;
        }
    }
    return (int)syscall(SYS_ioctl, fd, request, argument);
}
