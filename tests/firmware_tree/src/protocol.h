/* Klipper's message blocks: docs/Protocol.md. */
#pragma once
#include <stdint.h>

enum { BLOCK_MIN = 5, BLOCK_MAX = 64, PAYLOAD_MAX = BLOCK_MAX - BLOCK_MIN };

/* Take one byte from the line; whole blocks are handled and acknowledged. */
void protocol_receive(uint8_t byte);
