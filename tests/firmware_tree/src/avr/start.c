/* What must happen before main. */
#include <avr/io.h>
#include <avr/wdt.h>

/* A bootloader that was entered by the watchdog leaves it running. */
__attribute__((naked, used, section(".init3"))) static void
stop_watchdog(void)
{
    MCUSR = 0;
    wdt_disable();
}
