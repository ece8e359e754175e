#!/bin/sh
# generate.sh FAMILY: writes the assembly of a family of kernels and its Go declarations into package simd.
cd "$(dirname "$0")" && exec go run . -family "$1" -out "../simd/$1_amd64.s" -stubs "../simd/$1_stubs_amd64.go" -pkg simd
