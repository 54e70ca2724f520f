/* The dictionary that the build generates, compressed, in flash. */
#pragma once
#include <stdint.h>
#include <avr/pgmspace.h>

extern const uint8_t identify_data[] PROGMEM;
extern const uint16_t identify_size;
