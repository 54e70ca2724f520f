/* An AVR chip of simavr with its UART0 on a pseudo-terminal: simavr MCU FREQUENCY ELF LINK
 *
 * LINK becomes a symbolic link to the pseudo-terminal as soon as the chip runs. Ends when it is terminated or the
 * program in the chip crashes. Source: simavr's sim_avr.h, sim_elf.h and avr_uart.h (XON and XOFF of the input).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <simavr/avr_uart.h>
#include <simavr/sim_avr.h>
#include <simavr/sim_elf.h>
#include <simavr/sim_time.h>

static int terminal, may_send = 1;

static void
on_output(struct avr_irq_t *irq, uint32_t value, void *parameter)
{
    (void)irq, (void)parameter;
    uint8_t byte = value;
    /* Nobody reads and the terminal is full: the byte is lost, as on a line. */
    if (write(terminal, &byte, 1) != 1 && errno != EAGAIN)
        exit(1);
}

static void
on_xon(struct avr_irq_t *irq, uint32_t value, void *parameter)
{
    (void)irq, (void)value, (void)parameter;
    may_send = 1;
}

static void
on_xoff(struct avr_irq_t *irq, uint32_t value, void *parameter)
{
    (void)irq, (void)value, (void)parameter;
    may_send = 0;
}

/* A chip that sleeps costs this computer little: simavr sleeps 1000 cycles at a time, which are saved up to 1 ms. */
static void
sleep_until_input(avr_t *avr, avr_cycle_count_t cycles)
{
    static uint32_t microseconds;
    struct pollfd ready = { terminal, may_send ? POLLIN : 0, 0 };
    microseconds += avr_cycles_to_usec(avr, cycles);
    if (microseconds < 1000)
        return;
    poll(&ready, 1, microseconds / 1000);
    microseconds %= 1000;
}

int
main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: %s MCU FREQUENCY ELF LINK\n", argv[0]);
        return 2;
    }
    elf_firmware_t firmware;
    memset(&firmware, 0, sizeof(firmware));
    if (elf_read_firmware(argv[3], &firmware) < 0)
        return 2;
    avr_t *avr = avr_make_mcu_by_name(argv[1]);
    if (!avr)
        return 2;
    avr_init(avr);
    firmware.frequency = strtoul(argv[2], NULL, 10);
    avr_load_firmware(avr, &firmware);
    avr->sleep = sleep_until_input;

    int far_end;
    struct termios raw;
    memset(&raw, 0, sizeof(raw));
    cfmakeraw(&raw);
    /* The far end stays open here, so that the terminal lives while nobody uses it. */
    if (openpty(&terminal, &far_end, NULL, &raw, NULL) || fcntl(terminal, F_SETFL, O_NONBLOCK))
        return 2;

    uint32_t flags = 0;
    avr_ioctl(avr, AVR_IOCTL_UART_GET_FLAGS('0'), &flags);
    flags &= ~AVR_UART_FLAG_STDIO;
    avr_ioctl(avr, AVR_IOCTL_UART_SET_FLAGS('0'), &flags);
    avr_irq_register_notify(avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_OUTPUT), on_output, NULL);
    avr_irq_register_notify(avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_OUT_XON), on_xon, NULL);
    avr_irq_register_notify(avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_OUT_XOFF), on_xoff, NULL);
    avr_irq_t *input = avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_INPUT);

    if (symlink(ptsname(terminal), argv[4]))
        return 2;
    for (unsigned turn = 0;; turn++) {
        int state = avr_run(avr);
        if (state == cpu_Done || state == cpu_Crashed)
            return 1;
        /* Looking costs a system call, so not on every instruction. */
        if (turn % 64 && state != cpu_Sleeping)
            continue;
        uint8_t byte;
        while (may_send && read(terminal, &byte, 1) == 1)
            avr_raise_irq(input, byte);
    }
}
