#!/bin/sh
# Builds the C++ kernel suite as the addon is built: build-kernels.sh OUTPUT [compiler flag...], OUTPUT a whole
# path. CXX names another compiler. Files compile side by side, those of the kernels first: they take longest.
set -eu
root=$(CDPATH= cd -- "$(dirname "$0")/../.." && pwd)
output=$1
shift
objects=$(mktemp -d)
trap 'rm -r "$objects"' EXIT
cd "$objects"
printf '%s\0' "$root"/native/kernels/*.cc "$root"/native/cpu/*.cc "$root"/native/threads/*.cc \
  "$root/test/native/kernels.cc" "$root/test/native/emulated_avx512.cc" |
  xargs -0 -n 1 -P "$(getconf _NPROCESSORS_ONLN)" "${CXX:-g++}" -std=c++17 -O3 -Wall -Wextra -Werror \
    -ffp-contract=off -fno-math-errno -pthread "$@" -c
"${CXX:-g++}" -pthread "$@" ./*.o -o "$output"
