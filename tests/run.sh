#!/usr/bin/env bash
# Every check and test, the cheapest first; stops after the first group that fails.
# Usage: tests/run.sh [GROUP...]   (without: all, static checks included)
set -euo pipefail
cd "$(dirname "$0")/.."

# One line a group: its name, then its test targets (`lib` is the unit tests). A `soak` group takes
# too long for every run; it runs when it is named, as by `make soak`.
groups() {
    cat <<'END'
group unit        lib
group rendering   layout docs crds conditions examples machine_config manifests_golden render_cli
group cloud-init  cloud_init_schema ignition
group search      membership_search
group kubeadm     pki_oracle kubeadm_files_oracle kubeadm_objects_oracle kubeadm_worker_oracle
group api-server  crd_admission lease chart target_apply
group operator    operator_seed operator_seed_faults status_cli
group join        join_security
group testbed     testbed_selftest testbed_interrupt testbed_machines
group machines    machine_config_boots
group e2e         e2e
group image       image_build
soak  etcd        etcd_model etcd_live
END
}

cache=${SEEDBED_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/seedbed}
logs=${CARGO_TARGET_DIR:-target}/test-logs
summary=$logs/summary
started=$SECONDS
passed=0
failed=0
stopped_at=""

say() {
    printf '\n== [%dm%02ds] %s\n' $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60)) "$*"
}

finish() {
    [ -z "$stopped_at" ] || say "stopped at: $stopped_at (the groups after it did not run)"
    echo "$passed passed, $failed failed" | tee "$summary"
    [ -z "$stopped_at" ]
}

# A static check has no count of its own; one that fails counts as one failure.
check() { # name, command...
    local name=$1
    shift
    say "$name"
    if ! "$@"; then
        failed=$((failed + 1))
        stopped_at=$name
        finish
        exit 1
    fi
}

clippy() {
    # The released code strictly; test code may unwrap, print, read clocks and be long.
    cargo clippy --locked --quiet --lib --bins -- -D warnings &&
        cargo clippy --locked --quiet --all-targets -- -D warnings \
            -A clippy::unwrap_used -A clippy::print_stdout -A clippy::print_stderr \
            -A clippy::disallowed_methods -A clippy::too_many_lines -A clippy::exit \
            -A clippy::large_futures
}

deny() {
    local version=0.20.2
    local root=$cache/tools/cargo-deny-$version
    if ! [ -x "$root/bin/cargo-deny" ]; then
        echo "building cargo-deny $version (once, some minutes) ..."
        cargo install cargo-deny --locked --version "$version" --root "$root" --quiet
    fi
    "$root/bin/cargo-deny" --locked check --hide-inclusion-graph bans licenses sources || return 1
    if timeout 120 "$root/bin/cargo-deny" --locked fetch db >"$logs/advisories.log" 2>&1; then
        "$root/bin/cargo-deny" --locked check --disable-fetch advisories
    else
        echo "NOT CHECKED: known vulnerabilities. The advisory database cannot be fetched:"
        tail -n 3 "$logs/advisories.log"
    fi
}

run_group() { # name, target...
    local name=$1 log=$logs/$1.log
    shift
    local arguments=()
    for target in "$@"; do
        if [ "$target" = lib ]; then arguments+=(--lib); else arguments+=(--test "$target"); fi
    done
    say "$name: $*"
    local status=0 how=(env)
    if [ "$name" = search ]; then
        # Millions of states: minutes instead of an hour. It need not be small.
        arguments+=(--release)
        how+=(CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
            CARGO_PROFILE_RELEASE_OPT_LEVEL=3)
    fi
    "${how[@]}" cargo test --locked --no-fail-fast "${arguments[@]}" 2>&1 | tee "$log" || status=$?
    local counts
    counts=$(awk '/^test result: / { for (i = 1; i < NF; i++) {
            if ($(i + 1) == "passed;") p += $i
            if ($(i + 1) == "failed;") f += $i } }
        END { print p + 0, f + 0 }' "$log")
    passed=$((passed + ${counts% *}))
    failed=$((failed + ${counts#* }))
    if [ "$status" != 0 ]; then
        # What did not compile, or died, reports no failure by itself.
        [ "${counts#* }" != 0 ] || failed=$((failed + 1))
        stopped_at=$name
        finish
        exit 1
    fi
}

mkdir -p "$logs"
rm -f "$summary"
if [ $# = 0 ]; then
    check prerequisites tests/testbed/prerequisites.sh
    check format cargo fmt --check
    check clippy clippy
    check dependencies deny
fi
wanted=" $* "
while read -r kind name targets; do
    [ $# != 0 ] || [ "$kind" = group ] || continue
    [ $# = 0 ] || [[ $wanted == *" $name "* ]] || continue
    wanted=${wanted/" $name "/" "}
    # The targets are split on purpose; cargo must not eat the list of groups.
    # shellcheck disable=SC2086
    run_group "$name" $targets </dev/null
done < <(groups)
if [ -n "${wanted// /}" ]; then
    echo "no such group:$wanted" >&2
    failed=$((failed + 1))
    stopped_at="the command line"
fi
finish
