#!/bin/sh
# release.sh LAUNCH_FILE: takes a launch from its file to its end, as a step of a pipeline.
#
# Exit code: that of the launch. 0 completed, 6 rolled back, 7 a rollback that failed, 3 a person has to decide, 2 a file that cannot
# be used, 1 anything else. The report is written in every case in which the launch began.
#
# From the environment:
#   DECISION   what becomes of a step that was cut off and that nobody knows the end of: redo, undo, or ask (default)
#   REPORT     where the report goes; default launch-report.md
#   UPLOAD     a line for the shell that gets the report's path as $1; default: nothing
#   STRICT     yes: what lint finds ends it; default no
#   PATIENCE   for how many seconds to wait for signatures, votes and the window; default 3600
#   PAUSE      seconds between looks; default 10
set -u
file=${1:?usage: release.sh LAUNCH_FILE}
report=${REPORT:-launch-report.md}

# 1. What is known to go wrong is said before anybody is asked. Exit code 1: mistakes that work, 2: the file cannot be used.
tidegate lint "$file"
code=$?
if [ "$code" -gt 1 ] || { [ "$code" -eq 1 ] && [ "${STRICT:-no}" = yes ]; }; then
    exit "$code"
fi

# 2. On the book: from here on it can be signed and voted for, and people are reminded.
planned=$(tidegate launch plan -f "$file" --book --json) || exit $?
name=$(printf '%s\n' "$planned" | tr -d '\n' | sed 's/.*"launch": *{ *"name": *"\([^"]*\)".*/\1/')
echo "$name is on the book"

# 3. Until nothing speaks against it but what the start checks by itself.
waited=0
while tidegate launch status "$name" --json | grep -Eq '"unmet": *"(unsigned|no-vote|no-go|too-early)"'; do
    if [ "$waited" -ge "${PATIENCE:-3600}" ]; then
        tidegate launch status "$name"
        echo "nobody said yes in time" >&2
        exit 3
    fi
    sleep "${PAUSE:-10}"
    waited=$((waited + ${PAUSE:-10}))
done

# 4. Go.
tidegate launch start -f "$file"
code=$?

# 5. A step that was cut off: somebody decided beforehand, or has to now.
if [ "$code" -eq 3 ]; then
    case ${DECISION:-ask} in
    redo | undo)
        tidegate launch resume "$name" "--$DECISION"
        code=$?
        ;;
    *) echo "decide, and run this again with DECISION=redo or DECISION=undo" >&2 ;;
    esac
fi

# 6. What happened, for whoever was not there.
if tidegate launch report "$name" >"$report"; then
    sh -c "${UPLOAD:-:}" upload "$report" || echo "the report could not be uploaded" >&2
fi
case $code in
0) echo "$name: completed" ;;
6) echo "$name: rolled back" >&2 ;;
7) echo "$name: a rollback failed; somebody has to look now" >&2 ;;
esac
exit "$code"
