#!/bin/bash
# Fuzzes the request parser and the loader of snapshots, half of the time each:
# [FUZZ_TARGETS=loader] tests/fuzz/run.sh [SECONDS] [libFuzzer options or an input to run again].
# Exit status 0: nothing found. A finding is written to build/fuzz/finding-*, with its stack on stderr.
# Needs clang and its run-time libraries (Debian, Ubuntu: clang and libclang-rt-dev) and Cython.
set -euo pipefail
cd "$(dirname "$0")/../.."
python="${PYTHON:-python3}"
mkdir -p build/fuzz
preload="$("$python" tests/fuzz/build.py | tail -n 1)"
seconds="${1:-60}"
shift || true
ASAN_OPTIONS="detect_leaks=0:verify_asan_link_order=0:allocator_may_return_null=1"
export ASAN_OPTIONS="$ASAN_OPTIONS:quarantine_size_mb=32:allocator_release_to_os_interval_ms=200"
export UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1"
export PYTHONMALLOC=malloc
read -ra targets <<< "${FUZZ_TARGETS:-parser loader}"
for target in "${targets[@]}"; do
    LD_PRELOAD="$preload" "$python" tests/fuzz/run.py "$target" "$((seconds / ${#targets[@]}))" "$@"
done
