# make demo   bring the simulated lab to its pinned firmware
# make test   everything that CI checks
# make mutants   breaks each guard on purpose; a test must notice every time
# make test-full   the same with the whole fault matrix and ten times random faults (about 75 minutes more)
# Both install what they need first: Debian packages (as root, or through sudo) and a virtualenv in .venv.

PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

# Packages that must be there, each with a file that proves it.
PACKAGES := python3-venv:/usr/share/doc/python3.11-venv systemd-container:/usr/bin/systemd-nspawn \
    mmdebstrap:/usr/bin/mmdebstrap iproute2:/usr/sbin/ip openssh-client:/usr/bin/ssh \
    openssh-server:/usr/sbin/sshd gcc:/usr/bin/gcc libc6-dev:/usr/include/stdio.h fish:/usr/bin/fish dash:/bin/dash \
    stm32flash:/usr/bin/stm32flash avrdude:/usr/bin/avrdude \
    libsimavr-dev:/usr/include/simavr/sim_avr.h gcc-avr:/usr/bin/avr-gcc \
    avr-libc:/usr/lib/avr/include/avr/io.h arduino-core-avr:/usr/share/arduino/hardware/arduino/avr/bootloaders \
    git:/usr/bin/git binutils-avr:/usr/bin/avr-objcopy mosquitto:/usr/sbin/mosquitto
MISSING := $(foreach entry,$(PACKAGES),$(if $(wildcard $(word 2,$(subst :, ,$(entry)))),,$(word 1,$(subst :, ,$(entry)))))

# Apart from the virtualenv, as in ESP-IDF: it brings a package of its own that is called kconfiglib, too.
ESP_IDF_KCONFIG := esp-idf-kconfig>=2.5,<3

.PHONY: help demo test test-full mutants lint unit lab system clean

help:
	@sed -n 's/^# make/make/p' Makefile

demo: $(VENV)/.ready
	@$(BIN)/fleetflash demo

test: lint unit lab

test-full: lint unit
	$(SUDO) env FLEETFLASH_MATRIX=full $(BIN)/pytest -s tests/lab

mutants: $(VENV)/.ready
	$(BIN)/python tests/mutants.py

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Simulated boards run in real time, which a machine that is busy elsewhere may deny them: what fails is run again,
# and pytest names it. What is wrong fails every time.
unit: $(VENV)/.ready
	$(BIN)/pytest -n 6 --reruns 2 -r R tests/unit tests/protocols

lab: $(VENV)/.ready
	$(SUDO) $(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder --reruns 1 -r R tests/lab

$(VENV)/.ready: pyproject.toml | system
	@echo "Installing into $(VENV): fleetflash, its Python packages and the tools of its tests"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(VENV)/esp-idf '$(ESP_IDF_KCONFIG)'
	@touch $@

system:
ifneq ($(strip $(MISSING)),)
	@echo "Installing Debian packages: $(strip $(MISSING))"
	@$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get update -qq
	@$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(MISSING) >/dev/null
endif

clean:
	rm -rf $(VENV) artifacts .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info build
