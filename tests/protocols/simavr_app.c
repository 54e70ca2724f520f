/* A program for an Arduino: says which one it is, with enough words to fill several pages of flash, whenever asked. */

#include <avr/io.h>
#include <avr/pgmspace.h>

static const char PADDING[] PROGMEM __attribute__((used)) = PADDING_TEXT;

static void say(const char *text)
{
    while (*text) {
        while (!(UCSR0A & _BV(UDRE0)))
            ;
        UDR0 = *text++;
    }
}

int main(void)
{
    UCSR0A = _BV(U2X0);
    UBRR0 = F_CPU / 8 / BAUD - 1;
    UCSR0C = _BV(UCSZ01) | _BV(UCSZ00);
    UCSR0B = _BV(RXEN0) | _BV(TXEN0);
    for (;;) {
        while (!(UCSR0A & _BV(RXC0)))
            ;
        if (UDR0 == '?')
            say(NAME "\n");
    }
}
