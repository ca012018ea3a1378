# Times two commands in turn, so that whatever else the machine does falls on both alike.
#
#   bash measure.bash RUNS REAL WRAPPED [ARGUMENT...]
#
# Prints `run,which,microseconds`, one line a run; the first two runs of each are not counted.
runs=$1 real=$2 wrapped=$3
shift 3
once() {
    local which=$1 run=$2 begin end
    shift 2
    begin=${EPOCHREALTIME/./}
    "$@" </dev/null >/dev/null 2>&1
    end=${EPOCHREALTIME/./}
    if [ "$run" -gt 0 ]; then echo "$run,$which,$((end - begin))"; fi
}
echo run,which,microseconds
for ((run = -1; run <= runs; run++)); do
    once real "$run" "$real" "$@"
    once wrapped "$run" "$wrapped" "$@"
done
