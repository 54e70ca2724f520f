"""Nothing is accepted for a chip that it was not built for."""

import pytest
from firmware_images import dictionary_json, klipper_bin, make_hex

from fleetflash.agent.protocols.programmers import PROGRAMMERS
from fleetflash.agent.protocols.stm32_chips import DEVICES
from fleetflash.firmware.chips import CHIPS, check_image_fits, chip, chip_by_isp, mcu_fits
from fleetflash.firmware.errors import ImageSizeError, UnknownChipError, WrongChipError
from fleetflash.firmware.image import parse_image

C8T6 = chip("ch32v203c8t6")


def test_chip_is_found_in_any_case_and_by_isp_id() -> None:
    assert chip(" CH32V203C8T6 ") is C8T6
    assert chip_by_isp(0x19, 0x31) is C8T6
    assert chip_by_isp(0x19, 0x37) is chip_by_isp(0x19, 0x39) is chip("ch32v203f6p6")
    assert chip_by_isp(0x19, 0x38) is None
    assert chip_by_isp(0x18, 0x31) is None


def test_no_two_chips_share_an_isp_id() -> None:
    ids = [(c.isp.device_type, number) for c in CHIPS.values() if c.isp for number in c.isp.chip_ids]
    assert len(ids) == len(set(ids)) == 10


@pytest.mark.parametrize(
    ("name", "programmer", "ids"),
    [
        ("ch32v203f6p6", "wch_isp", ("19:37", "19:39")),
        ("ch32v203c8t6", "stm32_rom", ()),
        ("stm32f103xb", "stm32_rom", ("0410",)),
        ("stm32f103xb", "katapult", ("stm32f103xe",)),
        ("stm32f103xb", "stk500", ()),
        ("rp2040", "katapult", ("rp2040",)),
        ("rp2040", "stm32_rom", ()),
        ("atmega2560", "stk500", ("1e9801",)),
    ],
)
def test_chip_is_known_by_what_each_bootloader_calls_it(name: str, programmer: str, ids: tuple[str, ...]) -> None:
    assert chip(name).bootloader_ids(programmer) == ids


def test_every_programmer_has_a_chip_and_every_chip_only_programmers_that_there_are() -> None:
    named = {programmer for known in CHIPS.values() for programmer in known.bootloaders}
    assert named | {"wch_isp", "wchisp"} == set(PROGRAMMERS)
    assert all(any(known.bootloader_ids(programmer) for programmer in PROGRAMMERS) for known in CHIPS.values())


def test_boot_rom_knows_the_flash_of_every_stm32_that_it_is_to_write() -> None:
    """A chip whose product id the agent can't divide into sectors would be refused only when Klipper is stopped."""
    ids = {number for known in CHIPS.values() for number in known.bootloader_ids("stm32_rom")}
    assert {int(number, 16) for number in ids} <= set(DEVICES)


@pytest.mark.parametrize(
    ("mcu", "name"), [("stm32f103xe", "stm32f103xb"), ("stm32g0b1xx", "stm32g0b1xe"), ("rp2040", "rp2040")]
)
def test_klippers_constant_fits_the_chip_whatever_its_size(mcu: str, name: str) -> None:
    assert mcu_fits(mcu, chip(name))
    assert not mcu_fits(mcu, chip("stm32f446xe"))


def test_unknown_chip_names_near_ones() -> None:
    with pytest.raises(UnknownChipError, match="did you mean ch32v203c8t6"):
        chip("ch32v203c8t7")
    with pytest.raises(UnknownChipError, match=r"known are .*ch32v203c8t6"):
        chip("z80")


@pytest.mark.parametrize(
    ("mcu", "fits"),
    [
        ("ch32v203", True),
        ("CH32V203", True),
        ("ch32v203x8", True),
        ("ch32v203c8", True),
        ("ch32v203c8t6", True),
        ("ch32v203rb", False),
        ("ch32v203rbt6", False),
        ("ch32v20", False),
        ("ch32v208", False),
        ("stm32f103xe", False),
        ("", False),
    ],
)
def test_mcu_constant_fits_its_chip_only(mcu: str, fits: bool) -> None:
    assert mcu_fits(mcu, C8T6) is fits


def test_wrong_mcu_is_refused_naming_both() -> None:
    image = parse_image(klipper_bin(config={"MCU": "stm32f103xe"}), "klipper.bin")
    with pytest.raises(WrongChipError, match=r"klipper\.bin.*stm32f103xe.*ch32v203c8t6"):
        check_image_fits(image, C8T6)


def test_image_may_fill_the_flash_and_no_more() -> None:
    full = C8T6.flash_bytes
    assert check_image_fits(parse_image(klipper_bin(size=full), "a.bin"), C8T6) == 0
    assert check_image_fits(parse_image(klipper_bin(size=full - 0x2000), "a.bin", 0x2000), C8T6) == 0x2000
    for size, offset in ((full + 1, 0), (full - 0x2000 + 1, 0x2000), (4000, full)):
        with pytest.raises(ImageSizeError, match="ch32v203c8t6 has 65536 bytes"):
            check_image_fits(parse_image(klipper_bin(size=size), "a.bin", offset), C8T6)
    with pytest.raises(ImageSizeError):
        check_image_fits(parse_image(klipper_bin(size=full), "a.bin"), chip("ch32v203c6t6"))


@pytest.mark.parametrize(("address", "offset"), [(0, 0), (0x2000, 0x2000), (0x0800_0000, 0), (0x0800_2000, 0x2000)])
def test_hex_is_placed_by_either_address_of_the_flash(address: int, offset: int) -> None:
    assert check_image_fits(parse_image(make_hex(address, klipper_bin()), "a.hex"), C8T6) == offset


@pytest.mark.parametrize("address", [0x0001_0000, 0x07FF_FFFF, 0x2000_0000])
def test_hex_outside_the_flash_is_refused(address: int) -> None:
    with pytest.raises(ImageSizeError, match=f"at {address:#x}"):
        check_image_fits(parse_image(make_hex(address, klipper_bin()), "a.hex"), C8T6)


def test_raw_offset_is_never_taken_for_an_address() -> None:
    with pytest.raises(ImageSizeError):
        check_image_fits(parse_image(klipper_bin(), "a.bin", 0x0800_0000), C8T6)


def test_dictionary_file_has_nothing_to_flash() -> None:
    with pytest.raises(ImageSizeError, match="no bytes"):
        check_image_fits(parse_image(dictionary_json(), "klipper.dict"), C8T6)
