/* What the protocol needs of a chip. */
#pragma once
#include <stdint.h>

void uart_init(void);
/* The next byte that came in; -1 when there is none. */
int16_t uart_read(void);
void uart_write(uint8_t byte);
/* Sleep until something may have come in. */
void wait_for_input(void);
