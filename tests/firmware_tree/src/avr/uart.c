/* UART0 with an input buffer; ATmega328P data sheet, chapter "USART0" (the ATmega2560's is the same). */
#include <avr/interrupt.h>
#include <avr/io.h>
#include <avr/sleep.h>
#include "autoconf.h"
#include "board.h"

#ifndef USART0_RX_vect
#define USART0_RX_vect USART_RX_vect
#endif

#define SIZE 128
static volatile uint8_t input[SIZE], head, tail;

ISR(USART0_RX_vect)
{
    uint8_t next = (head + 1) % SIZE, byte = UDR0;
    if (next != tail) {
        input[head] = byte;
        head = next;
    }
}

void
uart_init(void)
{
    UCSR0A = _BV(U2X0);
    UBRR0 = (CONFIG_CLOCK_FREQ / 4 / CONFIG_SERIAL_BAUD - 1) / 2;
    UCSR0C = _BV(UCSZ01) | _BV(UCSZ00);
    UCSR0B = _BV(RXCIE0) | _BV(RXEN0) | _BV(TXEN0);
    sei();
}

int16_t
uart_read(void)
{
    if (tail == head)
        return -1;
    uint8_t byte = input[tail];
    tail = (tail + 1) % SIZE;
    return byte;
}

void
uart_write(uint8_t byte)
{
    while (!(UCSR0A & _BV(UDRE0)))
        ;
    UDR0 = byte;
}

void
wait_for_input(void)
{
    set_sleep_mode(SLEEP_MODE_IDLE);
    cli();
    if (tail == head) {
        sleep_enable();
        /* The instruction after sei runs before any interrupt, so none is slept through. */
        sei();
        sleep_cpu();
        sleep_disable();
    }
    sei();
}
