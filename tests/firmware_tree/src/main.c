#include <avr/pgmspace.h>
#include "autoconf.h"
#include "board.h"
#include "protocol.h"

#if CONFIG_PADDING_BYTES > 0
__attribute__((used, section(".progmem.padding"))) static const uint8_t padding[CONFIG_PADDING_BYTES] = { 1 };
#endif

int
main(void)
{
#if CONFIG_PADDING_BYTES > 0
    /* A reference, so that the linker keeps it. */
    if (!pgm_read_byte(padding))
        return 1;
#endif
    uart_init();
    for (;;) {
        int16_t byte = uart_read();
        if (byte < 0)
            wait_for_input();
        else
            protocol_receive(byte);
    }
}
