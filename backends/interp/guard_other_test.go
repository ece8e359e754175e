//go:build !linux

package interp

import "github.com/thriftc/thriftc/ir/tensor"

func guardedCopy(t *tensor.Tensor) *tensor.Tensor { return t }
