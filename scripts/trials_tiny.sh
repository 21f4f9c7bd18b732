#!/usr/bin/env bash
# Short trials of the recipe of the bundled backbone, one part changed in each, every one evaluated on the same tables:
#   scripts/trials_tiny.sh ../shared/data runs/trials
# A trial is 400 steps (about 5 minutes on 2 idle cores); one that has been finished is not done again.
set -euo pipefail
data=$1 out=$2
python=${PYTHON:-.venv/bin/python}
mkdir -p "$out"

trial() {
    local name=$1
    shift
    if [ ! -e "$out/$name/done" ]; then
        "$python" scripts/train_tiny.py --data "$data" --out "$out/$name" --steps 400 "$@" >"$out/$name.log"
        touch "$out/$name/done"
    fi
}

trial as_shipped
trial no_isotropy --isotropy 0
trial no_agreement --agreement 0
trial wide_crops --widest 2
trial synthetic --synthetic 3000
trial plain_colours --stain 0

for name in as_shipped no_isotropy no_agreement wide_crops synthetic plain_colours; do
    echo "## $name"
    "$python" scripts/evaluate_tiny.py --data "$data" --weights "$out/$name/tiny.safetensors" --nets tiny --every 4
done
