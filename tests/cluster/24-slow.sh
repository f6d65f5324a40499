#!/bin/bash
# 24-slow.sh BINDIR - clients that read 1 KiB a second, half of them asking and asking, cost the broker next to nothing. tests/chaos/slow.c; docs/TESTING.md has it with 10,000 images.
bin=$(cd "${1:?usage: $0 BINDIR}" && pwd) || exit 2
noise_kib=4096
ldd "$bin/zfarm-broker" | grep -q libasan && noise_kib=400000 # what is freed stays in its quarantine
exec "$bin/slow" "$bin/zfarm-broker" 2000 8 $noise_kib
