#!/bin/sh
# Searches for inputs that break a reader: `run.sh SECONDS [TARGET..]`, so long for each target.
#
# libFuzzer is built as any other dependency, and only our own crates are compiled anew, so that it sees which ways an
# input takes through them; it needs no nightly toolchain. Who has cargo-fuzz can as well say
# `cargo +nightly fuzz run TARGET` in lb-agent.
set -eu
cd "$(dirname "$0")/../.."

seconds=${1:?"say for how many seconds"}
shift
fuzz=lb-agent/fuzz
found=target/fuzz

# search TARGET : what it finds is kept for the next run, what breaks it lies in $found/TARGET-*.
search() {
    mkdir -p "$found/corpus/$1"
    if target/debug/"$1" "$found/corpus/$1" "$fuzz/seeds/$1" -dict="$fuzz/words" -max_total_time="$seconds" \
        -timeout=10 -rss_limit_mb=1024 -artifact_prefix="$found/$1-" >"$found/$1.log" 2>&1; then
        echo "$1: $(tail -n 1 "$found/$1.log"), none broke it"
    else
        grep -v '^#[0-9]' "$found/$1.log" | tail -n 40
        echo "$1: broken by an input that is named above; its log is $found/$1.log"
        return 1
    fi
}

if [ "${1:-}" = --only ]; then
    search "$2"
    exit
fi
[ $# -gt 0 ] || set -- $(cd "$fuzz/fuzz_targets" && printf '%s\n' *.rs | sed 's/\.rs$//')
bins=
for target; do bins="$bins --bin $target"; done
# shellcheck disable=SC2086
RUSTC_WORKSPACE_WRAPPER=$PWD/$fuzz/instrument cargo build -q --workspace $bins
printf '%s\n' "$@" | xargs -P "$(nproc)" -I TARGET "$fuzz/run.sh" "$seconds" --only TARGET
