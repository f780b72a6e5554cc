#!/usr/bin/env bash
# Check and measure everything on a GPU, in eight minutes on an H100 with 16 cores.
#
#     bash benchmarks/on_gpu.sh                        results go to benchmarks/results/*_cuda*.json
#     PYTHON=.venv/bin/python RESULTS_DIR=/tmp/found bash benchmarks/on_gpu.sh
#     TOY=1 RESULTS_DIR=/tmp/found bash benchmarks/on_gpu.sh   the same steps in miniature, on any device
#
# Needs bash, coreutils (`timeout`), a C compiler (with which torch.compile builds what starts its kernels), and a Python
# with its headers, requirements.txt and pytest, whose torch is built for CUDA. Needs no network, about 10 GB for drawn
# images and caches in WORK, by default a temporary folder that is removed at the end, and 3 GB in /dev/shm, through
# which the 16 loader workers of the plain Trainer pass their batches (containers often have 64 MB: --shm-size).
#
# One GPU works, the first one unless CUDA_VISIBLE_DEVICES names another: of several, the Trainer would use all.
#
# Each step has its own time limit and writes its results before the next one begins. LIMIT_S is for all of them: a step
# that would begin later is left out. The summary comes in any case, and the exit code is 1 if a step did not succeed.

set -u
SECONDS=0
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2
PYTHON=${PYTHON:-python3}
RESULTS_DIR=${RESULTS_DIR:-benchmarks/results}
LIMIT_S=${LIMIT_S:-480}
TOY=${TOY:-}
KILL_AFTER_S=5
if [ -z "${WORK:-}" ]; then
    WORK=$(mktemp -d) || exit 2
    trap 'rm -rf "$WORK"' EXIT
fi
mkdir -p "$RESULTS_DIR" "$WORK" || exit 2
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:-0}

DEVICE=$("$PYTHON" -c 'from memevit.model.classifier import best_device; print(best_device().type)') || {
    echo "error: $PYTHON can't import the project. Install requirements.txt, or name another with PYTHON." >&2
    exit 2
}
if [ "$DEVICE" != cuda ] && [ -z "$TOY" ]; then
    echo "error: torch finds no CUDA device (it would use: $DEVICE). TOY=1 runs the steps in miniature anywhere." >&2
    exit 2
fi

MICRO=backbones/vit-micro-patch12-96
if [ -n "$TOY" ]; then
    small=(--width_px 64 --image_size 32)
    train=(--n_images 8 --batch_size 2 --n_steps 3 --num_proc 1 "${small[@]}")
    big=$MICRO models=("$MICRO") slower=6
    result=(--n_images 40 --epochs 1 --repeats 1 --batch_size 4 "${small[@]}")
    sort=(--n_images 4 --batch_size 2 --repeats 1 "${small[@]}")
    profile=(--n_images 8 --batch_size 2 --n_steps 2 "${small[@]}")
else
    # An epoch has 16 batches, one for each loader worker of the plain Trainer.
    train=(--n_images 2048 --batch_size 128 --n_steps 34 --bf16)
    big=vit-b models=(vit-s "$MICRO") slower=1
    result=(--n_images 1597 --epochs 5 --repeats 1 --batch_size 64 --bf16)
    sort=(--n_images 256 --batch_size 64 --repeats 1)
    profile=(--n_images 2048 --batch_size 128 --n_steps 20 --bf16)
fi

summary=()
failed=0

# step NAME LIMIT_S COMMAND...: run it for at most LIMIT_S seconds, and note how it ended.
step() {
    local name=$1 limit_s=$((slower * $2)) start_s=$SECONDS left_s=$((LIMIT_S - SECONDS)) code ended
    shift 2
    [ "$limit_s" -gt "$left_s" ] && limit_s=$left_s
    if [ "$limit_s" -le 0 ]; then
        code=124 ended="left out"
    else
        echo "== $name (at most $limit_s s): $*"
        timeout --kill-after="$KILL_AFTER_S" "$limit_s" "$@"
        code=$?
        case $code in
            0) ended=ok ;;
            124 | 137) ended="stopped after $limit_s s" ;;
            *) ended="failed with $code" ;;
        esac
    fi
    [ "$code" -eq 0 ] || failed=1
    summary+=("$(printf '%-32s %4d s   %s' "$name" $((SECONDS - start_s)) "$ended")")
    echo "== $name: $ended"
}

# measure NAME LIMIT_S MODULE ARGUMENTS...: a benchmark that writes RESULTS_DIR/NAME_DEVICE.json.
measure() {
    local name=$1 limit_s=$2 module=$3
    shift 3
    step "$name" "$limit_s" "$PYTHON" -m "benchmarks.$module" --work_dir "$WORK" --output "$RESULTS_DIR/${name}_$DEVICE.json" "$@"
}

step tests 120 "$PYTHON" -m pytest -q -m gpu -p no:cacheprovider tests/model/test_gpu.py
measure train_throughput 120 train_throughput --models "$big" --repeats 2 "${train[@]}"
measure train_throughput_compiled 120 train_throughput --models "$big" --repeats 1 --torch_compile "${train[@]}"
measure train_throughput_small 90 train_throughput --models "${models[@]}" --repeats 1 "${train[@]}"
measure time_to_result 180 time_to_result --model "$big" "${result[@]}"
measure sort_throughput 90 sort_throughput --models "$big" "${sort[@]}"
measure profile_training 60 profile_training --model "$big" "${profile[@]}"

echo
printf '%s\n' "${summary[@]}"
"$PYTHON" -m benchmarks.gpu_goals "$RESULTS_DIR" --device "$DEVICE"
[ -z "$TOY" ] && echo "python -m benchmarks.render_readme puts the numbers into the tables."
exit "$failed"
