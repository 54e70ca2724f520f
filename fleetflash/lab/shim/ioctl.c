/* Modem lines and parity for pseudo-terminals, in the lab's hosts only.
 *
 * A pseudo-terminal has no DTR or RTS: the kernel answers ENOTTY. Nor has it a parity bit: the kernel clears PARENB,
 * and glibc's tcsetattr then fails with EINVAL. This library, named in /etc/ld.so.preload, takes those requests on a terminal that belongs to a simulated board and carries them to the board before it
 * returns, as a USB serial adapter would. The board is found by the terminal's own identity: the host sees
 * a directory of sockets named <st_dev>-<st_rdev>. For everything else, and whenever a board
 * does not answer, the request goes to the kernel unchanged.
 *
 * Wire: two little-endian uint32 out (request, bits), one back: the lines as they are now, or for TCSETS and TCGETS,
 * whose bits are c_cflag, the flags that the board was last told.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
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
#include <termios.h>
#include <unistd.h>

#ifndef LINES
#define LINES "/run/fleetflash-lines"
#endif
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

/* Whether a request sets (1) or reads (-1) line settings; their numbers in <asm/termbits.h> clash with <termios.h>. */
static int is_settings_request(unsigned long request)
{
    switch (request) {
    case TCSETS:
    case TCSETSW:
    case TCSETSF:
    case 0x402C542B: /* TCSETS2 */
    case 0x402C542C: /* TCSETSW2 */
    case 0x402C542D: /* TCSETSF2 */
        return 1;
    case TCGETS:
    case 0x802C542A: /* TCGETS2 */
        return -1;
    default:
        return 0;
    }
}

/* Tell the board the flags that its client sets; 0 when it is a board. */
static int tell_flags(int fd, uint32_t flags)
{
    int before = errno;
    uint32_t told;
    int answered = ask_board(fd, TCSETS, flags, &told);
    errno = before;
    return answered;
}

/* The parity that the board was told, as c_cflag bits. */
static uint32_t told_parity(int fd)
{
    int before = errno;
    uint32_t flags = 0;
    int answered = ask_board(fd, TCGETS, 0, &flags);
    errno = before;
    return answered ? 0 : flags & (PARENB | PARODD);
}

int tcsetattr(int fd, int action, const struct termios *settings)
{
    int (*next)(int, int, const struct termios *) = dlsym(RTLD_NEXT, "tcsetattr");
    struct termios plain;

    if (!settings || tell_flags(fd, settings->c_cflag))
        return next(fd, action, settings);
    plain = *settings;
    plain.c_cflag &= ~(tcflag_t)PARENB;
    return next(fd, action, &plain);
}

int tcgetattr(int fd, struct termios *settings)
{
    int (*next)(int, struct termios *) = dlsym(RTLD_NEXT, "tcgetattr");
    int result = next(fd, settings);

    if (!result)
        settings->c_cflag |= told_parity(fd);
    return result;
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
    int settings = argument ? is_settings_request(request) : 0;
    /* c_cflag is the third word of every termios structure. */
    if (settings > 0)
        tell_flags(fd, ((uint32_t *)argument)[2]);
    int result = (int)syscall(SYS_ioctl, fd, request, argument);
    if (settings < 0 && !result)
        ((uint32_t *)argument)[2] |= told_parity(fd);
    return result;
}
