/* An Arduino whose bootloader and program are real AVR code, run by libsimavr: its first UART is a pseudo-terminal.

   simavr_board MCU BOOTLOADER.bin ADDRESS FLASH.bin prints the pseudo-terminal's name. On standard input "r" is an edge
   on the reset pin, "d" has the flash written to FLASH.bin and is answered by a line. The end of it ends all.

   Simulated time never runs ahead of the clock on the wall, so that the bootloader waits for as long as a real one. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <simavr/avr_uart.h>
#include <simavr/sim_avr.h>

#define FREQUENCY 16000000
#define SLICES_A_SECOND 1000
#define MOST_LAG 20000000 /* ns; beyond that, lost time is lost */

static int terminal;
static int listens = 1;

static void transmitted(struct avr_irq_t *irq, uint32_t value, void *param)
{
    uint8_t byte = value;
    if (write(terminal, &byte, 1) != 1)
        perror("pseudo-terminal");
}

static void takes_more(struct avr_irq_t *irq, uint32_t value, void *param)
{
    listens = 1;
}

static void is_full(struct avr_irq_t *irq, uint32_t value, void *param)
{
    listens = 0;
}

static void instead_of_sleeping(avr_t *avr, avr_cycle_count_t cycles)
{
}

static void silent(avr_t *avr, const int level, const char *format, va_list arguments)
{
}

static void open_terminal(void)
{
    struct termios settings;
    terminal = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
    grantpt(terminal);
    unlockpt(terminal);
    /* Kept open, so that it outlasts each of its users. */
    int other = open(ptsname(terminal), O_RDWR | O_NOCTTY);
    tcgetattr(other, &settings);
    cfmakeraw(&settings);
    tcsetattr(other, TCSANOW, &settings);
}

static void connect_uart(avr_t *avr)
{
    uint32_t flags = 0;
    avr_ioctl(avr, AVR_IOCTL_UART_SET_FLAGS('0'), &flags);
    avr_irq_register_notify(avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_OUTPUT), transmitted, NULL);
    avr_irq_register_notify(avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_OUT_XON), takes_more, NULL);
    avr_irq_register_notify(avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_OUT_XOFF), is_full, NULL);
}

/* The fuses of an Arduino: a reset leads into the bootloader. */
static void load(avr_t *avr, const char *path, avr_flashaddr_t address)
{
    FILE *file = fopen(path, "rb");
    if (!file || !fread(avr->flash + address, 1, avr->flashend + 1 - address, file))
        exit(2);
    fclose(file);
    avr->reset_pc = avr->pc = address;
    avr->codeend = avr->flashend;
}

static void reset_by_pin(avr_t *avr)
{
    listens = 1;
    avr_reset(avr);
    avr_regbit_set(avr, avr->reset_flags.extrf);
}

static void dump(avr_t *avr, const char *path)
{
    FILE *file = fopen(path, "wb");
    fwrite(avr->flash, 1, avr->flashend + 1, file);
    fclose(file);
    puts("dumped");
    fflush(stdout);
}

static void receive(avr_t *avr)
{
    uint8_t byte;
    avr_irq_t *input = avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_INPUT);
    while (listens && read(terminal, &byte, 1) == 1)
        avr_raise_irq(input, byte);
}

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

int main(int count, char **arguments)
{
    if (count != 5)
        return 2;
    avr_global_logger_set(silent);
    avr_t *avr = avr_make_mcu_by_name(arguments[1]);
    if (!avr)
        return 2;
    avr_init(avr);
    avr->frequency = FREQUENCY;
    avr->sleep = instead_of_sleeping;
    load(avr, arguments[2], strtoul(arguments[3], NULL, 0));
    open_terminal();
    connect_uart(avr);
    reset_by_pin(avr);
    puts(ptsname(terminal));
    fflush(stdout);

    struct pollfd commands = {.fd = STDIN_FILENO, .events = POLLIN};
    int64_t due = now();
    for (;;) {
        if (poll(&commands, 1, 0) > 0) {
            char command;
            if (read(STDIN_FILENO, &command, 1) != 1)
                return 0;
            if (command == 'r')
                reset_by_pin(avr);
            else if (command == 'd')
                dump(avr, arguments[4]);
        }
        receive(avr);
        avr_cycle_count_t end = avr->cycle + FREQUENCY / SLICES_A_SECOND;
        while (avr->cycle < end) {
            int state = avr_run(avr);
            if (state == cpu_Done || state == cpu_Crashed)
                return 1;
        }
        due += 1000000000LL / SLICES_A_SECOND;
        int64_t ahead = due - now();
        if (ahead > 0) {
            struct timespec pause = {.tv_nsec = ahead};
            nanosleep(&pause, NULL);
        } else if (ahead < -MOST_LAG)
            due = now();
    }
}
