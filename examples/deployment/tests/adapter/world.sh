#!/bin/sh
# The scripts of a test, all in one: a world of files, in which a thousand requests pass at each look.
# $1 is its folder; what follows is what every script is told.
set -eu
world=$1
here=$world/$GEMBA_REGION
mkdir -p "$here/up" "$here/counts"
case $GEMBA_VERB in
start)
    if [ "$GEMBA_VERSION" = unknown ]; then
        echo "no such image: $GEMBA_VERSION" >&2
        exit 1
    fi
    echo "$GEMBA_INSTANCES" >"$here/up/$GEMBA_VERSION"
    ;;
ready)
    comma='{'
    for file in "$here"/up/*; do
        [ -e "$file" ] || continue
        printf '%s"%s": {"ready": %s}' "$comma" "${file##*/}" "$(cat "$file")"
        comma=,
    done
    [ $comma = , ] || printf '{'
    printf '}\n'
    ;;
shares)
    known=$(cat "$here/generation" 2>/dev/null || echo 0)
    if [ "$GEMBA_GENERATION" -lt "$known" ]; then
        echo "$GEMBA_GENERATION comes after $known" >&2
        exit 3
    fi
    shift 4
    echo "$GEMBA_GENERATION" >"$here/generation"
    echo "$*" >"$here/shares"
    echo "$GEMBA_DELIVERY $*" >>"$here/history"
    ;;
counts)
    for share in $(cat "$here/shares" 2>/dev/null || true); do
        version=${share%=*}
        requests=$(((${share#*=} + 9) / 10))
        failures=0
        # Three in ten of a bad one fail.
        [ "$version" != bad ] || failures=$((requests * 3 / 10))
        read -r all failed <"$here/counts/$version" 2>/dev/null || all=0 failed=0
        echo $((all + requests)) $((failed + failures)) >"$here/counts/$version"
    done
    comma=
    printf '{"life": "world", "versions": ['
    for file in "$here"/counts/*; do
        [ -e "$file" ] || continue
        read -r all failed <"$file"
        printf '%s{"version": "%s", "requests": %s, "failures": %s, "latencies": %s, "latencies_us": [900, 1000, 1100]}' \
            "$comma" "${file##*/}" "$all" "$failed" "$((all - failed))"
        comma=,
    done
    printf ']}\n'
    ;;
end)
    rm -f "$here/up/$GEMBA_VERSION"
    ;;
esac
