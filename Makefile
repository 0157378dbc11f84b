# SPDX-License-Identifier: GPL-2.0-only
#
# dm-dynmap: make builds the module for KDIR and the tools; make help says more.

KDIR ?= /lib/modules/$(shell uname -r)/build
PREFIX ?= /usr/local
T ?=
N ?= 50
TIME ?= 5
KERNEL ?= 6.1
QUICK ?=
export KERNEL

all: module tools

module:
	$(MAKE) -C $(KDIR) M=$(CURDIR) modules

tools:
	$(MAKE) -C tools

install: all
	$(MAKE) -C $(KDIR) M=$(CURDIR) modules_install
	depmod -a
	$(MAKE) -C tools install PREFIX=$(PREFIX)

clean:
	-$(MAKE) -C $(KDIR) M=$(CURDIR) clean
	$(MAKE) -C tools clean
	$(MAKE) -C tests/core clean

check:
	@tests/check all

check-core:
	@tests/check core

check-vm:
	@T=$(T) tests/check vm

check-kernels:
	@tests/check kernels

check-debug:
	@T=$(T) tests/check debug

lint:
	@tests/lint

demo:
	@tests/demo/run

powercut:
	@tests/powercut/run $(N)

crash:
	@QUICK=$(QUICK) tests/crash/run

mutants:
	@QUICK=$(QUICK) tests/mutants/run

soak:
	@tests/soak/run $(TIME)

fuzz: TIME = 60
fuzz:
	@tests/fuzz/run $(TIME)

bench:
	@tests/bench/run
	@echo "The same with a clock that counts instructions:"
	@CLOCK=instructions tests/bench/run 3
	@echo "The same without emulation, in a user-mode Linux:"
	@CLOCK=native tests/bench/run

bench-core:
	@FULL=$(FULL) tests/bench/native

help:
	@echo "make [KDIR=...]        module and tools"
	@echo "make install           both, into the system"
	@echo "make demo              a story in a virtual machine, under 5 minutes"
	@echo "make check             all tests, some of them as a sample; check-core, check-vm"
	@echo "                       and check-debug [T=topic] a part; check-vm KERNEL=6.12"
	@echo "                       or 7 on those stock kernels, check-kernels a sample"
	@echo "make powercut [N=50]   N power cuts of a virtual machine under load"
	@echo "make crash [QUICK=1]   the power-failure simulator"
	@echo "make mutants [QUICK=1] one-line faults of the core that a test has to find"
	@echo "make soak [TIME=5]     a week in the life of a pool: minutes, or hours (8h)"
	@echo "make fuzz [TIME=60]    fuzz images, journals and operations, TIME seconds each"
	@echo "make bench             fio against raw, dm-linear and dm-thin"
	@echo "make bench-core        the core alone: how costs grow with size; FULL=1 larger sizes"
	@echo "make lint              style and static checks"

.PHONY: all module tools install clean check check-core check-vm check-kernels check-debug lint demo powercut crash mutants soak fuzz bench bench-core help
