#!/usr/bin/env bash
# Short trainings of candidates for the bundled backbone on the same number of views, each measured by the yardsticks of
# scripts/trials_rule.py, which then ranks them:
#   scripts/trials_tiny.sh DATA deit_tiny_patch16_224.safetensors runs/trials
# A trial is 128 steps of 32 views (about four minutes on one CPU core); one that has been finished is not done again.
set -euo pipefail
data=$1 deit=$2 out=$3
python=${PYTHON:-.venv/bin/python}
mkdir -p "$out"

trial() {
    local name=$1
    shift
    if [ ! -e "$out/$name/done" ]; then
        "$python" scripts/train_tiny.py --data "$data" --deit "$deit" --out "$out/$name" --eager --steps 128 "$@" >"$out/$name.log"
        touch "$out/$name/done"
    fi
    [ -e "$out/$name.json" ] || "$python" scripts/trials_yardsticks.py --data "$data" --weights "$out/$name/tiny.safetensors" --out "$out/$name.json"
}

[ -e "$out/tiny-2026a.json" ] || "$python" scripts/trials_yardsticks.py --data "$data" --out "$out/tiny-2026a.json"
[ -e "$out/deit-block7.json" ] || "$python" scripts/trials_yardsticks.py --data "$data" --deit "$deit" --blocks 7 9 --out "$out/deit.json"
trial taught --teachers deit+bundled
trial gently-taught --teachers deit+bundled --pixels 0 --colour 0 --learning-rate 2e-4
trial bundled-taught --start bundled --teachers deit --learning-rate 3e-4 --position 0.1
trial self-taught --teachers self --pixels 0 --colour 0 --learning-rate 2e-4
trial bundled-more-cells --start bundled --masked 0.7 --learning-rate 3e-4 --position 0
trial pixels-only
"$python" scripts/trials_rule.py "$out"/*.json
# After the long training of the first by the rule, on one CPU core (log in scripts/train_tiny_2026b.log):
#   scripts/train_tiny.py --data DATA --deit DEIT --out runs/long --eager --steps 1200 --minutes 145 --teachers self --pixels 0 --colour 0 --learning-rate 2e-4
#   scripts/trials_yardsticks.py --data DATA --weights runs/long/tiny.safetensors --out runs/trials/self-taught-long.json
