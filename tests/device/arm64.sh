#!/usr/bin/env bash
# As on a device: engines/ on 64-bit ARM without torch and onnx. Not one of the default tests: it takes minutes.
#
#   sudo tests/device/arm64.sh [FOLDER]        default: build/arm64
#
# Makes an arm64 Debian userland in FOLDER, installs ONNX Runtime's aarch64 wheel and numpy there, cross-builds the
# operator library, and downscales and upscales a small panorama under qemu-user, once with the graphs for CPU cores
# (plugin operators) and once with standard ones; then compares with what this machine computes.
# Debian packages: debootstrap qemu-user g++-aarch64-linux-gnu cmake.
set -euo pipefail
cd "$(dirname "$0")/../.."

FOLDER=$(realpath -m "${1:-build/arm64}")
ROOT="$FOLDER/root"
SUITE=bookworm # its Python is 3.11
MIRROR=${MIRROR:-http://deb.debian.org/debian}
PYTHON=${PYTHON:-.venv/bin/python}
SCALE=${SCALE:-x2}
say() { printf '\n== %s\n' "$*"; }
for tool in debootstrap qemu-aarch64 aarch64-linux-gnu-g++ cmake; do
    command -v "$tool" >/dev/null || { echo "$tool: expected on this machine (see the head of $0), found none" >&2; exit 2; }
done
mkdir -p "$FOLDER"

if [ ! -e "$ROOT/usr/bin/python3.11" ]; then
    say "arm64 userland: debootstrap, first stage, and Python's packages unpacked"
    rm -rf "$ROOT"
    debootstrap --foreign --arch=arm64 --variant=minbase --include=python3-minimal,python3,libpython3-stdlib \
        "$SUITE" "$ROOT" "$MIRROR"
    for package in "$ROOT"/var/cache/apt/archives/*.deb; do dpkg-deb -x "$package" "$ROOT"; done
fi

DEVICE="$ROOT/opt/dinn360"
rm -rf "$DEVICE"
mkdir -p "$DEVICE/site"
say "wheels for aarch64: ONNX Runtime, numpy, Pillow, click, tqdm"
RUNTIME=${RUNTIME:-1.25.0} # under qemu-user 7.2, importing 1.32.0 ends in a segmentation fault
"$PYTHON" -m pip install --quiet --target "$DEVICE/site" --only-binary=:all: --python-version 3.11 --implementation cp \
    --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64 \
    --platform manylinux2014_aarch64 "onnxruntime==$RUNTIME" numpy pillow click tqdm
cp -r engines plugins "$DEVICE/"

say "operator library, cross-built"
cmake -S plugins -B "$FOLDER/cmake" -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
    -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ -DDINN360_CPU=ON -DDINN360_ORT=ON >/dev/null
cmake --build "$FOLDER/cmake" --target dinn360_ort --parallel 2 | tail -1
LIBRARY=$(find "$FOLDER/cmake" -name libdinn360_ort.so)
file -b "$LIBRARY" | cut -d, -f1-2

say "a panorama of 256x128 through both"
"$PYTHON" - "$FOLDER" <<'PY'
import sys
from dinn360.evaluation.interpolation import resize
from engines.support.images import read_panorama, write_png
write_png(f"{sys.argv[1]}/panorama.png", resize(read_panorama("assets/courtyard.png"), (128, 256), "bicubic"))
PY
cp "$FOLDER/panorama.png" "$DEVICE/"
on_device() { # python3 -m engines …, in the userland
    (cd "$DEVICE" && qemu-aarch64 -cpu max -L "$ROOT" -E PYTHONPATH="$DEVICE:$DEVICE/site" -E PYTHONDONTWRITEBYTECODE=1 \
        "$ROOT/usr/bin/python3.11" "$@")
}
on_device -c 'import importlib.util as u, platform
print(platform.machine(), "Python", platform.python_version())
assert not u.find_spec("torch") and not u.find_spec("onnx"), "torch and onnx must not be on the device"'
for ops in cpu standard; do
    "$PYTHON" -m export onnx --ckpt "checkpoints/$SCALE.pth" --ops "$ops" --out "$DEVICE/$ops" >/dev/null 2>&1
    [ "$ops" = standard ] || cp "$LIBRARY" "$DEVICE/$ops/"
    on_device -m engines downscale panorama.png "lr_$ops.png" --model "$ops/down.onnx" --threads 1
    on_device -m engines upscale "lr_$ops.png" "hr_$ops.png" --model "$ops/up.onnx" --threads 1
done

say "against this machine"
"$PYTHON" - "$DEVICE" "$SCALE" <<'PY'
import sys
from pathlib import Path
import numpy as np
from dinn360.checkpoint import load_checkpoint
from dinn360.evaluation.metrics import luma, ws_psnr
from dinn360.evaluation.validate import round_trip
from engines.support.images import read_panorama

device = Path(sys.argv[1])
image = read_panorama(device / "panorama.png")
network = load_checkpoint(f"checkpoints/{sys.argv[2]}.pth").build()
network.freeze_inverses()
lr, hr = round_trip(network, image)
print(f"PyTorch here: {ws_psnr(luma(hr), luma(image)):.3f} dB")
worst = 0
for ops in ("cpu", "standard"):
    found = {name: read_panorama(device / f"{name}_{ops}.png") for name in ("lr", "hr")}
    apart = {name: np.abs(found[name].astype(int) - expected) for name, expected in (("lr", lr), ("hr", hr))}
    print(
        f"arm64, {ops} operators: {ws_psnr(luma(found['hr']), luma(image)):.3f} dB; "
        + ", ".join(f"{name}: {(a > 0).mean():.4%} of values differ, by at most {a.max()}" for name, a in apart.items())
    )
    worst = max(worst, apart["lr"].max(), apart["hr"].max())
sys.exit(0 if worst <= 1 else "expected at most one level of difference")
PY
