/* The application: what the simulated gateway prints is in boot.txt, in the order of its lines. */
#include "sdkconfig.h"

#if CONFIG_TINYBMS_CAN_VICTRON_TX_GPIO == CONFIG_TINYBMS_CAN_VICTRON_RX_GPIO
#error "TX and RX need a pin each"
#endif

void app_main(void);

void app_main(void)
{
}
