# SPDX-License-Identifier: GPL-2.0-only

.PHONY: help demo test host-test programs bench bench-check bench-tree modules selftests install uninstall deb shell rustfmtcheck lint rustdoc rust-analyzer \
	clean distclean

help:
	@echo 'make demo          run the poison drill in a guest, on the stock Debian kernel'
	@echo 'make test          run all tests: on the host, and in guests with the stock and the debug kernel'
	@echo 'make test KERNEL=7.2'
	@echo '                   ... on Debian'\''s kernel of another series, 7.2 or 7.3 (default); all that runs a kernel takes it'
	@echo 'make test ARCH=arm64'
	@echo '                   ... on that for arm64, emulated: the kselftests, on the stock kernel; demo, shell and modules take it, too'
	@echo 'make host-test     run the tests that need no kernel; as any user who has cargo'
	@echo 'make programs      run python3, redis-server, stress-ng and tests of the kernel on memory of the device, in a guest'
	@echo 'make bench         measure the device beside anonymous memory, in guests; results in build/bench/'
	@echo 'make bench CASE=TEXT PROFILE=1'
	@echo '                   only cases with TEXT in their names; PROFILE=1 says in which functions the instructions went'
	@echo 'make bench-check   is any ratio worse than the one kept? two minutes of it; in make test, too'
	@echo 'make bench-tree    measure the interval tree, on the host and in a guest; results in build/bench/'
	@echo 'make shell         an interactive guest with the module loaded'
	@echo 'make shell PACKAGES=LIST NETWORK=1 RUN="--memory 4G"'
	@echo '                   in a Debian userland with these packages, or .deb files; NETWORK=1 connects it, RUN has any other'
	@echo '                   options of qemu/run (--rootfs: no more packages); ROOT=DIR takes your own root folder instead'
	@echo 'make modules       build anon_rmap.ko for the stock Debian kernel, in build/stock/'
	@echo 'make modules KDIR=DIR'
	@echo '                   build it for the prepared kernel tree DIR (CONFIG_RUST=y), in build/modules/'
	@echo 'make install       install the module and the commands; DESTDIR, prefix, KDIR and others: selftests/package/install --help'
	@echo 'make uninstall     remove that; selftests/package/uninstall --help'
	@echo 'make deb           a Debian package of that, in build/'
	@echo 'make selftests     build the test programs, in build/selftests/'
	@echo 'make rustfmtcheck  check the format of the Rust sources'
	@echo 'make lint          check the sources: checkpatch, shellcheck, licences, pages, layers'
	@echo 'make rustdoc       the documentation of the module, in build/doc/'
	@echo 'make rust-analyzer write rust-project.json, for editors'
	@echo 'make clean         remove build/'
	@echo 'make distclean     remove build/ and the prepared kernels and toolchain'
	@echo 'make TARGET O=DIR  what is built goes to DIR/build/, as when these sources are read-only'
	@echo 'W=1, CLIPPY=1 and other variables of the kernel build work with make modules.'
	@echo 'qemu/run --help    run a command of your own in a guest'

demo:
	@qemu/demo

test:
	@qemu/test

host-test:
	@qemu/host-test

programs:
	@qemu/programs $(PROGRAMS)
	$(if $(PROGRAMS),,@qemu/userland-test)

bench:
	@selftests/bench/memory/run $(if $(PROFILE),--profile) $${CASE:+"$$CASE"}

bench-check:
	@selftests/bench/memory/run --check

bench-tree:
	@selftests/bench/tree/run

ifdef KDIR
# The tree can have an output directory of its own.
MAKEOVERRIDES := $(filter-out O=%,$(MAKEOVERRIDES))
modules:
	@test -e '$(KDIR)/rust/libkernel.rmeta' || { echo >&2 '$(KDIR) is not a kernel tree that is prepared for Rust modules:' \
		'configure it with CONFIG_RUST=y and run "make prepare modules_prepare" in it'; exit 2; }
	@case '$(KDIR)$(CURDIR)$(O)' in *[[:space:]:%]*) echo >&2 'The build of the kernel takes no path with a space, ":" or "%":' \
		'$(KDIR), $(CURDIR)$(if $(O), or $(O))'; exit 2;; esac
	$(MAKE) -C $(KDIR) M=$(CURDIR) MO=$(abspath $(or $(O),$(CURDIR)))/build/modules modules
else
modules:
	@qemu/module stock $(MAKEOVERRIDES)
endif

selftests:
	@qemu/selftests all

install:
	@selftests/package/install $(MAKEOVERRIDES) >/dev/null

uninstall:
	@selftests/package/uninstall $(MAKEOVERRIDES)

deb:
	@selftests/package/deb $(MAKEOVERRIDES)

shell:
	@qemu/run --interactive --timeout 86400 $${PACKAGES:+--packages "$$PACKAGES"} $${ROOT:+--root "$$ROOT"} \
		$(if $(NETWORK),--network) $(RUN)

rustfmtcheck:
	@qemu/rustfmt --check

lint:
	@qemu/lint

rustdoc:
	@qemu/rustdoc

rust-analyzer:
	@qemu/rust-analyzer

clean:
	rm -rf "$${O:-.}/build" "$${O:-.}/rust-project.json"

distclean: clean
	rm -rf "$${XDG_CACHE_HOME:-$$HOME/.cache}/anon_rmap"
