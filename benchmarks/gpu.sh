#!/usr/bin/env bash
# A trial of the GPU path on a bare machine with one NVIDIA GPU and no network; docs/benchmarks/gpu.md tells how.
#
#   benchmarks/gpu.sh prepare [--python 3.12] [--cublas]   on a developer's machine, in its virtual environment
#   benchmarks/gpu.sh run [--device cpu] [...]             on the machine with the GPU, in the same folder
#
# `prepare` writes all that the engine needs (wheels of the locked versions, tiny.en) to .gpu/1, .gpu/2, ..., each small
# enough for a transfer of 64 MiB together with the repository. `run` unpacks them and measures; its results are in
# $OUT, by default build/gpu. Other options of `run` are those of benchmarks/gpu.py.
set -euo pipefail
cd "$(dirname "$0")/.."

PARTS=.gpu
PART_MIB=54
MODEL=Systran--faster-whisper-tiny.en
MODELS=${TRANSCRIPTION_MODELS_DIR:-$HOME/.cache/transcription_assets/models}
# What `speech`, `media` and the worker command import; their own requirements follow.
NEEDED="ctranslate2 faster-whisper imageio-ffmpeg polars obstore pydantic-settings click joblib jiwer whisper-normalizer icu4py pysubs2 rich"

fail() {
  echo "gpu.sh: $*" >&2
  exit 1
}

# Print name==version of the needed packages and their requirements, as they are installed here.
requirements() {
  "$1" - $NEEDED <<'PYTHON'
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

found, waiting = {}, [canonicalize_name(name) for name in sys.argv[1:]]
while waiting:
    name = waiting.pop()
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        continue
    for text in requires(name) or ():
        item = Requirement(text)
        needed = canonicalize_name(item.name)
        if needed not in found and (item.marker is None or item.marker.evaluate({"extra": ""})):
            waiting.append(needed)
print("\n".join(f"{name}=={found[name]}" for name in sorted(found)))
PYTHON
}

prepare() {
  local python=3.12 cublas="" interpreter=.venv/bin/python platforms=() number
  while (($#)); do
    case $1 in
      --python) python=$2 && shift ;;
      --cublas) cublas=$(grep -o '^nvidia-cublas-cu12==[0-9.]*' requirements/image-gpu.txt) ;;
      *) fail "unknown option $1" ;;
    esac
    shift
  done
  [ -x "$interpreter" ] || fail "there is no $interpreter: run \`make install\` first"
  [ -d "$MODELS/$MODEL" ] || fail "the model tiny.en is missing: run \`transcription-assets models pull tiny.en\` first"
  for number in 5 12 17 24 27 28 31 34; do platforms+=(--platform "manylinux_2_${number}_x86_64"); done
  rm -rf "$PARTS"
  mkdir -p "$PARTS/all/wheels" "$PARTS/all/models"
  requirements "$interpreter" >"$PARTS/all/requirements.txt"
  [ -z "$cublas" ] || echo "$cublas" >>"$PARTS/all/requirements.txt"
  "$interpreter" -m pip download -q --no-deps --only-binary=:all: --implementation cp --python-version "$python" \
    "${platforms[@]}" --platform manylinux2014_x86_64 --platform manylinux2010_x86_64 --platform manylinux1_x86_64 \
    --dest "$PARTS/all/wheels" -r "$PARTS/all/requirements.txt"
  cp -r "$MODELS/$MODEL" "$PARTS/all/models/"
  (cd "$PARTS" && tar -C all -cf - . | split -b "${PART_MIB}M" -d -a 2 - part-)
  number=0
  for part in "$PARTS"/part-*; do
    number=$((number + 1))
    mkdir "$PARTS/$number" && mv "$part" "$PARTS/$number/"
  done
  (cd "$PARTS" && sha256sum ./*/part-* >"$number/SHA256")
  rm -r "$PARTS/all"
  du -sh "$PARTS"/*
  echo "copy the repository with $PARTS/1 ... $PARTS/$number to the machine with the GPU, the last one last"
}

# Set LD_LIBRARY_PATH so that CTranslate2 finds cuBLAS 12, and GPU_TRIAL_CUBLAS to say which one that is.
find_cublas() {
  local place
  [ ! -d /usr/local/nvidia/lib64 ] || export LD_LIBRARY_PATH="/usr/local/nvidia/lib64:${LD_LIBRARY_PATH:-}"
  local places=("$1"/site/nvidia/cublas/lib /usr/local/cuda*/lib64 /usr/local/cuda*/targets/x86_64-linux/lib)
  places+=("$(python3 -c 'import importlib.util as u
found = u.find_spec("nvidia")
print(next(iter(found.submodule_search_locations)) if found else "")')"/{cublas,cu12,cu13}/lib)
  for place in "${places[@]}"; do
    if [ -e "$place/libcublas.so.12" ]; then
      export LD_LIBRARY_PATH="$place:${LD_LIBRARY_PATH:-}" GPU_TRIAL_CUBLAS="12 in $place"
      return
    fi
  done
  for place in "${places[@]}"; do
    if [ -e "$place/libcublas.so.13" ]; then
      # CTranslate2 opens libcublas.so.12 by name; the functions that it takes from it have the same signatures in 13.
      mkdir -p "$1/cublas"
      ln -sf "$place/libcublas.so.13" "$1/cublas/libcublas.so.12"
      export LD_LIBRARY_PATH="$1/cublas:$place:${LD_LIBRARY_PATH:-}" GPU_TRIAL_CUBLAS="13 in place of 12, $place"
      return
    fi
  done
  fail "there is no cuBLAS here: prepare with --cublas, which adds several hundred MB"
}

run() {
  local work=${GPU_TRIAL_WORK:-/tmp/gpu-trial} out=${OUT:-build/gpu} device=cuda
  case " $* " in *" --device cpu "*) device=cpu ;; esac
  mkdir -p "$work" "$out"
  if [ ! -e "$work/installed" ]; then
    (cd "$PARTS" && sha256sum --quiet -c ./*/SHA256) || fail "a part is missing or damaged: copy all of $PARTS again"
    cat "$PARTS"/*/part-* | tar -C "$work" -xf -
    python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$work/site" \
      "$work"/wheels/*.whl
    touch "$work/installed"
  fi
  [ "$device" = cpu ] || find_cublas "$work"
  export PYTHONPATH="$PWD:$work/site" TRANSCRIPTION_MODELS_DIR="$work/models" PYTHONUNBUFFERED=1
  python3 -W ignore -m benchmarks.gpu --out "$out" "$@"
}

case ${1:-} in
  prepare) shift && prepare "$@" ;;
  run) shift && run "$@" ;;
  *) fail "say \`prepare\` or \`run\`; the comment at the top of this file tells more" ;;
esac
