#!/bin/bash
# Everything `make test` runs, counted: each suite by name, what was skipped with its reason, and at the end
# one line `N passed, N failed`. Fails if anything failed; a later suite runs even when an earlier one fails.
#
#   suites.sh [fmt] [clippy] [deny] [unit] [chart] [sack] [sssd] [compliance] [clients] [regress] [e2e]
. "$(dirname "$0")/environment.sh"
cd "$REPO"

passed=0
failed=0
broken=()
cases=()
flaky=()
skipped=()

# check NAME WHAT COMMAND...: a suite of one.
check() {
    if attempt "test-$1" "$2" "${@:3}"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        broken+=("$1")
        tail -n 60 "$LAB/log/test-$1.log" >&2
    fi
}

# counted NAME WHAT COMMAND...: a suite whose output carries its own counts, cargo's or unittest's.
counted() {
    local name=$1 code=0 good bad log=$LAB/log/test-$1.log
    # A suite that hangs is a failure, not the end of the run.
    attempt "test-$name" "$2" timeout 2400 "${@:3}" || code=$?
    read -r good bad < <(awk '
        /^test result:/ { for (i = 2; i <= NF; i++) { if ($i == "passed;") good += $(i-1); if ($i == "failed;") bad += $(i-1) } }
        /^Ran [0-9]+ tests? in/ { good += $2 }
        /^FAILED \(/ { for (i = 1; i <= NF; i++) if (match($i, /(failures|errors)=[0-9]+/)) { split(substr($i, RSTART), part, "="); bad += part[2] + 0; good -= part[2] + 0 } }
        END { print (good < 0 ? 0 : good) + 0, bad + 0 }' "$log")
    # A suite that could not even start, or died on the way, has failed once.
    [ "$code" -eq 0 ] || [ "$bad" -gt 0 ] || bad=1
    # A case that could not run here says so itself, and has not passed.
    local line
    while IFS= read -r line; do
        [ -n "$line" ] || continue
        skip "$name" "$(sed -E 's/^skipped:? *//' <<<"$line")"
        good=$((good > 0 ? good - 1 : 0))
    done < <(grep -aE '^skipped[: ]' "$log" | sort -u || true)
    if [ "$bad" -gt 0 ] && again "$log" "$name" "${@:3}"; then
        good=$((good + bad))
        bad=0
    fi
    passed=$((passed + good))
    failed=$((failed + bad))
    if [ "$bad" -gt 0 ]; then
        broken+=("$name")
        tail -n 100 "$log" >&2
        while IFS= read -r line; do cases+=("$name: $line"); done < <(failures "$log")
    fi
    say "  $name: $good passed, $bad failed"
}

# again LOG NAME COMMAND...: up to three cases of cargo's that failed, each once more with nothing beside it. One that
# passes now depended on the load; it is not hidden but named at the end, with what it said. Fails if any fails again.
again() {
    local log=$1 name=$2 names command=() argument
    shift 2
    [ "$1" = cargo ] || return 1
    mapfile -t names < <(grep -aoE '^test \S+ \.\.\. FAILED' "$log" | awk '{ print $2 }' | sort -u)
    # More than that is no chance. And each failure has to be one of these, not a program that died.
    [ ${#names[@]} -ge 1 ] && [ ${#names[@]} -le 3 ] && [ ${#names[@]} -eq "$bad" ] || return 1
    for argument; do
        [ "$argument" != -- ] || break
        command+=("$argument")
    done
    for argument in "${names[@]}"; do
        attempt "test-$name-again" "  once more, alone: $argument" \
            timeout 900 "${command[@]}" -- --test-threads=1 --show-output --exact "$argument" || return 1
        grep -aqE '^test result: ok\. [1-9]|^test .* \.\.\. ok' "$LAB/log/test-$name-again.log" || return 1
    done
    flaky+=("$name: ${names[*]}")
    while IFS= read -r argument; do flaky+=("  $argument"); done < <(failures "$log")
}

# failures LOG: a line for each failed case, and where it panicked with what was said.
failures() {
    grep -aE '^test .* \.\.\. FAILED|^(FAIL|ERROR): ' "$1" | sed -E 's/^test (.*) \.\.\. FAILED/\1/' | sort -u
    grep -aA 6 ' panicked at ' "$1" | grep -avE '^(--|note: |failures:|---- |)$' | cut -c -300 | head -n 40
}

# followed NAME WHAT COMMAND...: a counted suite whose cases take long: each is shown as it ends.
followed() {
    local log=$LAB/log/test-$1.log follower
    : >"$log"
    tail -n +1 -f "$log" > >(sed -un 's/^test \(.* \.\.\. \)/  \1/p' >&2) 2>/dev/null &
    follower=$!
    counted "$@"
    kill "$follower" 2>/dev/null || true
}

skip() {
    skipped+=("$1: $2")
    say "  skipped $1: $2"
}

fmt() { check fmt "formatting" cargo fmt --all --check; }

clippy() {
    check clippy "clippy, warnings are errors" cargo clippy --workspace --all-targets --locked -- -D warnings
    check clippy-nss "clippy of the NSS module, a workspace of its own" \
        cargo clippy --manifest-path crates/nss-directory/Cargo.toml --target-dir target --locked -- -D warnings
    check clippy-fuzz "clippy of the fuzz targets, a workspace of their own" \
        cargo clippy --manifest-path fuzz/Cargo.toml --target-dir target --locked -- -D warnings
}

deny() {
    "$LAB_SCRIPTS/tools.sh" deny
    check deny "cargo deny: bans, licences, sources" cargo-deny --locked check bans licenses sources
    local known=${CARGO_HOME:-$HOME/.cargo}/advisory-dbs
    if attempt deny-fetch "cargo deny: is the advisory database to be had?" timeout 120 cargo-deny fetch db; then
        check deny-advisories "cargo deny: advisories" cargo-deny --locked check advisories
    elif [ -n "$(find "$known" -maxdepth 2 -name .git 2>/dev/null)" ]; then
        check deny-advisories "cargo deny: advisories, of the database that is here" cargo-deny --locked --offline check advisories
    else
        skip deny-advisories "the RustSec database cannot be fetched from this machine, and none is in $known"
    fi
}

unit() {
    counted unit "unit tests" cargo test --workspace --exclude tests --locked --no-fail-fast -- --show-output
    # A build that is never shipped: code inside the closed sandboxes tries what a captured process would.
    counted sandbox "what a captured net and a captured accept can do" \
        cargo test -p login-gateway-net -p login-gateway-accept --locked --no-fail-fast --test sandbox \
        --features login-gateway-net/captured,login-gateway-accept/captured -- --show-output
    counted tidy "which room imports which" cargo test -p tests --lib --test tidy --locked --no-fail-fast -- --show-output
    counted people "what people find when they log in" cargo test -p tests --test people --locked --no-fail-fast -- --show-output
}

compliance() {
    counted compliance "the same cases against Debian's sshd, then ours" \
        cargo test -p tests --release --locked --no-fail-fast --test compliance -- --test-threads=4 --show-output
}

clients() {
    "$LAB_SCRIPTS/tools.sh" clients
    followed clients "other clients" \
        cargo test -p tests --release --locked --no-fail-fast --test clients -- --test-threads=3 --show-output
}

regress() {
    followed regress "OpenSSH's regress suite aimed at us" cargo test -p tests --release --locked --test regress
}

chart() {
    "$LAB_SCRIPTS/tools.sh" chart
    counted chart "chart: helm lint, kubernetes-validate, what must hold" \
        "$LAB/venv/bin/python" -m unittest discover --start-directory charts/login/tests
}

sack() {
    local version
    "$LAB_SCRIPTS/base-images.sh" trixie forky
    for version in 24.11 26.05; do SLURM_VERSION=$version "$LAB_SCRIPTS/images.sh" slurm; done
    check sack-build "sackd-shim, to be run beside the real ones" cargo build -p sackd-shim -p sackd-shim-config --locked
    counted conformance "the same requests to sackd of both versions, then ours" \
        cargo test -p sackd-shim --locked --test conformance
    for version in 24.11 26.05; do
        counted "sack-$version" "sackd-shim with slurmctld, sbatch and sinfo of $version" \
            "$LAB_SCRIPTS/sack.sh" $version "${CARGO_TARGET_DIR:-$REPO/target}/debug"
    done
}

sssd() {
    check sssd-build "directoryd, to be run after the real sssd" cargo build -p directoryd --locked
    counted sssd "one domain of Samba, by sssd and by directoryd" \
        "$LAB_SCRIPTS/sssd.sh" "${CARGO_TARGET_DIR:-$REPO/target}/debug"
}

e2e() {
    local version
    for version in 26.05 24.11; do
        if ! "$LAB_SCRIPTS/lab" up --slurm $version; then
            failed=$((failed + 1))
            broken+=("lab-$version")
            return
        fi
        SLURM_VERSION=$version check "demo-$version" "demo on Slurm $version: a person logs in and runs a job" "$LAB_SCRIPTS/demo.sh"
    done
    export LAB_SSH_PORT=$SSH_PORT LAB_HEALTH_PORT=$HEALTH_PORT LAB_LDAP_PORT=$LDAP_PORT
    counted configurations "each set-up of the chart, checked by the programs it is for" \
        "$LAB/venv/bin/python" "$LAB_SCRIPTS/configurations.py" "$IMAGES/login:dev"
    counted e2e "end-to-end tests on the lab" \
        cargo test -p tests --release --locked --no-fail-fast --test e2e -- --test-threads=1 --show-output
}

if [ $# -eq 0 ]; then
    set -- fmt clippy deny unit chart sack sssd compliance clients regress e2e
fi
for suite in "$@"; do "$suite"; done

if [ ${#skipped[@]} -gt 0 ]; then
    echo "${#skipped[@]} skipped:"
    printf '  %s\n' "${skipped[@]}"
fi
if [ ${#flaky[@]} -gt 0 ]; then
    echo "passed only when run again, alone:"
    printf '  %s\n' "${flaky[@]}"
fi
if [ ${#broken[@]} -gt 0 ]; then
    echo "failed suites:"
    printf '  %s\n' "${broken[@]}"
    [ ${#cases[@]} -eq 0 ] || printf '    %s\n' "${cases[@]}"
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
