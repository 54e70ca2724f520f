"""Desired state of ESP32 gateways: hosts, often without Klipper, with a gateway at a USB socket."""

# The firmware that every gateway must run: register a build with
#   fleetflash artifact add build/flasher_args.json --chip esp32 --name tinybms-gateway
firmware = "tinybms-gateway"
firmware_version = "v1.0.0"

chip = "esp32"
programmer = "esptool"

# None: there is no Klipper on these hosts that would have to be stopped.
klipper_service = None
policy = "compatible"
attended = False

# The virtualenv with esptool, which deploys/site.py brings to hosts whose boards need it (docs/site.md).
# flash_tools = {"requirements": "requirements/esptool.txt", "wheels": "wheels/esptool"}
