/* Klipper's message blocks: length | 0x10 + sequence | payload | CRC, high byte first | 0x7e (docs/Protocol.md). */
#include <string.h>
#include <util/crc16.h>
#include "board.h"
#include "identify.h"
#include "protocol.h"

enum { SYNC = 0x7e, DESTINATION = 0x10, SEQUENCE_MASK = 0x0f };
enum { IDENTIFY_RESPONSE = 0, IDENTIFY = 1, PIECE = 40 };

static uint8_t block[BLOCK_MAX], received, expected, out_of_step;

static uint16_t
crc16(const uint8_t *data, uint8_t length)
{
    uint16_t crc = 0xffff;
    while (length--)
        crc = _crc_ccitt_update(crc, *data++);
    return crc;
}

static void
send(const uint8_t *payload, uint8_t length)
{
    uint8_t message[BLOCK_MAX] = { BLOCK_MIN + length, DESTINATION | expected };
    memcpy(message + 2, payload, length);
    uint16_t crc = crc16(message, length + 2);
    message[length + 2] = crc >> 8;
    message[length + 3] = crc;
    message[length + 4] = SYNC;
    for (uint8_t i = 0; i < length + BLOCK_MIN; i++)
        uart_write(message[i]);
}

/* Seven bits a byte, most significant first; the two bits below the top one are the sign's when both are set. */
static const uint8_t *
decode(const uint8_t *at, const uint8_t *end, uint32_t *value)
{
    if (at >= end)
        return 0;
    *value = *at & 0x7f;
    if ((*at & 0x60) == 0x60)
        *value |= ~(uint32_t)0x7f;
    while (*at++ & 0x80) {
        if (at >= end)
            return 0;
        *value = *value << 7 | (*at & 0x7f);
    }
    return at;
}

static uint8_t *
encode(uint8_t *at, uint16_t value)
{
    if (value >= 0x3000)
        *at++ = 0x80 | value >> 14;
    if (value >= 0x60)
        *at++ = 0x80 | (value >> 7 & 0x7f);
    *at++ = value & 0x7f;
    return at;
}

static void
identify(uint32_t offset, uint32_t count)
{
    uint16_t start = offset < identify_size ? offset : identify_size;
    uint16_t left = identify_size - start;
    uint8_t length = count < PIECE ? count : PIECE;
    if (length > left)
        length = left;
    uint8_t answer[PAYLOAD_MAX], *at = answer;
    *at++ = IDENTIFY_RESPONSE;
    at = encode(at, offset);
    *at++ = length;
    memcpy_P(at, identify_data + start, length);
    send(answer, at + length - answer);
}

static void
dispatch(const uint8_t *at, const uint8_t *end)
{
    uint32_t command, offset, count;
    while (at < end) {
        at = decode(at, end, &command);
        if (!at || command != IDENTIFY)
            return;
        at = decode(at, end, &offset);
        at = at ? decode(at, end, &count) : 0;
        if (!at)
            return;
        identify(offset, count);
    }
}

static uint8_t
block_is_sound(uint8_t length)
{
    uint16_t crc = (uint16_t)block[length - 3] << 8 | block[length - 2];
    return block[length - 1] == SYNC && (block[1] & ~SEQUENCE_MASK) == DESTINATION && crc == crc16(block, length - 3);
}

/* A broken block: say once which number is waited for, and skip to the next 0x7e. */
static void
lose_step(uint8_t byte)
{
    received = 0;
    out_of_step = byte != SYNC;
    send(0, 0);
}

void
protocol_receive(uint8_t byte)
{
    if (out_of_step || (!received && byte == SYNC)) {
        out_of_step = out_of_step && byte != SYNC;
        return;
    }
    block[received++] = byte;
    uint8_t length = block[0];
    if (length < BLOCK_MIN || length > BLOCK_MAX) {
        lose_step(byte);
        return;
    }
    if (received < length)
        return;
    if (!block_is_sound(length)) {
        lose_step(byte);
        return;
    }
    received = 0;
    if ((block[1] & SEQUENCE_MASK) == expected) {
        expected = (expected + 1) & SEQUENCE_MASK;
        dispatch(block + 2, block + length - 3);
    }
    send(0, 0);
}
