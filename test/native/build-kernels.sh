#!/bin/sh
# Builds the C++ kernel suite as the addon is built: build-kernels.sh OUTPUT [compiler flag...]. CXX names another
# compiler.
set -eu
source=$(dirname "$0")
native=$source/../../native
output=$1
shift
exec "${CXX:-g++}" -std=c++17 -O3 -Wall -Wextra -Werror -ffp-contract=off -fno-math-errno -pthread "$@" \
  "$source/kernels.cc" "$native"/cpu/*.cc "$native"/kernels/*.cc "$native"/threads/*.cc -o "$output"
