#!/bin/sh
# Every source file is as clang-format leaves it.
set -eu
cd "$(dirname "$0")/../.."
git ls-files -z '*.cc' '*.h' '*.cu' '*.cuh' | xargs -0 -r clang-format --dry-run --Werror
